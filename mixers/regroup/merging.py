"""Merging many small clusters into few groups, by their centroids and sizes."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from mixers.base import IntArray, MixerError
from mixers.regroup.clustering import Bill, Vectors

Linkage = Literal["ward", "average", "single"]
LINKAGES: tuple[Linkage, ...] = get_args(Linkage)


def merge(
    centroids: Vectors, sizes: IntArray, groups: int, *, linkage: Linkage, capacity: float, lab: Bill
) -> IntArray:
    """[k] group of each cluster, 0 to ``groups`` - 1: the two nearest groups are merged until so many are left.

    centroids: [k, d]. sizes: [k] examples of each cluster, above 0. linkage: ``ward``, the growth of the examples'
    squared distances to their group's centroid, |A| |B| / (|A| + |B|) times the squared distance of the two centroids;
    ``average``, the distance of their clusters' centroids, averaged by sizes; ``single``, the least such distance.
    capacity: no merge makes a group of more than this share of all examples; where that leaves nothing to merge, there
    are more groups than asked for. Lance and Williams' recurrences; k^3 operations at most, and k^2 numbers in memory.
    """
    k, weight = len(centroids), sizes.astype(np.float64)
    points = centroids.astype(np.float64)
    norms = (points**2).sum(axis=1)
    apart = np.maximum(norms[:, None] + norms[None] - 2.0 * points @ points.T, 0.0)
    apart = apart / (1.0 / weight[:, None] + 1.0 / weight[None]) if linkage == "ward" else np.sqrt(apart)
    np.fill_diagonal(apart, np.inf)
    limit = capacity * weight.sum() * (1 + 1e-12)
    apart[weight[:, None] + weight[None] > limit] = np.inf
    owner = np.arange(k)
    merges = 0
    for _ in range(k - groups):
        i, j = divmod(int(apart.argmin()), k)
        if not np.isfinite(apart[i, j]):
            break
        a, b = weight[i], weight[j]
        if linkage == "ward":
            row = ((a + weight) * apart[i] + (b + weight) * apart[j] - weight * apart[i, j]) / (a + b + weight)
        elif linkage == "average":
            row = (a * apart[i] + b * apart[j]) / (a + b)
        else:
            row = np.minimum(apart[i], apart[j])
        weight[i], merges = a + b, merges + 1
        row[weight + weight[i] > limit] = np.inf
        row[[i, j]] = np.inf
        apart[i], apart[:, i], apart[j], apart[:, j] = row, row, np.inf, np.inf
        owner[owner == j] = i
    lab.charge(2.0 * k * k * points.shape[1] + float(merges) * k * k, "merging of clusters")
    return np.unique(owner, return_inverse=True)[1].astype(np.int64)


def check_merging(name: str, groups: int, linkage: str, capacity: float) -> None:
    """Raise :class:`MixerError` in the name of a regrouper where one of its settings is none."""
    for valid, rule in (
        (groups >= 1, f"groups must be at least 1, not {groups}"),
        (linkage in LINKAGES, f"linkage is {', '.join(LINKAGES[:-1])} or {LINKAGES[-1]}, not {linkage}"),
        (1.0 / max(groups, 1) <= capacity <= 1.0, f"capacity must be from 1 / groups to 1, not {capacity}"),
    ):
        if not valid:
            raise MixerError(f"{name}: {rule}")
