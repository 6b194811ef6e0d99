"""The convex solve against closed forms, optimality conditions and another solver."""

from __future__ import annotations

import numpy as np
import pytest
from offline_worlds import law
from scipy import optimize, special

from mixers import convex, simplex
from mixers.alignment import huber
from mixers.base import MixerError

PRIOR = np.array([0.4, 0.3, 0.2, 0.1])
FREE = np.ones(4)


def attainable(off):
    """Fifty distributions of forty kinds, and a mixture of them, moved by ``off`` towards another distribution."""
    rng = np.random.default_rng(0)
    vectors = rng.dirichlet(np.ones(40), 50)
    share = np.append(rng.dirichlet(np.full(24, 0.5)) * 0.3, np.append(rng.dirichlet(np.full(25, 0.1)) * 0.7, 0.0))
    share[:24] = np.minimum(share[:24], 0.05)
    share /= share.sum()
    return vectors, (1 - off) * share @ vectors + off * rng.dirichlet(np.ones(40))


def test_a_linear_loss_has_a_closed_form():
    price = np.array([1.0, 0.5, 0.0, 2.0])
    expected = PRIOR * np.exp(-price / 0.5)
    expected /= expected.sum()
    found = convex.solve(lambda p: price, PRIOR, caps=FREE, kl=0.5)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    caps = np.array([1.0, 1.0, 0.25, 1.0])
    found = convex.solve(lambda p: price, PRIOR, caps=caps, kl=0.5)
    np.testing.assert_allclose(found, simplex.capped(expected, caps), atol=1e-5)


def test_without_a_penalty_the_cheapest_domains_are_filled_in_turn():
    price = np.array([1.0, 0.5, 0.0, 2.0])
    np.testing.assert_allclose(convex.solve(lambda p: price, PRIOR, caps=FREE), [0, 0, 1, 0], atol=1e-8)
    caps = np.array([1.0, 0.3, 0.25, 1.0])
    np.testing.assert_allclose(convex.solve(lambda p: price, PRIOR, caps=caps), [0.45, 0.3, 0.25, 0], atol=1e-8)


def test_a_domain_without_prior_gets_nothing_and_a_flat_loss_gives_the_prior():
    prior = np.array([0.5, 0.5, 0.0, 0.0])
    found = convex.solve(lambda p: np.array([1.0, 0.0, -9.0, 0.0]), prior, caps=FREE, kl=0.1)
    assert found[2] == found[3] == 0.0
    np.testing.assert_allclose(convex.solve(lambda p: np.zeros(4), PRIOR, caps=FREE, kl=0.1), PRIOR)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kl", [0.0, 0.005, 0.05, 0.5])
def test_it_meets_the_optimality_conditions(seed, kl):
    shares, caps = np.array([0.5, 0.3, 0.2]), np.array([0.9, 0.5, 0.6, 0.12])
    surrogate = law(seed)
    p = convex.solve(lambda p: surrogate.gradient(p, shares), PRIOR, caps=caps, kl=kl)
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

        found = convex.solve(lambda p, surrogate=surrogate: surrogate.gradient(p, shares), PRIOR, caps=caps, kl=kl)
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
        convex.solve(lambda p: surrogate.gradient(p, np.full(3, 1 / 3)), PRIOR, caps=FREE, iterations=2)


def test_a_gradient_that_is_not_finite_ends_the_search():
    with pytest.raises(MixerError, match="no finite gradient; order more proxy runs"):
        convex.solve(lambda p: np.full(4, np.nan), PRIOR, caps=FREE)


def test_a_cap_on_the_best_by_far_leaves_the_choice_between_the_others():
    found = convex.solve(lambda p: np.array([0.0, 1.0, 1.001]), np.full(3, 1 / 3), caps=np.array([0.4, 0.9, 0.9]))
    np.testing.assert_allclose(found, [0.4, 0.6, 0.0], atol=1e-4)


@pytest.mark.parametrize("off", [0.0, 0.01])
def test_a_target_that_many_mixtures_attain_is_reached_exactly(off):
    vectors, target = attainable(off)
    delta, caps = 0.01, np.where(np.arange(50) < 25, 0.05, 1.0)
    slope = lambda r: vectors @ np.clip((r @ vectors - target) / delta, -1.0, 1.0)  # noqa: E731
    prior = np.append(np.full(49, 1 / 49), 0.0)
    how = {"caps": caps, "tolerance": 1e-6, "iterations": 300}
    with pytest.raises(MixerError, match="did not reach"):
        convex.solve(slope, prior, **how)
    found = convex.solve(slope, prior, value=lambda r: huber(r @ vectors - target, delta), **how)
    assert found.sum() == pytest.approx(1.0)
    assert found[49] == 0.0
    assert np.all((found >= 0.0) & (found <= caps + 1e-12))
    price, bounds = slope(found), [(0.0, cap) for cap in np.where(prior > 0.0, caps, 0.0)]
    best = optimize.linprog(price, A_eq=np.ones((1, 50)), b_eq=[1.0], bounds=bounds)
    assert price @ found - best.fun <= 1.01e-6, "to first order no feasible mixture is better by more"
    assert huber(found @ vectors - target, delta) <= (1e-6 if not off else 1e-4)


@pytest.mark.parametrize("kl", [1e-6, 0.01])
def test_what_goes_on_where_descent_ends_finds_the_same(kl):
    surrogate, shares = law(1), np.array([0.5, 0.3, 0.2])
    how = {"caps": np.array([0.9, 0.5, 0.6, 0.12]), "kl": kl}
    slope = lambda p: surrogate.gradient(p, shares)  # noqa: E731
    value = lambda p: float(surrogate.predict(p[None])[0] @ shares)  # noqa: E731
    found = convex.solve(slope, PRIOR, value=value, iterations=1, **how)
    np.testing.assert_allclose(found, convex.solve(slope, PRIOR, **how), atol=2e-3)


def test_what_goes_on_is_held_to_the_same_test():
    with pytest.raises(MixerError, match="did not reach"):  # a loss that has nothing to do with the gradient
        convex.solve(
            lambda p: np.array([0.0, 1.0, 2.0, 3.0]), PRIOR, caps=FREE, iterations=1, value=lambda p: float(p[0])
        )
