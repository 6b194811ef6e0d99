"""The best of many draws by hand; the convex solve against closed forms, optimality conditions and another solver."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, special

from mixers import optimum, simplex
from mixers.base import MixerError
from mixers.surrogates import Linear, LogLinear

PRIOR = np.array([0.4, 0.3, 0.2, 0.1])
FREE = np.ones(4)


def law(seed, n=3, m=4):
    rng = np.random.default_rng(seed)
    t = rng.normal(size=(n, m))
    return LogLinear(c=rng.uniform(0, 2, n), b=rng.normal(size=n), t=t - t.mean(axis=1, keepdims=True))


def test_best_of_by_hand():
    surrogate = Linear(b=np.zeros(2), t=np.array([[1.0, 0.0], [0.0, 5.0]]))
    mixtures = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [0.8, 0.2]])  # weighted losses 0.5, 1.5, 2.5, 0.9
    shares = np.array([0.5, 0.5])
    np.testing.assert_allclose(optimum.best_of(surrogate, shares, mixtures, 2), [0.9, 0.1])
    np.testing.assert_allclose(optimum.best_of(surrogate, np.array([0.0, 1.0]), mixtures[::-1], 1), [1.0, 0.0])


def test_among_equals_the_first_count():
    flat = Linear(b=np.zeros(1), t=np.zeros((1, 2)))
    mixtures = np.array([[0.3, 0.7], [0.5, 0.5], [0.9, 0.1]])
    np.testing.assert_allclose(optimum.best_of(flat, np.ones(1), mixtures, 1), [0.3, 0.7])


def test_more_mixtures_than_are_predicted_at_once(monkeypatch):
    mixtures = np.random.default_rng(0).dirichlet(np.ones(4), 50)
    whole = optimum.best_of(law(0), np.full(3, 1 / 3), mixtures, 5)
    monkeypatch.setattr(optimum, "ROWS", 7)
    np.testing.assert_allclose(optimum.best_of(law(0), np.full(3, 1 / 3), mixtures, 5), whole)


def test_a_linear_loss_has_a_closed_form():
    price = np.array([1.0, 0.5, 0.0, 2.0])
    expected = PRIOR * np.exp(-price / 0.5)
    expected /= expected.sum()
    found = optimum.solve(lambda p: price, PRIOR, caps=FREE, kl=0.5)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    caps = np.array([1.0, 1.0, 0.25, 1.0])
    found = optimum.solve(lambda p: price, PRIOR, caps=caps, kl=0.5)
    np.testing.assert_allclose(found, simplex.capped(expected, caps), atol=1e-5)


def test_without_a_penalty_the_cheapest_domains_are_filled_in_turn():
    price = np.array([1.0, 0.5, 0.0, 2.0])
    np.testing.assert_allclose(optimum.solve(lambda p: price, PRIOR, caps=FREE), [0, 0, 1, 0], atol=1e-8)
    caps = np.array([1.0, 0.3, 0.25, 1.0])
    np.testing.assert_allclose(optimum.solve(lambda p: price, PRIOR, caps=caps), [0.45, 0.3, 0.25, 0], atol=1e-8)


def test_a_domain_without_prior_gets_nothing_and_a_flat_loss_gives_the_prior():
    prior = np.array([0.5, 0.5, 0.0, 0.0])
    found = optimum.solve(lambda p: np.array([1.0, 0.0, -9.0, 0.0]), prior, caps=FREE, kl=0.1)
    assert found[2] == found[3] == 0.0
    np.testing.assert_allclose(optimum.solve(lambda p: np.zeros(4), PRIOR, caps=FREE, kl=0.1), PRIOR)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kl", [0.0, 0.005, 0.05, 0.5])
def test_it_meets_the_optimality_conditions(seed, kl):
    shares, caps = np.array([0.5, 0.3, 0.2]), np.array([0.9, 0.5, 0.6, 0.12])
    surrogate = law(seed)
    p = optimum.solve(lambda p: surrogate.gradient(p, shares), PRIOR, caps=caps, kl=kl)
    assert p.sum() == pytest.approx(1.0)
    assert np.all((p >= 0.0) & (p <= caps + 1e-12))
    slope = surrogate.gradient(p, shares) + kl * np.log(np.maximum(p, 1e-300) / PRIOR)
    free = (p > 1e-4) & (p < caps - 1e-4)
    level = slope[free].mean() if free.any() else np.max(slope[p > 1e-4])
    np.testing.assert_allclose(slope[free], level, atol=2e-4, err_msg="one price for all that are free")
    assert np.all(slope[p >= caps - 1e-9] <= level + 2e-4), "who is at its cap would like more"
    assert np.all(slope[p < 1e-6] >= level - 2e-4), "who has nothing is dearer"


@pytest.mark.parametrize("kl", [0.0, 0.05])
def test_another_solver_finds_nothing_better(kl):
    shares, caps = np.array([0.5, 0.3, 0.2]), np.array([0.9, 0.5, 0.6, 0.12])
    for seed in range(4):
        surrogate = law(seed)

        def value(p, surrogate=surrogate):
            penalty = kl * special.rel_entr(np.maximum(p, 1e-12), PRIOR).sum()
            return float(surrogate.predict(p[None])[0] @ shares) + penalty

        found = optimum.solve(lambda p, surrogate=surrogate: surrogate.gradient(p, shares), PRIOR, caps=caps, kl=kl)
        other = optimize.minimize(
            value,
            PRIOR,
            method="SLSQP",
            bounds=[(0.0, cap) for cap in caps],
            constraints={"type": "eq", "fun": lambda p: p.sum() - 1.0},
            options={"ftol": 1e-12, "maxiter": 500},
        )
        assert value(found) <= float(other.fun) + 1e-7


def test_a_search_that_does_not_end_says_so():
    surrogate = law(0)
    with pytest.raises(MixerError, match="did not reach 1e-08 in 2 steps; raise kl"):
        optimum.solve(lambda p: surrogate.gradient(p, np.full(3, 1 / 3)), PRIOR, caps=FREE, iterations=2)


def test_a_gradient_that_is_not_finite_ends_the_search():
    with pytest.raises(MixerError, match="no finite gradient; order more proxy runs"):
        optimum.solve(lambda p: np.full(4, np.nan), PRIOR, caps=FREE)


class Rounded:
    """Predicts the first share, to tenths."""

    def predict(self, mixtures):
        return np.round(mixtures[:, :1], 1)


def test_the_lowest_and_the_mean_of_equals_by_hand():
    mixtures = np.array([[0.5, 0.5], [0.21, 0.79], [0.3, 0.7], [0.19, 0.81]])
    np.testing.assert_array_equal(optimum.lowest(Rounded(), np.ones(1), mixtures, 3), [1, 3, 2])
    np.testing.assert_allclose(optimum.argmin(Rounded(), np.ones(1), mixtures), [0.2, 0.8])


def test_a_search_towards_other_mixtures_finds_an_inner_minimum():
    wanted = np.array([0.31, 0.47, 0.22])
    found = optimum.refine(lambda p: ((p - wanted) ** 2).sum(axis=1), np.array([1.0, 0.0, 0.0]), np.eye(3), rounds=60)
    np.testing.assert_allclose(found, wanted, atol=0.01)
    inside = np.array([[0.5, 0.5, 0.0], [0.5, 0.0, 0.5]])
    kept = optimum.refine(lambda p: p[:, 0], np.array([0.6, 0.2, 0.2]), inside)
    assert 0.5 <= kept[0] < 0.51, "never beyond the directions"


def test_a_cap_on_the_best_by_far_leaves_the_choice_between_the_others():
    found = optimum.solve(lambda p: np.array([0.0, 1.0, 1.001]), np.full(3, 1 / 3), caps=np.array([0.4, 0.9, 0.9]))
    np.testing.assert_allclose(found, [0.4, 0.6, 0.0], atol=1e-4)
