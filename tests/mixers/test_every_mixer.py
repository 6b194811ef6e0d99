"""What holds for every mixer of the folder with its default config."""

import importlib.util
import json
import pkgutil

import numpy as np
import pytest
from mixer_fakes import FakeLab, make_problem, play

import mixers
from mixers.base import Mixer


def found():
    for module in pkgutil.iter_modules(mixers.__path__, "mixers."):
        if not module.ispkg:
            for item in vars(importlib.import_module(module.name)).values():
                named = isinstance(item, type) and issubclass(item, Mixer) and "name" in vars(item)
                if named and item.__module__ == module.name:
                    yield item


MIXERS = [cls for cls in found() if cls is not Mixer]
TRAIN, TARGET = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.1, 0.2, 0.3, 0.4])
EXAMPLES = np.array([4000, 3000, 2000, 40])
VECTORS = np.random.default_rng(3).normal(size=(4, 8)) + 1.0
# What buys whole runs is played in scripted worlds that sell them: tests/harness/test_conformance.py.
TREES = importlib.util.find_spec("lightgbm") is not None  # without it tikmix_m refuses to start
PLAYED = [cls for cls in MIXERS if not cls().purchases(make_problem()).runs and (TREES or cls.name != "tikmix_m")]
every_mixer = pytest.mark.parametrize("cls", PLAYED, ids=lambda cls: cls.name)


def problem(order=(0, 1, 2, 3), **changes):
    order = list(order)
    return make_problem(
        train=TRAIN[order], target=TARGET[order], examples=EXAMPLES[order], domains=[f"d{i}" for i in order], **changes
    )


def test_the_first_line_up_is_found():
    assert {"uniform", "natural", "target", "unimax", "rnb"} <= {cls.name for cls in MIXERS}


@pytest.mark.parametrize("cls", MIXERS, ids=lambda cls: cls.name)
def test_the_name_is_that_of_the_file(cls):
    assert cls.name == cls.__module__.removeprefix("mixers.")
    assert cls.__doc__


@every_mixer
def test_every_mixture_is_on_the_simplex(cls):
    weights = play(cls(), problem(), VECTORS)
    assert np.all(weights >= 0.0)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)


@every_mixer
def test_the_same_problem_gives_the_same_mixtures(cls):
    np.testing.assert_array_equal(play(cls(), problem(), VECTORS), play(cls(), problem(), VECTORS))


@every_mixer
def test_a_mixer_can_be_started_again(cls):
    mixer = cls()
    np.testing.assert_array_equal(play(mixer, problem(), VECTORS), play(mixer, problem(), VECTORS))


@every_mixer
def test_the_order_of_the_domains_does_not_matter(cls):
    order = [2, 0, 3, 1]
    weights = play(cls(), problem(), VECTORS)
    np.testing.assert_allclose(play(cls(), problem(order), VECTORS[order]), weights[:, order], rtol=1e-9)


@every_mixer
def test_the_names_of_the_domains_do_not_matter(cls):
    renamed = make_problem(train=TRAIN, target=TARGET, examples=EXAMPLES, domains=["zebra", "B", "x-1", ""])
    np.testing.assert_array_equal(play(cls(), renamed, VECTORS), play(cls(), problem(), VECTORS))


@every_mixer
def test_a_single_domain_gets_everything(cls):
    single = make_problem(train=(1.0,), target=(1.0,), examples=(50,))
    np.testing.assert_allclose(play(cls(), single, VECTORS[:1]), 1.0)


@every_mixer
def test_mixtures_cannot_be_written_to(cls):
    mixture = cls().start(problem(), FakeLab(4))
    with pytest.raises(ValueError, match="read-only"):
        mixture.weights[0] = 1.0


@every_mixer
def test_state_and_report_are_json(cls):
    mixer = cls()
    play(mixer, problem(), VECTORS)
    json.dumps([mixer.state_dict(), mixer.report()], allow_nan=False)
    fresh = cls()
    fresh.start(problem(), FakeLab(4))
    fresh.load_state_dict(mixer.state_dict())
    assert fresh.state_dict() == mixer.state_dict()
