"""The best mixture of a function on the simplex: a large fixed sample, then a search around the best of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tasks.base import FloatArray

SAMPLE = 4096  # a strength
STRENGTHS = (0.1, 0.3, 1.0, 3.0)  # of symmetric Dirichlets: from nearly one domain to nearly even
STARTS = 3
MOVES = (0.1, 0.03, 0.01, 0.003, 0.001)
MOST_MOVES = 60  # of one length


def search(score: Callable[[FloatArray], FloatArray], known: FloatArray) -> FloatArray:
    """[m] the mixture of the lowest score, [k, m] -> [k], as far as a search finds it.

    Candidates: four strengths of Dirichlet samples, every domain alone, uniform, and the ``known`` mixtures, [r, m].
    From the three best ones, shares are moved between pairs of domains, as long as that lowers the score, in ever
    smaller moves.
    """
    m = known.shape[1]
    if m == 1:
        return np.ones(1)
    rng = np.random.default_rng(0)
    sampled = [rng.dirichlet(np.full(m, strength), SAMPLE) for strength in STRENGTHS]
    candidates = np.concatenate([*sampled, known, np.eye(m), np.full((1, m), 1.0 / m)])
    values = score(candidates)
    ends = []
    for start in np.argsort(values, kind="stable")[:STARTS]:
        mixture, value = candidates[start], values[start]
        for length in MOVES:
            for _ in range(MOST_MOVES):
                moved = _moved(mixture, length)
                scores = score(moved)
                best = int(scores.argmin())
                if scores[best] >= value:
                    break
                mixture, value = moved[best], scores[best]
        ends.append((float(value), mixture))
    return min(ends, key=lambda end: end[0])[1]


def _moved(mixture: FloatArray, length: float) -> FloatArray:
    """[m (m - 1), m] mixtures with so much moved from one domain to another, or all that the one has."""
    m = len(mixture)
    giver, taker = np.nonzero(~np.eye(m, dtype=bool))
    amounts = np.minimum(length, mixture[giver])
    moved = np.repeat(mixture[None], len(giver), axis=0)
    moved[np.arange(len(giver)), giver] -= amounts
    moved[np.arange(len(giver)), taker] += amounts
    return moved
