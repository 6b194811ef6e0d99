"""TiKMiX-D's optimisation problem: optima by hand, by grid, by SLSQP and by their own conditions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize

from mixers import influence
from mixers.influence import Objective, minimise

INF = math.inf


def objective(rows, *, shares=None, spread=1.0, gain=1.0, entropy=1.0):
    rows = np.asarray(rows, dtype=np.float64)
    n = len(rows)
    shares = np.full(n, 1 / n) if shares is None else np.asarray(shares)
    return Objective(rows=rows, shares=shares, spread=spread, gain=gain, entropy=entropy)


def solution(goal, prior, slack=0.0):
    weights, solved = minimise(goal, np.asarray(prior, dtype=np.float64), slack)
    assert solved
    assert weights.min() >= 0.0
    assert weights.sum() == pytest.approx(1.0, abs=1e-12)
    return weights


def drawn(seed, m, n, d=4):
    """A random problem: rows of influence, normalised, and a prior. Domains share a direction, as gradients do."""
    rng = np.random.default_rng(seed)
    matrix = (0.5 + rng.normal(size=(n, d))) @ (0.5 + rng.normal(size=(m, d))).T
    matrix = matrix[matrix.max(axis=1) > 0.05 * np.abs(matrix).max(axis=1)]
    return matrix / matrix.max(axis=1, keepdims=True), rng.dirichlet(np.full(m, 2.0))


def test_the_value_is_that_of_the_formula():
    rows, w = np.array([[1.0, 0.2], [-0.5, 1.0], [0.0, 1.0]]), np.array([0.3, 0.7])
    p = rows @ w
    entropy = -(0.3 * math.log(0.3) + 0.7 * math.log(0.7))
    assert objective(rows).value(w) == pytest.approx(np.std(p) - p.sum() - entropy)
    weighed = objective(rows, spread=2.0, gain=3.0, entropy=0.5).value(w)
    assert weighed == pytest.approx(2 * np.std(p) - 3 * p.sum() - 0.5 * entropy)


def test_derivatives_by_differences():
    rows, w = drawn(0, 5, 4)
    goal, h = objective(rows, spread=2.0, shares=np.array([0.4, 0.3, 0.2, 0.1])[: len(rows)]), 1e-6
    gradient, hessian = goal.derivatives(w, 1e-3)
    for j, e in enumerate(h * np.eye(5)):
        ahead, behind = w + e, w - e
        assert (goal.value(ahead, 1e-3) - goal.value(behind, 1e-3)) / (2 * h) == pytest.approx(gradient[j], abs=1e-7)
        difference = (goal.derivatives(ahead, 1e-3)[0] - goal.derivatives(behind, 1e-3)[0]) / (2 * h)
        np.testing.assert_allclose(difference, hessian[j], atol=1e-6)


def test_one_target_is_a_softmax():
    # No spread; the derivative of -(w + r (1 - w)) - H(w) vanishes where ln(w / (1 - w)) = 1 - r.
    for r in (0.0, 0.4, -2.0):
        expected = 1 / (1 + math.exp(r - 1))
        np.testing.assert_allclose(solution(objective([[1.0, r]]), [0.5, 0.5])[0], expected, atol=1e-9)


def test_one_target_at_its_limit():
    # The softmax above is 0.731: less influence than a prior of 0.9 has, so that the prior is the limit.
    np.testing.assert_allclose(solution(objective([[1.0, 0.0]]), [0.9, 0.1]), [0.9, 0.1], atol=1e-8)
    np.testing.assert_allclose(solution(objective([[1.0, 0.0]]), [0.9, 0.1], slack=0.1), [0.8, 0.2], atol=1e-8)
    np.testing.assert_allclose(solution(objective([[1.0, 0.0]]), [0.9, 0.1], slack=INF)[0], 0.731059, atol=1e-6)


def test_even_influence_where_the_objective_has_a_kink():
    # P = (w, 1 - w/2): std = |3w/2 - 1| / 2, sum = 1 + w/2. Below w = 2/3 the slope is logit(w) - 5/4 < 0 at 2/3
    # (logit 0.69), above it logit(w) + 1/4 > 0: the optimum is at 2/3, where both targets gain alike.
    weights = solution(objective([[1.0, 0.0], [0.5, 1.0]]), [0.3, 0.7], slack=INF)
    np.testing.assert_allclose(weights, [2 / 3, 1 / 3], atol=1e-9)
    # Without the spread: logit(w) = 1/2.
    weights = solution(objective([[1.0, 0.0], [0.5, 1.0]], spread=0.0), [0.3, 0.7], slack=INF)
    np.testing.assert_allclose(weights[0], 1 / (1 + math.exp(-0.5)), atol=1e-9)


def test_where_every_domain_helps_one_target_alone_nothing_but_the_prior_is_allowed():
    prior = [0.5, 0.3, 0.2]
    np.testing.assert_allclose(solution(objective(np.eye(3)), prior), prior, atol=1e-8)
    # With slack each share may fall by 0.1: the first does, and the others are even.
    np.testing.assert_allclose(solution(objective(np.eye(3)), prior, slack=0.1), [0.4, 0.3, 0.3], atol=1e-8)
    np.testing.assert_allclose(solution(objective(np.eye(3)), prior, slack=INF), 1 / 3, atol=1e-8)


def test_opposed_targets_allow_nothing_but_the_prior():
    weights = solution(objective([[1.0, -1.0], [-1.0, 1.0]]), [0.6, 0.4])
    np.testing.assert_allclose(weights, [0.6, 0.4], atol=1e-8)


@pytest.mark.parametrize("slack", [0.0, 0.1, INF])
@pytest.mark.parametrize("seed", range(3))
def test_no_point_of_a_fine_grid_is_better(seed, slack):
    rows, prior = drawn(seed, 3, 3)
    goal = objective(rows)
    weights = solution(goal, prior, slack)
    assert (rows @ (weights - prior) + slack).min() >= -1e-8 * np.abs(rows).max()
    steps = 400
    a, b = np.meshgrid(np.arange(steps + 1), np.arange(steps + 1))
    grid = np.stack([a, b, steps - a - b], axis=-1).reshape(-1, 3)
    grid = grid[grid.min(axis=1) >= 0] / steps
    p = grid @ rows.T
    values = p.std(axis=1) - p.sum(axis=1) + np.where(grid > 0, grid * np.log(np.maximum(grid, 1e-300)), 0.0).sum(1)
    allowed = (p - rows @ prior + slack).min(axis=1) >= 0.0
    best = values[allowed].min(initial=goal.value(prior))
    assert best >= goal.value(weights) - 1e-8
    assert slack == 0.0 or best <= goal.value(weights) + 0.02, "the grid comes near"


def residual(goal, weights, prior, slack):
    """How far the gradient is from a combination of the active constraints with multipliers of the right sign."""
    gradient, _ = goal.derivatives(np.maximum(weights, 1e-300), 1e-11)
    rows, m = goal.rows, len(weights)
    active = rows @ (weights - prior) + slack < 1e-6 * np.abs(rows).max(axis=1)
    sides = np.hstack([rows[active].T, np.ones((m, 1)), -np.ones((m, 1)), np.eye(m)[:, weights < 1e-8]])
    return optimize.nnls(sides, gradient, maxiter=1000 * m)[1], int(active.sum())


CASES = [(7, 7, 4, 0.0), (7, 3, 4, 0.0), (22, 9, 8, 0.0), (22, 22, 8, 0.0), (22, 22, 8, 0.05), (26, 9, 30, INF)]


@pytest.mark.parametrize(("m", "n", "d", "slack"), CASES)
def test_the_conditions_of_an_optimum_hold(m, n, d, slack):
    touched = 0
    for seed in range(4):
        rows, prior = drawn(seed, m, n, d)
        goal = objective(rows, spread=0.7, gain=0.5, entropy=1.3)
        weights = solution(goal, prior, slack)
        assert (rows @ weights).std() > 1e-6, "no kink, so that the gradient says it all"
        rest, active = residual(goal, weights, prior, slack)
        assert rest < 1e-5
        touched += active
    assert slack > 0.0 or touched, "some constraint holds the optimum"


@pytest.mark.parametrize("seed", range(8))
def test_slsqp_finds_the_same(seed):
    rows, prior = drawn(seed, 9, 6)
    goal = objective(rows)

    def smooth(w):
        w = np.maximum(w, 1e-12)
        return goal.value(w, 1e-9), goal.derivatives(w, 1e-9)[0]

    even = {"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones((1, 9))}
    pareto = {"type": "ineq", "fun": lambda w: rows @ (w - prior), "jac": lambda w: rows}
    found = optimize.minimize(
        smooth, prior, jac=True, method="SLSQP", bounds=[(0, 1)] * 9, constraints=[even, pareto],
        options={"ftol": 1e-13, "maxiter": 1000},
    )  # fmt: skip
    weights = solution(goal, prior)
    np.testing.assert_allclose(weights, found.x, atol=2e-5)
    assert goal.value(weights) <= goal.value(found.x) + 1e-8


@pytest.mark.parametrize("slack", [0.0, 0.05, INF])
@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_domains_and_targets_does_not_matter(seed, slack):
    rows, prior = drawn(seed, 8, 8)
    shares = np.random.default_rng(seed).dirichlet(np.ones(len(rows)))
    order, turned = np.random.default_rng(1).permutation(8), np.random.default_rng(2).permutation(len(rows))
    weights = solution(objective(rows, shares=shares), prior, slack)
    other = solution(objective(rows[turned][:, order], shares=shares[turned]), prior[order], slack)
    np.testing.assert_allclose(other, weights[order], atol=1e-7)


def test_without_entropy_it_goes_to_the_best_domain():
    weights = solution(objective([[1.0, 0.2, 0.5]], entropy=0.0), [0.2, 0.3, 0.5])
    np.testing.assert_allclose(weights, [1.0, 0.0, 0.0], atol=1e-8)


def test_domains_without_prior_can_win_a_share():
    rows = [[1.0, 0.2, 0.5], [0.3, 1.0, 0.2]]
    weights = solution(objective(rows), [0.0, 0.0, 1.0])
    assert weights[:2].min() > 0.1
    np.testing.assert_allclose(weights, solution(objective(rows), [0.0, 0.0, 1.0], slack=INF), atol=1e-8)


@pytest.mark.parametrize("n", [1, 9, 512])
def test_many_domains(n):
    rows, prior = drawn(0, 512, n, 32)
    goal = objective(rows)
    weights = solution(goal, prior)
    assert goal.value(weights) < goal.value(prior) - 0.1
    assert (rows @ (weights - prior)).min() >= -1e-8 * np.abs(rows).max()


def test_large_entries():
    rows = np.array([[1.0, -1000.0, -300.0], [0.3, 1.0, 0.2]])
    prior = np.array([0.6, 0.1, 0.3])
    goal = objective(rows)
    weights = solution(goal, prior)
    assert goal.value(weights) < goal.value(prior) - 100.0
    assert residual(goal, weights, prior, 0.0)[0] < 1e-4 * 1000.0


def test_a_solver_that_is_stopped_says_so_and_gives_a_mixture_that_is_allowed(monkeypatch):
    rows, prior = drawn(3, 8, 5)
    goal = objective(rows)
    full = solution(goal, prior)
    for iterations in (0, 1, 10):
        monkeypatch.setattr(influence, "ITERATIONS", iterations)
        weights, solved = minimise(goal, prior, 0.0)
        assert not solved
        assert (rows @ (weights - prior)).min() >= -1e-8 * np.abs(rows).max()
        assert goal.value(full) <= goal.value(weights) + 1e-9
        assert goal.value(weights) <= goal.value(prior)
    np.testing.assert_array_equal(minimise(goal, prior, 0.0)[0].sum().round(12), 1.0)
    monkeypatch.setattr(influence, "ITERATIONS", 0)
    np.testing.assert_array_equal(minimise(goal, prior, 0.0)[0], prior)


def test_a_system_that_is_not_finite_leaves_the_prior():
    rows = np.array([[1.0, np.nan], [0.2, 1.0]])
    weights, solved = minimise(objective(rows), np.array([0.5, 0.5]), 0.0)
    assert not solved
    np.testing.assert_array_equal(weights, 0.5)
