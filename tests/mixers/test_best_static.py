"""The reference: which mixtures are tried, that trials share them, which is chosen."""

from __future__ import annotations

import json

import numpy as np
import pytest
from mixer_fakes import make_problem
from offline_worlds import TARGET, TRAIN, LawLab, best, world

from mixers.base import Mixer, MixerError
from mixers.best_static import BestStatic

ORDER = [2, 0, 3, 1]


def start(problem, lab=None, **fields):
    mixer = BestStatic(BestStatic.Config(**fields))
    return mixer.start(problem, LawLab(problem) if lab is None else lab).weights, mixer


def test_it_is_a_reference_and_methods_are_not():
    assert BestStatic.reference
    assert not Mixer.reference


def test_the_plain_mixtures_come_first_and_draws_fill_up():
    problem = world()
    lab = LawLab(problem)
    _, mixer = start(problem, lab, mixtures=6)
    tried = [run.mixture.weights for run in lab.orders]
    assert len(tried) == 6
    for mixture, plain in zip(tried, (TRAIN, np.full(4, 0.25), TARGET), strict=False):
        np.testing.assert_allclose(mixture, plain)
    assert list(mixer.purchases(problem).runs[0].mixture.weights) == list(tried[0])
    assert {(run.steps, run.size, run.shared) for run in lab.orders} == {(100, 1.0, True)}


def test_what_stands_twice_is_tried_once_and_what_does_not_exist_never():
    even = make_problem(train=(0.5, 0.5), target=(0.5, 0.5))
    assert len({tuple(run.mixture.weights) for run in BestStatic().purchases(even).runs}) == 16
    apart = make_problem(train=(0.7, 0.3), target=(0.4, 0.6), targets=("x", "y"))
    first, second, third = BestStatic(BestStatic.Config(mixtures=3)).purchases(apart).runs
    np.testing.assert_allclose(first.mixture.weights, (0.7, 0.3))
    np.testing.assert_allclose(second.mixture.weights, (0.5, 0.5))
    assert abs(third.mixture.weights[0] - 0.4) > 1e-6
    (only,) = BestStatic(BestStatic.Config(mixtures=1)).purchases(apart).runs
    np.testing.assert_allclose(only.mixture.weights, (0.7, 0.3))


def test_trials_of_all_seeds_order_the_same_runs():
    one, other = (BestStatic(BestStatic.Config(seeds=2)).purchases(world(seed=seed)).runs for seed in (0, 1))
    assert len(one) == len(other) == 32
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.mixture.weights, b.mixture.weights)
        assert a.seed == b.seed
    assert [run.seed for run in one[:4]] == [0, 1, 0, 1]


def test_the_best_run_decides_by_the_weighted_loss():
    problem = world()
    lab = LawLab(problem)
    weights, mixer = start(problem, lab)
    truths = [lab.truth(run.mixture.weights) for run in lab.orders]
    np.testing.assert_array_equal(weights, lab.orders[int(np.argmin(truths))].mixture.weights)
    report = mixer.report()
    ordered = sorted(truths)
    assert [loss for _, loss in report["losses"]] == pytest.approx(ordered)
    assert report["ahead"] == pytest.approx(ordered[1] - ordered[0])
    assert report["spread"] is None
    assert min(truths) > best(lab)[1], "a draw is not the optimum"
    json.dumps(report, allow_nan=False)


def test_more_mixtures_leave_less_to_gain():
    lab = LawLab(world())
    few, some, many = (lab.truth(start(lab.problem, lab, mixtures=k)[0]) for k in (1, 16, 200))
    assert few > some > many


def test_seeds_are_averaged():
    class Noisy(LawLab):
        def train(self, runs):
            made = super().train(runs)
            for run, result in zip(runs, made, strict=True):
                result.losses.setflags(write=True)
                # Seed 0 flatters the uniform mixture by more than seed 1 takes back.
                if np.ptp(run.mixture.weights) < 1e-9:
                    result.losses[:] += -10.0 if run.seed == 0 else 11.0
            return made

    problem = world()
    uniform = np.full(4, 0.25)
    np.testing.assert_allclose(start(problem, Noisy(problem))[0], uniform)
    weights, mixer = start(problem, Noisy(problem), seeds=2)
    assert np.abs(weights - uniform).max() > 0.05
    assert mixer.report()["runs"] == 32
    assert mixer.report()["spread"] == pytest.approx(21 / np.sqrt(2) / 16)


def test_diverged_runs_and_missing_targets_are_left_out():
    problem = world()
    whole, _ = start(problem, LawLab(problem))
    at = next(
        i for i, run in enumerate(BestStatic().purchases(problem).runs) if np.array_equal(run.mixture.weights, whole)
    )
    weights, mixer = start(problem, LawLab(problem, diverged=(at,)))
    assert not np.array_equal(weights, whole)
    assert len(mixer.report()["diverged"]) == 1
    without, _ = start(problem, LawLab(problem, missing="d"))
    assert without[3] < whole[3]
    with pytest.raises(MixerError, match="no proxy run has a finite validation loss"):
        start(problem, LawLab(problem, missing="abcd"))
    with pytest.raises(MixerError, match="best_static: no mixture has finite losses in all its runs"):
        start(problem, LawLab(problem, diverged=range(0, 32, 2)), seeds=2)


def test_order_names_and_scale_do_not_matter():
    weights, _ = start(world())
    np.testing.assert_allclose(start(world(ORDER))[0], weights[ORDER])
    renamed = world(names="zxba")
    np.testing.assert_allclose(start(renamed, LawLab(renamed, names="zxba"))[0], weights)
    np.testing.assert_array_equal(start(world(), LawLab(world(), scale=7.0))[0], weights)


def test_the_draws_may_be_around_another_prior():
    problem, most = world(), {"strengths": (1e6,), "temperature": 1.0, "mixtures": 5}
    for prior, centre in (("train", TRAIN), ("uniform", np.full(4, 0.25)), ("target", TARGET)):
        runs = BestStatic(BestStatic.Config(prior=prior, **most)).purchases(problem).runs
        np.testing.assert_allclose([run.mixture.weights for run in runs[3:]], np.tile(centre, (2, 1)), atol=3e-3)
    apart = make_problem(train=(0.7, 0.3), target=(0.4, 0.6), targets=("x", "y"))
    with pytest.raises(MixerError, match=r"^best_static: prior=target needs two training domains"):
        BestStatic(BestStatic.Config(prior="target")).purchases(apart)


def test_a_single_domain_buys_nothing():
    single = make_problem(train=(1.0,), target=(1.0,), examples=(50,))
    weights, mixer = start(single, object())
    np.testing.assert_array_equal(weights, [1.0])
    assert mixer.purchases(single).runs == ()


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"mixtures": 0}, "mixtures must be at least 1, not 0"),
        ({"seeds": 0}, "seeds must be at least 1, not 0"),
        ({"max_epochs": -1.0}, "max_epochs must be positive and finite, or none, not -1.0"),
        ({"floor": 0.7}, r"floor must be in \[0, 0.5\), not 0.7"),
    ],
)
def test_bad_settings_are_one_line(fields, rule):
    with pytest.raises(MixerError, match=f"^best_static: {rule}$"):
        BestStatic.Config(**fields)
