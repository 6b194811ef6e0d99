"""R&B's Regroup: domains are k-means clusters of embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixers.base import MixerError
from mixers.regroup import clustering
from mixers.regroup.base import Grouping, Partition, Regrouper, RegroupLab

SWEEP_SEED = 0  # k belongs to the data: all seeds of an experiment share it


class KMeans(Regrouper):
    """Cluster the training examples by their embeddings, and send evaluation examples to the nearest centroid.

    Source: Regroup, Algorithm 2 and Appendix B.1.3 of *R&B: Domain Regrouping and Data Mixture Balancing* (arXiv
    2505.00358). Centroids come from training embeddings alone: a cluster that only evaluation data formed would have
    nothing to train on. With ``k=0`` the number of clusters is that of ``k_grid`` with the largest silhouette on
    training embeddings, the paper's algorithm (the smaller k on a tie). The paper's *experiments* chose k by training
    a model for every k; compared afterwards, the silhouette explained 0.05 to 0.90 of the loss's variance. On short
    texts its values are small (0.02 to 0.06) and it favours few clusters, so k is worth fixing and varying; the row
    holds all scores of the grid. The sweep draws fixed random numbers, not the trial's: its gaps are so narrow that
    two seeds would choose a different k, and a table would mix different numbers of domains.

    Not stated in the paper, chosen here: embeddings of unit length; k-means++ and Lloyd's iterations (scikit-learn),
    the best of ``n_init`` starts by inertia; the sweep fits each k to a fixed sample and scores it on a fixed part of
    that, as the silhouette's cost is quadratic. One thread, so that the partition cannot depend on the order in which
    threads add up.
    """

    name = "kmeans"

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """k: clusters; 0 chooses from ``k_grid`` by silhouette. embedder: ``auto`` or a name that the task knows.

        n_init, max_iter: starts, and iterations of each. fit_sample: training examples that the final clusters are
        fitted to at most (all examples are then assigned). sweep_sample, silhouette_sample: examples to fit, and to
        score, each k of the grid with; a k that exceeds them is left out.
        """

        k: int = 0
        k_grid: tuple[int, ...] = (4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 20, 24)
        embedder: str = "auto"
        n_init: int = 3
        max_iter: int = 100
        fit_sample: int = 100_000
        sweep_sample: int = 6_000
        silhouette_sample: int = 3_000

        def __post_init__(self) -> None:
            if self.k < 0 or (self.k == 0 and (not self.k_grid or min(self.k_grid) < 2)):
                raise MixerError("kmeans: k must be at least 1, or 0 with a k_grid of numbers from 2 up")
            if min(self.n_init, self.max_iter, self.fit_sample, self.sweep_sample, self.silhouette_sample) < 1:
                raise MixerError("kmeans: n_init, max_iter and the sample sizes must be at least 1")

    def regroup(self, grouping: Grouping, lab: RegroupLab) -> Partition:
        """The clusters, named by falling size: ``cluster-00`` is the largest."""
        from threadpoolctl import threadpool_limits

        c = self.config
        points = clustering.unit(lab.embeddings("train", c.embedder))
        evaluation = clustering.unit(lab.embeddings("validation", c.embedder))
        if c.k > min(len(points), c.fit_sample):
            raise MixerError(f"kmeans: k={c.k} exceeds the {min(len(points), c.fit_sample)} examples to fit; lower k")
        rng = np.random.default_rng(grouping.seed)
        with threadpool_limits(limits=1):
            fixed = np.random.default_rng(SWEEP_SEED)
            swept = clustering.sample(points, c.sweep_sample, fixed)
            judge = clustering.Silhouette(swept[: c.silhouette_sample], lab)
            scores = {} if c.k else self._sweep(swept, judge, fixed, lab)
            k = c.k or max(scores, key=lambda k: (scores[k], -k))
            fitted = clustering.sample(points, c.fit_sample, rng)
            centroids = clustering.fit(fitted, k, n_init=c.n_init, max_iter=c.max_iter, rng=rng, lab=lab)
            centroids, train = clustering.largest_first(centroids, clustering.nearest(points, centroids, lab))
            validation = clustering.nearest(evaluation, centroids, lab)
            silhouette = judge.score(clustering.nearest(judge.points, centroids, lab))
        width = max(2, len(str(len(centroids) - 1)))
        return Partition(
            domains=tuple(f"cluster-{i:0{width}d}" for i in range(len(centroids))),
            train=train,
            validation=validation,
            report={
                "k": len(centroids),  # fewer than asked for where examples coincide
                "k_chosen_by": "config" if c.k else "silhouette",
                "k_scores": {str(k): round(score, 4) for k, score in scores.items()},
                "silhouette": None if silhouette is None else round(silhouette, 4),
                "sizes": np.bincount(train).tolist(),
                "embedder": c.embedder,
                "dimensions": points.shape[1],
                **clustering.agreement(grouping.train, train),
            },
        )

    def _sweep(
        self, points: clustering.Vectors, judge: clustering.Silhouette, rng: np.random.Generator, lab: RegroupLab
    ) -> dict[int, float]:
        """The silhouette of every k of the grid that the data allow."""
        c = self.config
        scores: dict[int, float] = {}
        for k in sorted(set(c.k_grid)):
            if k <= len(points):
                centroids = clustering.fit(points, k, n_init=c.n_init, max_iter=c.max_iter, rng=rng, lab=lab)
                score = judge.score(clustering.nearest(judge.points, centroids, lab))
                if score is not None:
                    scores[k] = score
        if not scores:
            raise MixerError("kmeans: too few distinct examples to score any k of k_grid; set k")
        return scores
