"""The domains as the data came labelled."""

from __future__ import annotations

import numpy as np

from mixers.regroup.base import Grouping, Partition, Regrouper, RegroupLab


class Original(Regrouper):
    """Keep the original domains. Buys nothing."""

    name = "original"

    def regroup(self, grouping: Grouping, lab: RegroupLab) -> Partition:
        """The original labels: domains with training examples, and apart from them those with validation examples."""
        sizes = np.bincount(grouping.train, minlength=len(grouping.domains))
        domains = np.flatnonzero(sizes)
        targets = np.unique(grouping.validation)
        same = np.isin(targets, domains).all()
        return Partition(
            domains=tuple(grouping.domains[i] for i in domains),
            train=np.searchsorted(domains, grouping.train),
            validation=np.searchsorted(domains if same else targets, grouping.validation),
            targets=() if same else tuple(grouping.domains[i] for i in targets),
            report={"k": len(domains), "sizes": sizes[domains].tolist()},
        )
