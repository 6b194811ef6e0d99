"""Ways to the mixture of least predicted loss: the best of many draws, a search around a mixture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mixers.base import Array, IntArray
from mixers.surrogates import Surrogate

ROWS = 20_000  # mixtures that are predicted at once


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
