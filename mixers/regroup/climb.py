"""CLIMB's regrouper: many small clusters, of which poor ones are set apart and the others merged into few groups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixers.base import Array, IntArray, MixerError
from mixers.regroup import clustering
from mixers.regroup.base import Grouping, Partition, Regrouper, RegroupLab
from mixers.regroup.clustering import Engine, Vectors, engine_of
from mixers.regroup.merging import Linkage, check_merging, merge
from mixers.regroup.report import describe

PRUNED = -1


class Climb(Regrouper):
    """k-means with very many clusters, pruning by mean quality, and agglomeration of the centroids to few groups.

    Source: the data preparation of *Nemotron-CLIMB* (arXiv 2504.13161), known here from notes on the paper and on a
    reproduction that quotes it (liujin99/climbmix); NVIDIA has published data, no code. There: spherical k-means of
    Faiss into 1,000 clusters of stella_en_400M_v5 embeddings; clusters of mean quality below 3.0 (of 1 to 5) are
    dropped, about 240 stay; those whose centroids are nearer than 1.5 are merged to 16 or 21 groups (the notes differ).

    **Pruning is off by default.** The paper's scores come from four fastText classifiers, distilled from a million
    labels of a model of 340 billion parameters; weights of several GB each are released, and nothing here stands in for
    them. A task may bring a scorer of its own (``scorer=NAME``, ``tasks.base.TrainableTask.qualities``; none of the
    package's does). ``compactness``, the mean cosine of a cluster's examples with its centroid, needs no scorer; it
    measures how alike examples are, which is not quality: boilerplate is compact.

    **Pruned examples stay in the corpus.** Every example has a domain, and all partitions of a task have the same
    examples, so that their rows can be compared; what the paper drops becomes one more domain, ``pruned``, the last.
    A mixer may give it nothing; ``natural`` and ``uniform`` train on it, which the paper's baselines do not.

    Choices:

    - Merging goes on to a number of groups, not to a distance, which would be the embedder's own: 15, the best of 15,
      21 and 30 in the paper. Ward's linkage, weighted by examples: whether the paper's threshold chains (``single``) or
      not is not stated, nor whether its centroids have unit length; the reproduction met one group with 98 % of the
      data. Of the text task's 33,168 windows the largest of 15 groups holds 99.6 % by ``single``, 73 % by ``average``
      and 12 % by ``ward``; ``capacity`` bounds what a merge makes (``single`` with 0.2: five groups of 13 to 20 % and
      eight of at most 41 windows). The report's ``largest_share`` tells.
    - Fewer clusters than ``k_init`` where there are less than ``per_cluster`` examples for each.
    - Validation examples belong to the group of their nearest cluster; they move no centroid.
    - Groups are named by falling size. The seed of the trial decides over the clusters.
    """

    name = "climb"

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """k_init: clusters before merging (paper: 1,000), if there are ``per_cluster`` examples for each. groups: then.

        embedder: ``auto`` or a name that the task knows. spherical: k-means by cosine. iterations, n_init, sample: of
        k-means, with so many examples a cluster to fit to. engine: see :func:`mixers.regroup.clustering.fit_many`.
        linkage, capacity: see :func:`mixers.regroup.merging.merge`. scorer: ``none``, ``compactness`` or a name that
        the task knows. min_quality: of a cluster that stays (paper: 3.0); ``None``: the best share ``keep`` of the
        clusters stays (paper: 240 of 1,000). stability_seeds: cuts by other seeds that this one is compared with.
        """

        k_init: int = 1_000
        per_cluster: int = 10
        groups: int = 15
        embedder: str = "auto"
        spherical: bool = True
        iterations: int = 20
        n_init: int = 1
        sample: int = 256
        engine: Engine = "auto"
        linkage: Linkage = "ward"
        capacity: float = 1.0
        scorer: str = "none"
        min_quality: float | None = None
        keep: float = 0.24
        stability_seeds: int = 2

        def __post_init__(self) -> None:
            check_merging("climb", self.groups, self.linkage, self.capacity)
            for valid, rule in (
                (self.k_init >= self.groups, f"k_init must be at least groups={self.groups}, not {self.k_init}"),
                (
                    min(self.per_cluster, self.iterations, self.n_init, self.sample) >= 1,
                    "per_cluster, iterations, n_init and sample must be at least 1",
                ),
                (self.engine in ("auto", "faiss", "sklearn"), f"engine is auto, faiss or sklearn, not {self.engine}"),
                (0.0 < self.keep <= 1.0, f"keep must be in (0, 1], not {self.keep}"),
                (self.stability_seeds >= 0, f"stability_seeds must be at least 0, not {self.stability_seeds}"),
            ):
                if not valid:
                    raise MixerError(f"climb: {rule}")

    def regroup(self, grouping: Grouping, lab: RegroupLab) -> Partition:
        """The groups, ``group-00`` the largest, and after them ``pruned`` where there is any."""
        c = self.config
        points = clustering.unit(lab.embeddings("train", c.embedder))
        evaluation = clustering.unit(lab.embeddings("validation", c.embedder))
        scores = None if c.scorer in ("none", "compactness") else lab.qualities("train", c.scorer)
        seeds = np.random.SeedSequence(grouping.seed).spawn(1 + c.stability_seeds)
        cuts = [self._cut(points, scores, np.random.default_rng(seed), lab) for seed in seeds]
        centroids, clusters, groups, quality = cuts[0]
        pruned = groups == PRUNED
        groups = np.where(pruned, groups.max() + 1, groups)
        k = int(groups.max()) + 1
        names = [f"group-{i:0{max(2, len(str(k - 1)))}d}" for i in range(k)]
        if pruned.any():
            names[-1] = "pruned"
        train = groups[clusters]
        again = [found[2][found[1]] for found in cuts[1:]]
        return Partition(
            domains=tuple(names),
            train=train,
            validation=groups[clustering.nearest_of_many(evaluation, centroids, lab)],
            report={
                **describe(points, train, again, grouping, lab),
                "embedder": c.embedder,
                "engine": engine_of(c.engine),
                "clusters": len(centroids),
                "linkage": c.linkage,
                "scorer": c.scorer,
                "pruned_clusters": int(pruned.sum()),
                "pruned_share": round(float(pruned[clusters].mean()), 4),
                **({} if quality is None else {"quality_kept": _mean(quality[~pruned])}),
                **({"quality_pruned": _mean(quality[pruned])} if quality is not None and pruned.any() else {}),
            },
        )

    def _cut(
        self, points: Vectors, scores: Array | None, rng: np.random.Generator, lab: RegroupLab
    ) -> tuple[Vectors, IntArray, IntArray, Array | None]:
        """Centroids [k, d], each point's cluster [n], each cluster's group [k] or -1, and its mean quality [k]."""
        c = self.config
        k = min(c.k_init, max(min(c.groups, len(points)), len(points) // c.per_cluster))
        centroids = clustering.fit_many(
            points,
            k,
            spherical=c.spherical,
            per_centroid=c.sample,
            iterations=c.iterations,
            n_init=c.n_init,
            engine=c.engine,
            rng=rng,
            lab=lab,
        )
        centroids, clusters = clustering.largest_first(centroids, clustering.nearest_of_many(points, centroids, lab))
        sizes = np.bincount(clusters)
        quality = None
        if c.scorer != "none":
            directions = centroids if scores is not None else clustering.unit(centroids)
            values = scores if scores is not None else np.einsum("nd,nd->n", points, directions[clusters])
            quality = np.bincount(clusters, weights=values) / sizes
        stays = np.ones(len(sizes), dtype=bool) if quality is None else self._good(quality)
        merged = merge(centroids[stays], sizes[stays], c.groups, linkage=c.linkage, capacity=c.capacity, lab=lab)
        order = np.argsort(-np.bincount(merged, weights=sizes[stays]), kind="stable")
        groups = np.full(len(sizes), PRUNED)
        groups[stays] = np.argsort(order)[merged]
        return centroids, clusters, groups, quality

    def _good(self, quality: Array) -> Array:
        """[k] whether a cluster stays."""
        c = self.config
        if c.min_quality is None:
            return np.asarray(quality >= np.sort(quality)[-max(1, round(c.keep * len(quality)))])
        if not (quality >= c.min_quality).any():
            raise MixerError(
                f"climb: no cluster has a mean quality of {c.min_quality}; the best has {quality.max():.3g}"
            )
        return np.asarray(quality >= c.min_quality)


def _mean(values: Array) -> float:
    return round(float(values.mean()), 4)
