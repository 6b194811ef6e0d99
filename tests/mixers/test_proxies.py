"""Proxy runs: the orders, and which losses count."""

from __future__ import annotations

import numpy as np
import pytest
from mixer_fakes import frozen, make_problem

from mixers import proxies
from mixers.base import MixerError, RunResult
from mixers.proxies import Fidelity

PROBLEM = make_problem()
NAN = np.nan


def test_an_order_by_hand():
    run = Fidelity(share=0.25, size=0.5, validation_examples=7).order(PROBLEM, np.array([0.2, 0.3, 0.5]))
    assert (run.steps, run.size, run.subsample, run.validation_examples, run.seed) == (25, 0.5, 1.0, 7, 0)
    np.testing.assert_allclose(run.mixture.weights, [0.2, 0.3, 0.5])


def test_matched_repetition_follows_the_steps_that_are_left_after_rounding():
    short = make_problem(steps=15)
    assert Fidelity(share=0.1, match_repetition=True).order(short, np.full(3, 1 / 3)).subsample == pytest.approx(2 / 15)
    assert Fidelity(share=1.0, match_repetition=True).order(short, np.full(3, 1 / 3)).subsample == 1.0
    assert Fidelity(share=0.001, match_repetition=True).order(short, np.full(3, 1 / 3)).steps == 1


def test_a_schedule_is_one_call_and_keeps_its_order():
    class CountingLab:
        calls = 0

        def train(self, runs):
            self.calls += 1
            return [RunResult(steps=(r.steps,), losses=frozen([[r.steps, r.mixture.weights[0], NAN]])) for r in runs]

    lab = CountingLab()
    schedule = [(np.array([w, 1 - w, 0.0]), Fidelity(share=s)) for w, s in ((0.1, 0.5), (0.7, 0.2), (0.4, 1.0))]
    losses = proxies.measure(PROBLEM, lab, schedule)
    np.testing.assert_allclose(losses, [[50, 0.1, NAN], [20, 0.7, NAN], [100, 0.4, NAN]])
    assert lab.calls == 1


def test_the_objective_by_hand():
    losses = np.array([[1.0, NAN, 2.0], [1.0, NAN, NAN]])
    np.testing.assert_allclose(proxies.objective(PROBLEM, None, losses), [2 / 7, 0.0, 5 / 7])
    np.testing.assert_allclose(proxies.objective(PROBLEM, "d2", losses), [0.0, 0.0, 1.0])


def test_runs_without_a_loss_that_counts_are_left_out():
    losses = np.array([[1.0, NAN], [2.0, 3.0], [np.inf, 1.0], [1.0, 1.0], [4.0, NAN]])
    np.testing.assert_array_equal(proxies.usable(losses, np.array([1.0, 0.0])), [0, 1, 3, 4])
    with pytest.raises(MixerError, match="2 of 5 proxy runs have finite losses, at least 3 are needed"):
        proxies.usable(losses, np.array([0.5, 0.5]))


def test_targets_that_cannot_be_lowered_are_one_line():
    with pytest.raises(MixerError, match="there is no target 'x'; the targets are d0, d1, d2"):
        proxies.objective(PROBLEM, "x", np.ones((3, 3)))
    with pytest.raises(MixerError, match="no proxy run has a finite validation loss of target 'd1'"):
        proxies.objective(PROBLEM, "d1", np.array([[1.0, NAN, 1.0]]))
    with pytest.raises(MixerError, match="no proxy run has a finite validation loss of any target"):
        proxies.objective(PROBLEM, None, np.full((2, 3), NAN))


def test_a_ladder_is_geometric_and_strictly_longer_at_every_rung():
    assert proxies.ladder(make_problem(steps=1000), 0.025, 0.2, 4) == (25, 50, 100, 200)
    assert proxies.ladder(make_problem(steps=10), 0.025, 0.2, 4) == (1, 2, 3, 4)
    assert proxies.ladder(make_problem(steps=1), 0.5, 1.0, 4) == (1, 2, 3, 4)


def test_target_losses_are_weighted_and_do_not_hang_on_the_order_of_the_targets():
    problem = make_problem(target=(0.2, 0.3, 0.5))
    losses = np.array([[1.0, 2.0, 4.0], [3.0, np.nan, 1.0], [0.1, 0.2, 0.3]])
    np.testing.assert_allclose(proxies.target_losses(problem, None, losses), [2.8, np.nan, 0.23])
    np.testing.assert_allclose(proxies.target_losses(problem, "d2", losses), [4.0, 1.0, 0.3])
    # A target without any loss leaves its weight to the others.
    without = np.where([True, False, True], losses, np.nan)
    np.testing.assert_allclose(proxies.target_losses(problem, None, without), np.array([2.2, 1.1, 0.17]) / 0.7)
    order = [2, 0, 1]
    moved = make_problem(target=np.array([0.2, 0.3, 0.5])[order], targets=("d2", "d0", "d1"))
    np.testing.assert_array_equal(
        proxies.target_losses(moved, None, losses[:, order]), proxies.target_losses(problem, None, losses)
    )
