"""What offline mixers share, against official code on recorded tables; made by ``oracles/make_offline.py``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from mixer_fakes import make_problem

from mixers import convex, surrogates
from mixers.simplex import normalise
from mixers.surrogates import LogLinear
from mixers.swarm import Swarm

ORACLE = json.loads((Path(__file__).parent / "oracles" / "offline.json").read_text())
named = pytest.mark.parametrize


def huber(residuals, delta):
    small = np.abs(residuals) <= delta
    return float(np.where(small, 0.5 * residuals**2, delta * (np.abs(residuals) - 0.5 * delta)).sum())


@named("case", ORACLE["laws"], ids=lambda case: case["name"])
def test_our_fit_of_a_law_is_no_worse_than_the_official_one_and_predicts_the_same(case):
    x, y = np.array(case["mixtures"]), np.array(case["losses"])
    ours = surrogates.fit_log_linear(x, y[:, None], huber=case["delta"])
    misfit = huber(ours.predict(x)[:, 0] - y, case["delta"])
    assert misfit <= 1.001 * case["misfit"] + 1e-8, "three hundred starts there, four here"
    log_c, *t = case["expected"]
    rng = np.random.default_rng(0)
    inside = rng.dirichlet(np.full(x.shape[1], 3.0), 200)
    theirs = np.exp(log_c) + np.exp(inside @ np.array(t))
    # In units of the losses' spread: two fits of equal misfit may differ where there are no runs.
    assert np.abs(ours.predict(inside)[:, 0] - theirs).max() < 0.01 * np.ptp(y)


@named("case", ORACLE["solves"], ids=lambda case: case["name"])
def test_our_solve_gives_the_official_mixture(case):
    slopes, weights = np.array(case["slopes"]), np.array(case["weights"])
    law = LogLinear(c=np.zeros(len(slopes)), b=np.zeros(len(slopes)), t=slopes)
    prior = np.array(case["prior"])
    caps = np.ones(prior.size) if case["caps"] is None else np.minimum(case["caps"], 1.0)
    found = convex.solve(lambda p: law.gradient(p, weights), prior, caps=caps, kl=case["kl"], tolerance=1e-12)
    np.testing.assert_allclose(found, case["expected"], atol=2e-6)


@named("case", ORACLE["swarms"], ids=lambda case: f"temperature {case['temperature']:g}")
def test_our_swarm_is_distributed_as_the_official_one(case):
    prior = normalise(np.array(case["prior"]))
    problem = make_problem(train=prior, target=prior, examples=np.round(1e6 * prior))
    drawn = Swarm(temperature=case["temperature"]).draw(problem, case["samples"], 0)
    error = drawn.std(axis=0) * np.sqrt(2.0 / len(drawn))  # both sides are samples
    np.testing.assert_array_less(np.abs(drawn.mean(axis=0) - case["mean"]), 4.0 * error + 1e-4)
    assert (drawn == 0.0).sum(axis=1).mean() == pytest.approx(case["zeros"], abs=0.25)
    assert drawn.max(axis=1).mean() == pytest.approx(case["largest"], abs=0.02)
    assert np.all(drawn <= np.minimum(15.0 * prior, 1.0) + 1e-9)


def test_the_oracle_covers_noise_caps_and_both_temperatures():
    assert {case["delta"] for case in ORACLE["laws"]} == {0.02, 0.001}
    assert any(case["misfit"] > 1e-3 for case in ORACLE["laws"])
    binding = [
        c for c in ORACLE["solves"] if c["caps"] and np.any(np.array(c["expected"]) > np.array(c["caps"]) - 1e-6)
    ]
    assert binding
    assert [case["temperature"] for case in ORACLE["swarms"]] == [0.5, 1.0]
