"""Models that a run keeps on its way."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from harness import making
from harness.kept import kept_model, weights_of
from harness.prepare import prepare
from harness.prepared import Prepared
from harness.proxies import children, prices
from harness.store import load_weights
from mixers.aioli import Aioli
from mixers.base import Checkpoint, MixerError, Run


@pytest.fixture
def prepared(toy_specs, registry, tmp_path: Path) -> Prepared:
    (spec,) = toy_specs()
    return prepare(spec, registry, tmp_path / "cache")


def order(prepared: Prepared, **changes) -> Run:
    m = prepared.problem.m
    return Run(**{"steps": 8, "mixture": prepared.problem.mixture(np.full(m, 1 / m)), **changes})


def weights(prepared: Prepared, kept: Checkpoint | None) -> dict[str, torch.Tensor]:
    assert kept is not None
    return load_weights(weights_of(prepared.cache, kept))


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_models_are_those_of_their_steps(prepared):
    result = making.obtain(prepared, order(prepared, keep=True, keep_at=(5, 0, 8), evaluate_at=(0, 5))).result
    assert list(result.checkpoints) == [0, 5, 8]
    assert same(weights(prepared, result.checkpoints[8]), weights(prepared, result.checkpoint))
    child = children.child_of(prepared, order(prepared))
    assert same(weights(prepared, result.checkpoints[0]), dict(child.build_model().state_dict()))
    assert not same(weights(prepared, result.checkpoints[5]), weights(prepared, result.checkpoints[8]))
    further = order(prepared, start=result.checkpoints[5], evaluate_at=(0,))
    np.testing.assert_allclose(making.obtain(prepared, further).result.losses[0], result.losses[1])
    restored = dict(kept_model(prepared.main_task, prepared.cache, result.checkpoints[5]).state_dict())
    assert same(restored, weights(prepared, result.checkpoints[5]))


def test_keeping_changes_neither_the_run_nor_its_bill_and_a_cache_answers(prepared):
    plain = making.obtain(prepared, order(prepared)).result
    kept = making.obtain(prepared, order(prepared, keep_at=(3,)))
    again = making.obtain(prepared, order(prepared, keep_at=(3,)))
    np.testing.assert_array_equal(plain.losses, kept.result.losses)
    assert plain.flops == kept.result.flops
    assert prices.price(prepared, order(prepared)) == prices.price(prepared, order(prepared, keep_at=(3,)))
    assert (kept.cached, again.cached) == (False, True)
    assert again.result.checkpoints == kept.result.checkpoints
    assert plain.checkpoints == {}


def test_orders_that_keep_nothing_on_the_way_have_the_identity_that_they_always_had(prepared, monkeypatch):
    child = children.child_of(prepared, order(prepared))
    seen = []
    real = json.dumps
    monkeypatch.setattr(children.json, "dumps", lambda what, **how: seen.append(what) or real(what, **how))
    keys = [children.key_of(child, order(prepared, keep_at=at)) for at in ((), (3,), (3, 5), (5, 3, 3))]
    assert len(seen[0]) == 14, "what the keys of published runs were made from"
    assert [item[14:] for item in seen] == [[], [[3]], [[3, 5]], [[3, 5]]]
    assert len(set(keys)) == 3


def test_a_killed_run_keeps_the_same_models(prepared, monkeypatch):
    run = order(prepared, keep_at=(2, 6))
    whole = making.obtain(prepared, run).result
    before = {step: weights(prepared, kept) for step, kept in whole.checkpoints.items()}
    (folder,) = (prepared.cache / "runs").iterdir()
    for path in folder.iterdir():
        path.unlink()
    real = making.save_checkpoint
    monkeypatch.setattr("harness.mixing.save_checkpoint", lambda path, state: _die_at_six(real, path, state))
    with pytest.raises(KeyboardInterrupt):
        making.obtain(prepared, run)
    monkeypatch.setattr("harness.mixing.save_checkpoint", real)
    resumed = making.obtain(prepared, run)
    assert not resumed.cached
    for step, kept in resumed.result.checkpoints.items():
        assert same(before[step], weights(prepared, kept))


def _die_at_six(save, path, state):
    if path.name == "model-6.pt":
        raise KeyboardInterrupt
    save(path, state)


def test_what_is_ordered_for_a_step_of_a_probe_is_made_there(prepared):
    """A probe's steps are steps of the run: at any of them losses may have been asked for, and the model."""
    at = tuple(range(41))
    run = Run(steps=40, mixer=Aioli(Aioli.Config(rounds=4, sweeps=1)), evaluate_at=at, keep_at=at)
    made = making.obtain(prepared, run).result
    assert made.steps == at
    assert np.isfinite(made.losses).all()
    assert np.unique(made.losses[:, 0]).size == len(at), "every step's own"
    assert list(made.checkpoints) == list(at)
    further = order(prepared, start=made.checkpoints[2], evaluate_at=(0,))
    np.testing.assert_allclose(making.obtain(prepared, further).result.losses[0], made.losses[2])


@pytest.mark.parametrize("at", [(-1,), (2, 9)])
def test_steps_outside_the_run_are_refused(prepared, at):
    with pytest.raises(MixerError, match="a run of 8 steps has no model to keep at"):
        making.obtain(prepared, order(prepared, keep_at=at))


def test_a_model_that_is_gone_is_a_clear_error(prepared):
    result = making.obtain(prepared, order(prepared, keep_at=(3,))).result
    weights_of(prepared.cache, result.checkpoints[3]).unlink()
    with pytest.raises(MixerError, match="no longer in the cache"):
        kept_model(prepared.main_task, prepared.cache, result.checkpoints[3])


def test_a_run_whose_models_are_gone_is_made_again(prepared):
    mixture = prepared.problem.mixture(np.full(prepared.problem.m, 1 / prepared.problem.m))
    run = Run(steps=4, mixture=mixture, keep=True, keep_at=(2,))
    first = making.obtain(prepared, run)
    paths = [
        weights_of(prepared.cache, first.result.checkpoint),
        weights_of(prepared.cache, first.result.checkpoints[2]),
    ]
    for path in paths:
        before = path.read_bytes()
        path.unlink()
        assert list(children.missing(prepared, [run]).values()) == [run]
        again = making.obtain(prepared, run)
        assert not again.cached
        np.testing.assert_array_equal(again.result.losses, first.result.losses)
        assert path.read_bytes() == before
        assert making.obtain(prepared, run).cached
