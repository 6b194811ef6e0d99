"""The shared mathematics of regrouping by embeddings; every function that costs anything writes it on the lab's bill.

Points and centroids are float32, [n, d] and [k, d]. scikit-learn is imported where it is used: it is slow to load.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mixers.base import IntArray, MixerError
from mixers.regroup.base import RegroupLab

Vectors = npt.NDArray[np.float32]
ROWS = 65_536  # points assigned at a time, so that memory stays bounded


def unit(vectors: npt.ArrayLike) -> Vectors:
    """Rows scaled to unit length; a zero row stays zero. :class:`MixerError` where a value is not finite."""
    points = np.array(vectors, dtype=np.float32)
    if not np.all(np.isfinite(points)):
        raise MixerError("an embedding holds a value that is not finite")
    norms = np.linalg.norm(points, axis=1, keepdims=True)
    return np.divide(points, norms, out=points, where=norms > 0.0)


def sample(points: Vectors, size: int, rng: np.random.Generator) -> Vectors:
    """``size`` of the points (all, where there are no more), in random order."""
    return points[rng.permutation(len(points))[:size]]


def fit(points: Vectors, k: int, *, n_init: int, max_iter: int, rng: np.random.Generator, lab: RegroupLab) -> Vectors:
    """k-means centroids: k-means++ and Lloyd's iterations, the start with the least inertia of ``n_init``."""
    from sklearn.cluster import KMeans

    n, d = points.shape
    starts = []
    for _ in range(n_init):  # here rather than in scikit-learn, which tells the iterations of the best start only
        start = KMeans(k, n_init=1, max_iter=max_iter, random_state=int(rng.integers(2**31))).fit(points)
        seeding = 2.0 * n * k * d * (2 + int(np.log(k)))  # greedy k-means++ tries 2 + log k points a centroid
        lab.charge(3.0 * start.n_iter_ * n * k * d + seeding, f"k-means: fit of k={k}")
        starts.append(start)
    return min(starts, key=lambda start: float(start.inertia_)).cluster_centers_.astype(np.float32)


def nearest(points: Vectors, centroids: Vectors, lab: RegroupLab) -> IntArray:
    """[n] index of each point's nearest centroid in Euclidean distance; the first on a tie."""
    offset = (centroids**2).sum(axis=1)
    labels = np.empty(len(points), dtype=np.int64)
    for i in range(0, len(points), ROWS):
        labels[i : i + ROWS] = np.argmin(offset - 2.0 * points[i : i + ROWS] @ centroids.T, axis=1)
    lab.charge(2.0 * len(points) * centroids.size, "k-means: assignment")
    return labels


def largest_first(centroids: Vectors, labels: IntArray) -> tuple[Vectors, IntArray]:
    """Centroids and labels renumbered from the largest cluster to the smallest; clusters without a point are gone."""
    sizes = np.bincount(labels, minlength=len(centroids))
    order = np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes)]
    rank = np.zeros(len(centroids), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return centroids[order], rank[labels]


class Silhouette:
    """Mean silhouette of labels on fixed points, whose distances are computed once for all labellings."""

    def __init__(self, points: Vectors, lab: RegroupLab) -> None:
        from sklearn.metrics import pairwise_distances

        self.points = points
        self.lab = lab
        self.distances = pairwise_distances(points)
        np.fill_diagonal(self.distances, 0.0)  # rounding leaves traces that scikit-learn refuses
        lab.charge(2.0 * len(points) ** 2 * points.shape[1], "silhouette: distances")

    def score(self, labels: IntArray) -> float | None:
        """In [-1, 1], larger is better; ``None`` where undefined: one cluster only, or each point its own."""
        from sklearn.metrics import silhouette_score

        if not 2 <= len(np.unique(labels)) < len(labels):
            return None
        self.lab.charge(float(len(labels) ** 2), "silhouette: scores")
        return float(silhouette_score(self.distances, labels, metric="precomputed"))


def agreement(original: IntArray, labels: IntArray) -> dict[str, float]:
    """How far new labels repeat the original ones: 1 is the same cut, an adjusted Rand index of 0 is chance."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    return {
        "adjusted_rand_index": round(float(adjusted_rand_score(original, labels)), 4),
        "normalised_mutual_information": round(float(normalized_mutual_info_score(original, labels)), 4),
    }
