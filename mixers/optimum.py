"""Ways to the mixture of least predicted loss: the best of many draws, a search around a mixture, a convex solve."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mixers import simplex
from mixers.base import Array, BoolArray, IntArray, MixerError
from mixers.surrogates import Surrogate

ROWS = 20_000  # mixtures that are predicted at once
TINY = 1e-300
HUGE, APART = 690.0, 600.0  # logarithms: of about 1 / TINY, and of what is not far from it


def best_of(surrogate: Surrogate, shares: Array, mixtures: Array, top: int) -> Array:
    """[m] mean of the ``top`` mixtures, of [k, m], with the least predicted loss, weighted by ``shares`` [n].

    Among equals (trees give many) the first ones count. Where every mixture keeps to its caps, so does their mean.
    """
    return np.asarray(mixtures[lowest(surrogate, shares, mixtures, top)].mean(axis=0))


def predicted(surrogate: Surrogate, shares: Array, mixtures: Array) -> Array:
    """[k] predicted losses of mixtures, [k, m], weighted by ``shares`` [n]."""
    parts = [surrogate.predict(mixtures[i : i + ROWS]) @ shares for i in range(0, len(mixtures), ROWS)]
    return np.concatenate(parts)


def lowest(surrogate: Surrogate, shares: Array, mixtures: Array, top: int) -> IntArray:
    """[top] positions of the mixtures, [k, m], with the least predicted loss, best first; equals in their order."""
    return np.argsort(predicted(surrogate, shares, mixtures), kind="stable")[:top]


def argmin(surrogate: Surrogate, shares: Array, mixtures: Array) -> Array:
    """[m] the mixture, of [k, m], with the least predicted loss; the mean of all that are equal to it up to rounding.

    Trees predict the same for all mixtures of a box. The mean of such mixtures is in the box, and no accident of the
    draw, as the first of them would be; with trees that never split it is the mean of all.
    """
    values = predicted(surrogate, shares, mixtures)
    least = values.min()
    return np.asarray(mixtures[values <= least + 1e-12 * max(1.0, abs(least))].mean(axis=0))


def refine(value: Callable[[Array], Array], best: Array, directions: Array, rounds: int = 12) -> Array:
    """[m] a mixture of less ``value`` ([k] of [k, m]) than ``best``, [m], by steps towards other mixtures, [k, m].

    Each round tries a step towards every direction and goes to the best of them; where none is better, steps are
    halved. Where ``best`` and the directions keep to caps, so does the answer.
    """
    step, least = 0.5, float(value(best[None])[0])
    for _ in range(rounds):
        tried = best + step * (directions - best)
        values = value(tried)
        if values.min() < least:
            best, least = tried[values.argmin()], float(values.min())
        else:
            step /= 2.0
    return best


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
            powers = np.maximum(np.exp(np.minimum(logits - _level(logits, there, caps), HUGE)), TINY)
            with np.errstate(over="ignore"):  # of what is brought below its cap
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
