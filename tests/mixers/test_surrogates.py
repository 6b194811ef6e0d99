"""Surrogates: by hand, recovery of known laws, what a constant factor does, errors that were left out."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from mixers import surrogates
from mixers.base import MixerError
from mixers.surrogates import LogLinear, TreeSettings

VERTICES = np.eye(3)


def draws(count, m=4, seed=0, strength=0.5):
    return np.random.default_rng(seed).dirichlet(np.full(m, strength), count)


TRUTH = LogLinear(
    c=np.array([1.5, 0.8]),
    b=np.array([0.2, -0.7]),
    t=np.array([[-1.0, 0.5, 0.2, 0.3], [0.8, -1.2, 0.9, -0.5]]),
)


def test_a_line_through_single_domains_by_hand():
    line = surrogates.fit_linear(VERTICES, np.array([[1.0], [2.0], [6.0]]), ridge=0.0)
    np.testing.assert_allclose(line.b, [3.0])
    np.testing.assert_allclose(line.t, [[-2.0, -1.0, 3.0]])
    np.testing.assert_allclose(line.predict(np.array([[0.5, 0.5, 0.0]])), [[1.5]])


def test_the_penalty_shrinks_slopes_by_hand():
    # Centred single domains have squared singular values 1, 1; a penalty of 0.5 a run is 1.5 in all.
    line = surrogates.fit_linear(VERTICES, np.array([[1.0], [2.0], [6.0]]), ridge=0.5)
    np.testing.assert_allclose(line.t, [[-0.8, -0.4, 1.2]])
    np.testing.assert_allclose(line.b, [3.0])


def test_a_line_scales_with_the_losses():
    x, y = draws(20), np.random.default_rng(1).normal(size=(20, 2))
    one, seven = (surrogates.fit_linear(x, scale * y, ridge=0.1) for scale in (1.0, 7.0))
    np.testing.assert_allclose(seven.t, 7.0 * one.t)
    np.testing.assert_allclose(seven.b, 7.0 * one.b)


def test_a_law_predicts_by_hand():
    law = LogLinear(c=np.array([1.0]), b=np.array([0.0]), t=np.array([[np.log(4.0), -np.log(4.0)]]))
    np.testing.assert_allclose(law.predict(np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])), [[5.0], [2.0], [1.25]])
    np.testing.assert_allclose(law.gradient(np.array([0.5, 0.5]), np.array([3.0])), [3 * np.log(4.0), -3 * np.log(4.0)])


def test_a_law_that_is_asked_far_outside_answers_a_number():
    steep = LogLinear(c=np.zeros(1), b=np.zeros(1), t=np.array([[2000.0, -2000.0]]))
    predicted = steep.predict(np.eye(2))
    assert np.all(np.isfinite(predicted))
    assert predicted[0, 0] > 1e100
    assert surrogates.agreement(np.array([1.0, 2.0]), predicted[:, 0])["mae"] > 1e100


def test_the_gradient_is_that_of_the_prediction():
    p, weights = draws(1)[0], np.array([0.3, 0.7])
    steps = 1e-6 * np.eye(4)
    ends = [TRUTH.predict(np.stack([p + h, p - h])) @ weights for h in steps]
    np.testing.assert_allclose(TRUTH.gradient(p, weights), [(a - b) / 2e-6 for a, b in ends], rtol=1e-6)


def test_a_law_is_recovered_from_its_own_losses():
    found = surrogates.fit_log_linear(draws(40), TRUTH.predict(draws(40)))
    np.testing.assert_allclose(found.c, TRUTH.c, atol=2e-3)
    np.testing.assert_allclose(found.b, TRUTH.b, atol=5e-3)
    np.testing.assert_allclose(found.t, TRUTH.t, atol=5e-3)
    np.testing.assert_allclose(found.t.sum(axis=1), 0.0, atol=1e-9)


def test_a_wild_run_moves_the_fit_little():
    x = draws(40)
    y = TRUTH.predict(x)
    y[7] += 5.0
    found = surrogates.fit_log_linear(x, y)
    rest = np.arange(40) != 7
    np.testing.assert_allclose(found.predict(x)[rest], TRUTH.predict(x)[rest], atol=0.01)


def test_losses_times_a_constant_are_fitted_as_with_another_threshold():
    x = draws(30)
    y = TRUTH.predict(x) + np.random.default_rng(2).normal(0.0, 0.02, (30, 2))
    one = surrogates.fit_log_linear(x, y, huber=0.01)
    four = surrogates.fit_log_linear(x, 4.0 * y, huber=0.04)
    np.testing.assert_allclose(four.predict(x), 4.0 * one.predict(x), rtol=1e-6)
    other = surrogates.fit_log_linear(x, 4.0 * y, huber=0.01)
    assert np.abs(other.predict(x) - 4.0 * one.predict(x)).max() > 1e-4


def test_targets_are_fitted_apart():
    x = draws(30)
    y = TRUTH.predict(x)
    both, second = surrogates.fit_log_linear(x, y), surrogates.fit_log_linear(x, y[:, 1:])
    np.testing.assert_array_equal(both.t[1:], second.t)


def test_losses_below_zero_and_losses_that_never_move():
    x = draws(30)
    found = surrogates.fit_log_linear(x, TRUTH.predict(x) - 3.0)
    np.testing.assert_allclose(found.predict(x), TRUTH.predict(x) - 3.0, atol=0.01)
    still = surrogates.fit_log_linear(x, np.full((30, 1), 2.5))
    np.testing.assert_allclose(still.predict(draws(5, seed=1)), 2.5)


def test_a_domain_that_was_never_drawn_counts_as_an_average_one():
    x = np.column_stack((draws(30, m=3), np.zeros(30)))
    found = surrogates.fit_log_linear(x, TRUTH.predict(x))
    assert found.t[0].min() < found.t[0, 3] < found.t[0].max()


def test_left_out_predictions_by_hand():
    def mean(mixtures, losses):
        return surrogates.Linear(b=losses.mean(axis=0), t=np.zeros((1, 3)))

    y = np.array([[1.0], [2.0], [3.0], [4.0]])
    x = draws(4, m=3)
    np.testing.assert_allclose(surrogates.left_out(mean, x, y, 2)[:, 0], [3.0, 2.0, 3.0, 2.0])
    np.testing.assert_allclose(surrogates.left_out(mean, x, y, 9)[:, 0], [3.0, 8 / 3, 7 / 3, 2.0])


def test_agreement_by_hand():
    found = surrogates.agreement(np.array([1.0, 2.0, 3.0]), np.array([1.5, 2.0, 2.5]))
    assert found == {"mae": pytest.approx(1 / 3), "spearman": pytest.approx(1.0)}
    assert surrogates.agreement(np.array([1.0, 2.0]), np.ones(2))["spearman"] is None


def test_without_lightgbm_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(MixerError, match=r"LightGBM is not installed: pip install 'mixoff\[regmix\]', or use model"):
        surrogates.fit_trees(draws(10), np.ones((10, 1)), TreeSettings())


def test_trees_learn_a_step():
    pytest.importorskip("lightgbm")
    x = draws(120)
    y = np.column_stack((np.where(x[:, 0] > 0.3, 1.0, 3.0), np.full(120, 0.5)))
    trees = surrogates.fit_trees(x, y, TreeSettings())
    fresh = draws(50, seed=1)
    clear = np.abs(fresh[:, 0] - 0.3) > 0.05
    expected = np.where(fresh[:, 0] > 0.3, 1.0, 3.0)
    np.testing.assert_allclose(trees.predict(fresh)[clear, 0], expected[clear], atol=0.05)
    np.testing.assert_allclose(trees.predict(fresh)[:, 1], 0.5)
    np.testing.assert_array_equal(trees.predict(fresh), surrogates.fit_trees(x, y, TreeSettings()).predict(fresh))


def test_trees_stop_where_the_inner_runs_gain_nothing():
    pytest.importorskip("lightgbm")
    rng = np.random.default_rng(0)
    x, noise = draws(100), rng.normal(size=(100, 1))
    (stopped,) = surrogates.fit_trees(x, noise, TreeSettings()).boosters
    (step,) = surrogates.fit_trees(x, np.where(x[:, :1] > 0.3, 1.0, 3.0), TreeSettings()).boosters
    assert stopped.num_trees() < 100 < step.num_trees() <= 1000


def test_few_runs_have_smaller_leaves():
    pytest.importorskip("lightgbm")
    x = draws(30)
    y = TRUTH.predict(x)
    small = surrogates.fit_trees(x, y, TreeSettings()).predict(x)
    large = surrogates.fit_trees(x, y, TreeSettings(min_leaf=20)).predict(x)
    assert np.ptp(small, axis=0).min() > 0.0
    np.testing.assert_allclose(np.ptp(large, axis=0), 0.0, err_msg="thirty runs cannot be cut into leaves of twenty")
