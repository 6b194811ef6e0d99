"""Proxy runs that diverge: buyers of losses go on without them, buyers of models do not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness import making
from harness.prepare import prepare
from harness.trainer import DivergedError, Trainer
from mixers.base import Run


@pytest.fixture
def second_diverges(monkeypatch):
    """The second run's training loss is not finite."""
    real, trainers = Trainer.mean_loss, []

    def mean_loss(self, steps):
        if self not in trainers:
            trainers.append(self)
        if len(trainers) > 1 and self is trainers[1]:
            self._loss_total = self._loss_total * math.nan
        return real(self, steps)

    monkeypatch.setattr(Trainer, "mean_loss", mean_loss)


def test_a_search_goes_on_without_it_and_pays_for_it(run_toy, second_diverges):
    row = run_toy(mixers="mixing_laws[proxies=9]", steps=40)
    assert (row["status"], row["reason"]) == ("ok", "")
    assert row["mixer_report"]["runs"] == 8
    assert row["mixer_report"]["runs_without_losses"] == 1


def test_it_costs_what_it_would_have_and_is_not_made_again(toy_specs, registry, tmp_path, second_diverges):
    (spec,) = toy_specs()
    prepared = prepare(spec, registry, tmp_path / "cache")
    m = prepared.problem.m
    even, first = (prepared.problem.mixture(weights) for weights in (np.full(m, 1 / m), np.eye(m)[0]))
    good, bad = making.obtain_all(prepared, [Run(steps=4, mixture=mix, evaluate_at=(2,)) for mix in (even, first)])
    assert np.isfinite(good.result.losses).all()
    assert bad.result.steps == (2, 4)
    assert np.isnan(bad.result.losses).all()
    assert bad.result.losses.shape == good.result.losses.shape
    assert bad.result.flops == good.result.flops
    again = making.obtain(prepared, Run(steps=4, mixture=first, evaluate_at=(2,)))
    assert again.cached
    assert np.isnan(again.result.losses).all()


@pytest.mark.parametrize("model", [{"keep": True}, {"keep_at": (2,)}])
def test_a_run_that_is_bought_for_its_model_must_not_diverge(toy_specs, registry, tmp_path, second_diverges, model):
    (spec,) = toy_specs()
    prepared = prepare(spec, registry, tmp_path / "cache")
    m = prepared.problem.m
    even = prepared.problem.mixture(np.full(m, 1 / m))
    making.obtain(prepared, Run(steps=3, mixture=even))
    with pytest.raises(DivergedError, match="training diverged"):
        making.obtain(prepared, Run(steps=4, mixture=even, **model))


def test_a_validation_loss_that_is_not_finite_is_missing(toy_specs, registry, tmp_path, monkeypatch):
    (spec,) = toy_specs()
    prepared = prepare(spec, registry, tmp_path / "cache")
    m, n = prepared.problem.m, len(prepared.problem.targets)
    losses = np.arange(1.0, n + 1.0)
    losses[0] = math.inf
    monkeypatch.setattr("harness.mixing.validation_losses", lambda *_: losses)
    made = making.obtain(prepared, Run(steps=2, mixture=prepared.problem.mixture(np.full(m, 1 / m))))
    assert math.isnan(made.result.final[0])
    np.testing.assert_array_equal(made.result.final[1:], losses[1:])
