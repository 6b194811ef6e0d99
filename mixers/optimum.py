"""Two ways to the mixture of least predicted loss: the mean of the best of many draws, and a convex solve."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mixers import simplex
from mixers.base import Array, BoolArray, MixerError
from mixers.surrogates import Surrogate

ROWS = 20_000  # mixtures that are predicted at once
TINY = 1e-300


def best_of(surrogate: Surrogate, shares: Array, mixtures: Array, top: int) -> Array:
    """[m] mean of the ``top`` mixtures, of [k, m], with the least predicted loss, weighted by ``shares`` [n].

    Among equals (trees give many) the first ones count. Where every mixture keeps to its caps, so does their mean.
    """
    parts = [surrogate.predict(mixtures[i : i + ROWS]) @ shares for i in range(0, len(mixtures), ROWS)]
    best = np.argsort(np.concatenate(parts), kind="stable")[:top]
    return np.asarray(mixtures[best].mean(axis=0))


def solve(
    gradient: Callable[[Array], Array],
    prior: Array,
    *,
    caps: Array,
    kl: float = 0.0,
    tolerance: float = 1e-8,
    iterations: int = 50_000,
) -> Array:
    """The mixture, [m], of least loss(p) + kl KL(p || prior) with p <= caps, for a convex loss with this gradient.

    Mirror descent in the entropy: a step minimises <gradient, p> + kl KL(p || prior) + KL(p || last) / length exactly,
    as a product of powers that is brought below the caps. Its length grows as long as the gradient changes by less than
    half of what it allows for, and is halved where not. It ends where no feasible mixture promises a gain of
    ``tolerance`` to first order, so the loss is within that of its minimum. A domain whose prior is 0 gets nothing.
    Raises :class:`MixerError` where it does not end.
    """
    there = prior > 0.0
    log_prior = _log(prior)
    p, length = simplex.capped(prior, caps), 1.0
    slope = gradient(p)
    if not np.all(np.isfinite(slope)):
        raise MixerError("the predicted loss has no finite gradient; order more proxy runs")
    for _ in range(iterations):
        whole = slope + kl * (_log(p) - log_prior)
        if float(whole @ (p - _cheapest(whole, there, caps))) <= tolerance:
            return p
        while True:
            logits = (_log(p) + length * (kl * log_prior - slope)) / (1.0 + length * kl)
            powers = np.maximum(np.exp(logits - logits[there].max()), TINY)
            moved = simplex.capped(np.where(there, powers, 0.0), caps)
            after, change = gradient(moved), moved - p
            if (after - slope) @ change <= 0.5 * (change @ (_log(moved) - _log(p))) / length:
                break
            length /= 2.0
        p, slope, length = moved, after, 1.5 * length
    raise MixerError(f"the solve did not reach {tolerance:g} in {iterations} steps; raise kl, which makes it easier")


def _log(weights: Array) -> Array:
    """[m] finite logarithms."""
    return np.asarray(np.log(np.maximum(weights, TINY)))


def _cheapest(price: Array, there: BoolArray, caps: Array) -> Array:
    """[m] the mixture below the caps with the least sum of price times weight: the cheapest domains, filled in turn."""
    order = np.argsort(np.where(there, price, np.inf), kind="stable")
    room = np.where(there, np.minimum(caps, 1.0), 0.0)[order]
    before = np.cumsum(room) - room
    filled = np.zeros_like(price)
    filled[order] = np.clip(1.0 - before, 0.0, room)
    return filled
