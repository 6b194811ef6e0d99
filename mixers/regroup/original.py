"""The domains as the data came labelled."""

from __future__ import annotations

import numpy as np

from mixers.regroup.base import Grouping, Partition, Regrouper, RegroupLab


class Original(Regrouper):
    """Keep the original domains. Buys nothing."""

    name = "original"

    def regroup(self, grouping: Grouping, lab: RegroupLab) -> Partition:
        """The original labels, unchanged."""
        sizes = np.bincount(grouping.train, minlength=len(grouping.domains))
        return Partition(
            domains=grouping.domains,
            train=grouping.train,
            validation=grouping.validation,
            report={"k": len(grouping.domains), "sizes": sizes.tolist()},
        )
