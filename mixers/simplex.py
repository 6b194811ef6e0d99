"""The shared mathematics of mixtures: pure functions on float64 arrays of length m, none of which changes its input.

A *mixture* here is a bare array of non-negative weights that sum to one; names and checks live in
:class:`mixers.base.Mixture`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

from mixers.base import Array, MixerError


def uniform(m: int) -> Array:
    """The mixture [m] that gives every domain the same share."""
    return np.full(m, 1.0 / m)


def softmax(logits: npt.ArrayLike) -> Array:
    """exp(logits) / sum of exp(logits), [m], without overflow for any finite logits."""
    values = np.asarray(logits, dtype=np.float64)
    powers = np.exp(values - values.max())
    return powers / powers.sum()


def normalise(values: npt.ArrayLike) -> Array:
    """Non-negative values, [m], divided by their sum; :class:`MixerError` where that is no mixture."""
    amounts = np.array(values, dtype=np.float64)
    if not np.all(np.isfinite(amounts)) or amounts.min(initial=0.0) < 0.0:
        raise MixerError("cannot normalise to a mixture: a value is negative or not finite")
    largest = amounts.max(initial=0.0)
    if largest == 0.0:
        raise MixerError("cannot normalise to a mixture: all values are zero")
    amounts /= largest  # first, so that neither huge nor tiny values lose their sum
    return amounts / amounts.sum()


def exponentiated_gradient(weights: npt.ArrayLike, gain: npt.ArrayLike) -> Array:
    """One multiplicative step: weights_i exp(gain_i) / Z, [m]. A zero weight stays zero."""
    shares, gains = np.asarray(weights, dtype=np.float64), np.asarray(gain, dtype=np.float64)
    alive = shares > 0.0
    stepped = np.zeros_like(shares)
    stepped[alive] = softmax(np.log(shares[alive]) + gains[alive])
    return stepped


def mix_with_uniform(weights: npt.ArrayLike, share: float) -> Array:
    """(1 - share) weights + share / m, [m]: the smoothing that keeps every weight at least share / m."""
    shares = np.asarray(weights, dtype=np.float64)
    return (1.0 - share) * shares + share / shares.size


def floored(weights: npt.ArrayLike, floor: float) -> Array:
    """The mixture nearest to ``weights`` (in Kullback-Leibler divergence) whose every weight is at least ``floor``.

    Its form is max(floor, c weights_i), [m]: weights above the floor keep their ratios, the others sit on it. The
    number of weights that stay above is found by sorting, so the result is exact and needs no iteration.
    """
    shares = np.asarray(weights, dtype=np.float64)
    m = shares.size
    if not 0.0 <= floor * m <= 1.0 + 1e-12:
        raise MixerError(f"a floor of {floor:g} is not possible with {m} domains: use at most 1/m = {1.0 / m:g}")
    descending = np.sort(shares)[::-1]
    above = np.arange(1, m + 1)
    scale = np.maximum(1.0 - (m - above) * floor, 0.0) / np.cumsum(descending)
    possible = np.flatnonzero(scale * descending >= floor)
    if possible.size == 0:  # floor = 1/m, up to rounding
        return uniform(m)
    return np.maximum(floor, scale[possible[-1]] * shares)


def capped(weights: npt.ArrayLike, caps: npt.ArrayLike) -> Array:
    """The mixture nearest to ``weights`` (in Kullback-Leibler divergence) that gives no domain more than its cap.

    Its form is min(cap_i, c weights_i): [m], or [k, m] for rows of their own, with caps [m]. A zero weight stays zero
    (one below 2e-308 counts as zero), so the caps of the others must hold the whole: :class:`MixerError` where they sum
    to less than 1. The weights at their caps are found by sorting, so the result is exact and needs no iteration.
    """
    shares = np.atleast_2d(np.asarray(weights, dtype=np.float64))
    limits = np.minimum(np.broadcast_to(np.asarray(caps, dtype=np.float64), shares.shape), 1.0)
    there = shares >= np.finfo(np.float64).tiny
    shares, room = np.where(there, shares, 0.0), np.where(there, limits, 0.0)
    if float(room.sum(axis=1).min(initial=1.0)) < 1.0 - 1e-9:
        raise MixerError(
            f"caps of the domains with weight sum to {room.sum(axis=1).min():.3g}, which is no mixture; raise them to 1"
        )
    ratio = np.divide(limits, shares, out=np.full_like(shares, np.inf), where=there)
    order = np.argsort(ratio, axis=1, kind="stable")
    taken = np.cumsum(np.take_along_axis(room, order, axis=1), axis=1) - np.take_along_axis(room, order, axis=1)
    rest = np.cumsum(np.take_along_axis(shares, order, axis=1)[:, ::-1], axis=1)[:, ::-1]
    scale = np.divide(np.maximum(1.0 - taken, 0.0), rest, out=np.full_like(rest, np.inf), where=rest > 0.0)
    fits = scale <= np.take_along_axis(ratio, order, axis=1)  # with so many at their caps, the next one is below its
    first = np.where(fits.any(axis=1), fits.argmax(axis=1), shares.shape[1] - 1)
    scale = np.take_along_axis(scale, first[:, None], axis=1)
    result = np.minimum(room, shares * np.minimum(scale, 1e300))
    return np.asarray((result / result.sum(axis=1, keepdims=True)).reshape(np.shape(weights)))


def water_fill(total: float, caps: npt.ArrayLike) -> Array:
    """Spread ``total`` evenly, [m], giving no entry more than its cap and what is left over to the others.

    Works up from the smallest cap, so that every entry's even share of what remains is known when its turn comes.
    Where the caps cannot hold the total, every entry gets its cap.
    """
    limits = np.asarray(caps, dtype=np.float64)
    amounts = np.zeros_like(limits)
    left = float(total)
    for done, i in enumerate(np.argsort(limits, kind="stable")):
        amounts[i] = min(left / (limits.size - done), limits[i])
        left -= amounts[i]
    return amounts


def entropy(weights: npt.ArrayLike) -> float:
    """Shannon entropy in nats; log m for the uniform mixture, 0 for a single domain."""
    return float(special.entr(np.asarray(weights, dtype=np.float64)).sum())


def total_variation(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Half the L1 distance of two mixtures: the share of examples that would have to move, between 0 and 1."""
    return 0.5 * float(np.abs(np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)).sum())
