"""The control of ``kmeans``: its cluster sizes, without its clusters."""

from __future__ import annotations

import numpy as np

from mixers.regroup import clustering, kmeans
from mixers.regroup.base import Grouping, Partition, Regrouper, RegroupLab


class Random(Regrouper):
    """Shuffle the labels that ``kmeans`` gives, within train and within validation.

    The number of domains and their sizes in both splits stay those of ``kmeans``; which examples belong together is
    left to chance. Every shuffled domain is then much like the whole, so the target shares, which weigh validation
    examples by their original domain, come close to the clusters' plain shares of the validation data. Same config as
    ``kmeans``, and with the same seed the same clusters before they are shuffled.
    """

    name = "random"
    Config = kmeans.KMeans.Config

    def regroup(self, grouping: Grouping, lab: RegroupLab) -> Partition:
        """The shuffled partition; its report holds that of the partition before."""
        clusters = kmeans.KMeans(self.config).regroup(grouping, lab)
        rng = np.random.default_rng([grouping.seed, 1])  # another stream than the clustering's
        train = rng.permutation(clusters.train)
        shared = {key: clusters.report[key] for key in ("k", "sizes", "embedder", "dimensions")}
        return Partition(
            domains=tuple(name.replace("cluster", "random") for name in clusters.domains),
            train=train,
            validation=rng.permutation(clusters.validation),
            report={
                **shared,
                **clustering.agreement(grouping.train, train),
                "before_shuffling": {key: value for key, value in clusters.report.items() if key not in shared},
            },
        )
