"""What proxy runs have shown, and how far a recommendation goes beyond it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mixers.base import Array, BoolArray, IntArray, Problem

MOST = 0.5  # a recommendation of this much on one rare domain is called degenerate


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What runs have shown, with the domains in canonical order, so that their places and names change nothing.

    home: the problem in that order. inputs: [k, m + e], a run's mixture and, where runs differ in more, further
    columns. losses: [k, n], finite, of the targets that count; shares: [n], their weights. rows: [k] positions of the
    runs among all that were made; used: by target of the problem, whether it counts.
    """

    home: Problem
    inputs: Array
    losses: Array
    shares: Array
    rows: IntArray
    used: BoolArray

    @property
    def mixtures(self) -> Array:
        """[k, m]."""
        return self.inputs[:, : self.home.m]

    @property
    def values(self) -> Array:
        """[k] weighted losses: what is to be lowered."""
        return np.asarray(self.losses @ self.shares)

    @property
    def alike(self) -> BoolArray:
        """[k] which runs are at the largest value of every further column, and so can be compared with each other."""
        further = self.inputs[:, self.home.m :]
        return np.asarray((further == further.max(axis=0)).all(axis=1))


def cautions(home: Problem, x: Array, best: Array) -> dict[str, Any]:
    """How far the recommendation, [m], lies from the runs' mixtures, x [k, m], and what is odd about it."""
    # One run at a time: with many domains k^2 m numbers would not fit into memory.
    apart = np.stack([0.5 * np.abs(x - one).sum(axis=1) for one in x]) + 2.0 * np.eye(len(x))
    nearest, usual = float(0.5 * np.abs(x - best).sum(axis=1).min()), float(apart.min(axis=1).max())
    top = int(best.argmax())
    beyond = {home.domains[i]: float(x[:, i].max()) for i in np.flatnonzero(best > x.max(axis=0) + 1e-9)}
    found: dict[str, Any] = {"nearest_run": nearest, "farthest_neighbours": usual}
    if nearest > usual or beyond:
        found["out_of_support"] = {"beyond_largest_share": beyond}
    if best[top] >= MOST and home.train_shares[top] <= 0.5 / home.m:
        found["degenerate"] = {"domain": home.domains[top], "train_share": float(home.train_shares[top])}
    return found


def named(problem: Problem, weights: Array) -> dict[str, float]:
    """Shares above 0 by domain."""
    return {name: float(w) for name, w in zip(problem.domains, weights, strict=True) if w > 0.0}
