"""The best mixture of a surrogate: a large fixed sample, then a search around the best of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import sklearn

from tasks.base import FloatArray
from tasks.cache import content_key, load_arrays, save_arrays
from tasks.outcomes import FORMAT, Outcomes

SAMPLE = 4096  # a strength
STRENGTHS = (0.1, 0.3, 1.0, 3.0)  # of symmetric Dirichlets: from nearly one domain to nearly even
STARTS = 3
MOVES = (0.1, 0.03, 0.01, 0.003, 0.001)
MOST_MOVES = 60  # of one length
CHUNK = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The best mixture found, [m], and its mean losses, [n]. score: under the target shares."""

    mixture: FloatArray
    losses: FloatArray
    score: float


def best_mixture(outcomes: Outcomes) -> Best:
    """The mixture of the lowest mean loss under the target shares at the judged size, as far as a search finds it.

    Candidates: four strengths of Dirichlet samples, the table's rows, every domain alone, uniform, the train shares.
    From the three best ones, shares are moved between pairs of domains, as long as that lowers the loss, in ever
    smaller moves. A mixer may find a slightly better one, whose regret is then below zero. Cached by content.
    """
    counted = np.flatnonzero(outcomes.target_shares > 0).tolist()
    versions = [FORMAT, sklearn.__version__, outcomes.surrogate.name, outcomes.fingerprint]
    shares = [outcomes.target_shares.tolist(), outcomes.train_shares.tolist()]
    key = content_key("best", *versions, outcomes.table.sizes[outcomes.main].name, *shares)
    path = outcomes.cache / "tables" / f"{key}.npz"
    stored = load_arrays(path)
    if stored is None:
        arrays = outcomes.fits[outcomes.main].arrays

        def score(mixtures: FloatArray) -> FloatArray:
            total = np.zeros(len(mixtures))
            for begin in range(0, len(mixtures), CHUNK):
                part = slice(begin, begin + CHUNK)
                for j in counted:
                    total[part] += outcomes.target_shares[j] * outcomes.surrogate.predict(arrays[j], mixtures[part])
            return total

        stored = {"mixture": _search(score, _candidates(outcomes))}
        save_arrays(path, **stored)
    mixture = np.asarray(stored["mixture"], dtype=np.float64)
    losses = outcomes.losses(outcomes.main, mixture[None])[0]
    return Best(mixture=mixture, losses=losses, score=score_of(outcomes, losses))


def score_of(outcomes: Outcomes, losses: FloatArray) -> float:
    """Mean of [n] losses under the target shares; targets without a share need no loss."""
    counted = outcomes.target_shares > 0
    return float(losses[counted] @ outcomes.target_shares[counted])


def _candidates(outcomes: Outcomes) -> FloatArray:
    m = len(outcomes.table.domains)
    rng = np.random.default_rng(0)
    sampled = [rng.dirichlet(np.full(m, strength), SAMPLE) for strength in STRENGTHS]
    rows = outcomes.table.mixtures[outcomes.table.size == outcomes.main]
    return np.concatenate([*sampled, rows, np.eye(m), np.full((1, m), 1.0 / m), outcomes.train_shares[None]])


def _search(score: Callable[[FloatArray], FloatArray], candidates: FloatArray) -> FloatArray:
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
