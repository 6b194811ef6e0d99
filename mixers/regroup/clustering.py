"""The shared mathematics of regrouping by embeddings; every function that costs anything writes it on the lab's bill.

Points and centroids are float32, [n, d] and [k, d]. scikit-learn is imported where it is used: it is slow to load.
"""

from __future__ import annotations

import importlib.util
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from mixers.base import IntArray, MixerError

Engine = Literal["auto", "faiss", "sklearn"]
Vectors = npt.NDArray[np.float32]
ROWS = 65_536  # points assigned at a time, so that memory stays bounded
SCORES = 16_777_216  # distances held at a time where there are many centroids: 64 MiB


class Bill(Protocol):
    """Where FLOPs are written: a :class:`mixers.regroup.base.RegroupLab`, or whoever stands in for it."""

    def charge(self, flops: float, what: str) -> None:
        """Add FLOPs."""
        ...


class Unbilled:
    """A :class:`Bill` for arithmetic that stands on a mixer's bill as seconds."""

    def charge(self, flops: float, what: str) -> None:
        """Nothing."""


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


def fit(points: Vectors, k: int, *, n_init: int, max_iter: int, rng: np.random.Generator, lab: Bill) -> Vectors:
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


def engine_of(engine: Engine) -> Literal["faiss", "sklearn"]:
    """What fits many clusters: ``auto`` is Faiss where it is installed. Raises :class:`MixerError` where it is not."""
    there = importlib.util.find_spec("faiss") is not None
    if engine == "faiss" and not there:
        raise MixerError('faiss is not installed: pip install -e ".[faiss]", or use engine=sklearn')
    return "faiss" if there and engine != "sklearn" else "sklearn"


def fit_many(
    points: Vectors,
    k: int,
    *,
    spherical: bool,
    per_centroid: int,
    iterations: int,
    n_init: int,
    engine: Engine,
    rng: np.random.Generator,
    lab: Bill,
) -> Vectors:
    """Centroids of k-means with very many clusters, fitted to ``per_centroid`` random points a cluster at most.

    spherical: centroids of unit length, by cosine. Faiss starts from random points and makes all its iterations, the
    best of ``n_init`` starts by objective; the result is the same for any number of threads. scikit-learn starts with
    k-means++, ends when it converges, and, where spherical, scales centroids at the end only. The engines' centroids
    differ.
    """
    fitted = sample(points, k * per_centroid, rng)
    n, d = fitted.shape
    if engine_of(engine) == "sklearn":
        from threadpoolctl import threadpool_limits

        with threadpool_limits(limits=1):  # its sums depend on the order in which threads add up
            centroids = fit(fitted, k, n_init=n_init, max_iter=iterations, rng=rng, lab=lab)
        return unit(centroids) if spherical else centroids
    import faiss

    start = faiss.Kmeans(
        d,
        k,
        niter=iterations,
        nredo=n_init,
        spherical=spherical,
        seed=int(rng.integers(2**31)),
        min_points_per_centroid=1,  # it warns on standard error otherwise
        max_points_per_centroid=per_centroid + 1,  # the sample is ours
    )
    start.train(fitted)
    lab.charge(2.0 * n_init * iterations * n * k * d, f"k-means: fit of k={k}")
    return np.array(start.centroids, dtype=np.float32).reshape(k, d)


def nearest_of_many(points: Vectors, centroids: Vectors, lab: Bill) -> IntArray:
    """As :func:`nearest`, in parts whose distances to many centroids fit into little memory."""
    return nearest(points, centroids, lab, rows=max(1, SCORES // len(centroids)))


def nearest(points: Vectors, centroids: Vectors, lab: Bill, rows: int = ROWS) -> IntArray:
    """[n] index of each point's nearest centroid in Euclidean distance; the first on a tie. rows: at a time.

    On one thread: products on several round otherwise, which decides between centroids that are nearly as near.
    """
    from threadpoolctl import threadpool_limits

    offset = (centroids**2).sum(axis=1)
    labels = np.empty(len(points), dtype=np.int64)
    with threadpool_limits(limits=1, user_api="blas"):
        for i in range(0, len(points), rows):
            labels[i : i + rows] = np.argmin(offset - 2.0 * points[i : i + rows] @ centroids.T, axis=1)
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

    def __init__(self, points: Vectors, lab: Bill) -> None:
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
