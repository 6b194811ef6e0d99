"""Seconds and memory of k-means with many clusters, as the regroupers ``climb`` and ``domain2vec`` use it.

    python -m benchmarks.kmeans_at_scale --points 1000000 --dimensions 384 --clusters 1000

Vectors of unit length around random centres of unequal size. Printed: seconds of the fit and of the assignment of all
points, the mean squared distance of some of them to the nearest centroid and to the nearest of the centres that they
were made from, and the process's peak memory, vectors included. ``--threads`` bounds what Faiss and BLAS may use.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
from threadpoolctl import threadpool_limits

from mixers.regroup import clustering

BLOCK = 50_000
JUDGED = 100_000  # points whose distances are printed


def vectors(n: int, d: int, centres: int, rng: np.random.Generator) -> tuple[clustering.Vectors, clustering.Vectors]:
    """[n, d] points of unit length, made in blocks so that memory holds them once, and their centres."""
    middles = clustering.unit(rng.normal(size=(centres, d)))
    share = rng.dirichlet(np.full(centres, 2.0))
    points = np.empty((n, d), dtype=np.float32)
    for i in range(0, n, BLOCK):
        part = points[i : i + BLOCK]
        rng.standard_normal(dtype=np.float32, out=part)
        part *= np.float32(1.0 / np.sqrt(d))
        part += middles[rng.choice(centres, size=len(part), p=share)]
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return points, middles


def inertia(points: clustering.Vectors, centroids: clustering.Vectors, labels: np.ndarray) -> float:
    total = 0.0
    for i in range(0, len(points), BLOCK):
        apart = points[i : i + BLOCK] - centroids[labels[i : i + BLOCK]]
        total += float(np.einsum("nd,nd->", apart, apart, dtype=np.float64))
    return total / len(points)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--clusters", type=int, default=1_000)
    parser.add_argument("--centres", type=int, default=1_000, help="what the vectors are made from")
    parser.add_argument("--sample", type=int, default=256, help="vectors a cluster that k-means is fitted to")
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--euclidean", action="store_true", help="centroids need not have unit length")
    parser.add_argument("--engine", choices=("auto", "faiss", "sklearn"), default="auto")
    parser.add_argument("--threads", type=int, default=None)
    asked = parser.parse_args()
    engine = clustering.engine_of(asked.engine)
    bill = clustering.Unbilled()
    with threadpool_limits(limits=asked.threads):
        if engine == "faiss" and asked.threads:
            import faiss

            faiss.omp_set_num_threads(asked.threads)
        points, middles = vectors(asked.points, asked.dimensions, asked.centres, np.random.default_rng(0))
        begin = time.perf_counter()
        centroids = clustering.fit_many(
            points,
            asked.clusters,
            spherical=not asked.euclidean,
            per_centroid=asked.sample,
            iterations=asked.iterations,
            n_init=1,
            engine=asked.engine,
            rng=np.random.default_rng(1),
            lab=bill,
        )
        fitted = time.perf_counter()
        labels = clustering.nearest_of_many(points, centroids, bill)
        assigned = time.perf_counter()
        some = points[:JUDGED]
        planted = inertia(some, middles, clustering.nearest_of_many(some, middles, bill))
    print(f"{asked.points} x {asked.dimensions} into {asked.clusters} by {engine}")
    print(f"fit         {fitted - begin:8.1f} s")
    print(f"assignment  {assigned - fitted:8.1f} s")
    found = inertia(some, centroids, labels[:JUDGED])
    print(f"mean squared distance {found:.4f}, to the planted centres {planted:.4f}")
    print(f"largest cluster {np.bincount(labels).max() / len(points):.4f} of the points")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:8.2f} GiB")


if __name__ == "__main__":
    main()
