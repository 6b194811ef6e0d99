"""What every regrouper that clusters points tells about its cut, so that the rows of all of them read alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mixers.base import IntArray, MixerError
from mixers.regroup import clustering
from mixers.regroup.base import Grouping, RegroupLab

SILHOUETTE_SAMPLE = 3_000  # points; its cost is quadratic
STABILITY_SAMPLE = 100_000  # points


def describe(
    points: clustering.Vectors, labels: IntArray, again: Sequence[IntArray], grouping: Grouping, lab: RegroupLab
) -> dict[str, Any]:
    """JSON-able: number and sizes of the domains, silhouette, stability over seeds, agreement with the original labels.

    points: [n, d] unit vectors of the training examples. labels: [n] their new domains, all of 0..k-1 in use. again:
    label vectors [n] of the same points by the same procedure under other seeds; their numbering does not matter.

    ``stability`` is the mean adjusted Rand index between ``labels`` and each of ``again``: 1 where every seed makes
    the same cut, 0 where two seeds agree as chance does; ``None`` without other seeds. It counts seeds against this
    one, not against each other. ``largest_share`` is that of the largest domain: near one where merging has chained.
    The silhouette (of Euclidean distances, ``None`` where undefined) and the stability are taken on fixed samples.
    """
    from sklearn.metrics import adjusted_rand_score
    from threadpoolctl import threadpool_limits

    lengths = {len(points), len(labels), len(grouping.train), *map(len, again)}
    if len(lengths) > 1:
        raise MixerError(
            "describe: points, labels, the labels of other seeds and the original ones must be of one length, not "
            + ", ".join(map(str, sorted(lengths)))
        )
    order = np.random.default_rng(0).permutation(len(points))
    judged, compared = order[:SILHOUETTE_SAMPLE], order[:STABILITY_SAMPLE]
    with threadpool_limits(limits=1):  # sums must not depend on how threads share them
        silhouette = clustering.Silhouette(points[judged], lab).score(labels[judged])
    stability = [float(adjusted_rand_score(labels[compared], other[compared])) for other in again]
    sizes = np.bincount(labels)
    return {
        "k": len(sizes),
        "sizes": sizes.tolist(),
        "largest_share": round(float(sizes.max() / sizes.sum()), 4),
        "silhouette": None if silhouette is None else round(silhouette, 4),
        "stability": round(float(np.mean(stability)), 4) if stability else None,
        "stability_seeds": len(stability),
        "dimensions": points.shape[1],
        **clustering.agreement(grouping.train, labels),
    }
