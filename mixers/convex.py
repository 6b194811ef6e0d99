"""The mixture of least loss for a convex loss, with a penalty on its distance from a prior and caps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, minimize

from mixers import simplex
from mixers.base import Array, BoolArray, MixerError

TINY = 1e-300
HUGE, APART = 690.0, 600.0  # logarithms: of about 1 / TINY, and of what is not far from it
POLISH = 1e-15  # change of the loss at which SLSQP ends; what counts is the test after it


def solve(
    gradient: Callable[[Array], Array],
    prior: Array,
    *,
    caps: Array,
    kl: float = 0.0,
    tolerance: float = 1e-8,
    iterations: int = 50_000,
    value: Callable[[Array], float] | None = None,
) -> Array:
    """The mixture, [m], of least loss(p) + kl KL(p || prior) with p <= caps, for a convex loss with this gradient.

    Mirror descent in the entropy: a step minimises <gradient, p> + kl KL(p || prior) + KL(p || last) / length exactly,
    as a product of powers that is brought below the caps. Its length grows as long as the gradient changes by less than
    half of what it allows for, and is halved where not. It ends where no feasible mixture promises a gain of
    ``tolerance`` to first order, so the loss is within that of its minimum. A domain whose prior is 0 gets nothing.
    Where the loss is flat around its minimum, as for a target that many mixtures attain, this takes very long; then, if
    ``value``, the loss itself, is given, SLSQP goes on from there, to the same test. Raises :class:`MixerError` where
    neither ends.
    """
    there = prior > 0.0
    log_prior = _log(prior)
    p, length = simplex.capped(prior, caps), 1.0
    slope = gradient(p)
    if not np.all(np.isfinite(slope)):
        raise MixerError("the predicted loss has no finite gradient; order more proxy runs")

    def promised(p: Array, slope: Array) -> float:
        """The gain that a feasible mixture promises to first order."""
        whole = slope + kl * (_log(p) - log_prior)
        return float(whole @ (p - _cheapest(whole, there, caps)))

    for _ in range(iterations):
        if promised(p, slope) <= tolerance:
            return p
        while True:
            logits = (_log(p) + length * (kl * log_prior - slope)) / (1.0 + length * kl)
            powers = np.maximum(np.exp(np.minimum(logits - _level(logits, there, caps), HUGE)), TINY)
            with np.errstate(over="ignore"):  # of what is brought below its cap
                moved = simplex.capped(np.where(there, powers, 0.0), caps)
            after, change = gradient(moved), moved - p
            if (after - slope) @ change <= 0.5 * (change @ (_log(moved) - _log(p))) / length:
                break
            length /= 2.0
        p, slope, length = moved, after, 1.5 * length
    if value is not None:
        polished = _polished(value, gradient, p, log_prior, there, caps, kl)
        if polished is not None and promised(polished, gradient(polished)) <= tolerance:
            return polished
    raise MixerError(f"the solve did not reach {tolerance:g} in {iterations} steps; raise kl, which makes it easier")


def _polished(
    value: Callable[[Array], float],
    gradient: Callable[[Array], Array],
    p: Array,
    log_prior: Array,
    there: BoolArray,
    caps: Array,
    kl: float,
) -> Array | None:
    """A mixture of less loss than ``p`` by sequential quadratic programming; ``None`` where none was found."""
    highest = np.where(there, np.minimum(caps, 1.0), 0.0)

    def loss(q: Array) -> float:
        return value(q) + kl * float(q @ (_log(q) - log_prior))

    def slope(q: Array) -> Array:
        return gradient(q) + kl * (_log(q) - log_prior + 1.0)

    found = minimize(
        loss,
        p,
        jac=slope,
        method="SLSQP",
        bounds=Bounds(np.zeros_like(highest), highest),
        constraints=LinearConstraint(np.ones((1, p.size)), 1.0, 1.0),
        options={"ftol": POLISH, "maxiter": 1000},
    )
    if not np.all(np.isfinite(found.x)) or not found.x.any():
        return None
    return simplex.capped(np.where(there, np.maximum(found.x, TINY), 0.0), caps)


def _log(weights: Array) -> Array:
    """[m] finite logarithms."""
    return np.asarray(np.log(np.maximum(weights, TINY)))


def _level(logits: Array, there: BoolArray, caps: Array) -> float:
    """The logarithm that a product of powers is divided by: of its largest, unless those at their caps tower so high
    that the others, which share what is left, would all be ``TINY``; then of the largest that need not be at its cap.
    """
    order = np.argsort(np.where(there, -logits, np.inf), kind="stable")
    room = np.where(there, np.minimum(caps, 1.0), 0.0)[order]
    marginal = min(int(np.searchsorted(np.cumsum(room), 1.0)), int(there.sum()) - 1)
    top, level = float(logits[order[0]]), float(logits[order[marginal]])
    return top if top - level < APART else level


def _cheapest(price: Array, there: BoolArray, caps: Array) -> Array:
    """[m] the mixture below the caps with the least sum of price times weight: the cheapest domains, filled in turn."""
    order = np.argsort(np.where(there, price, np.inf), kind="stable")
    room = np.where(there, np.minimum(caps, 1.0), 0.0)[order]
    before = np.cumsum(room) - room
    filled = np.zeros_like(price)
    filled[order] = np.clip(1.0 - before, 0.0, room)
    return filled
