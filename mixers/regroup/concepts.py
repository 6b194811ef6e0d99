"""From sparse codes to groups of concepts: a common space of two modalities, stability, the Bridge score, the graph.

Codes are sparse [n, c], dictionaries [c, d] with rows of unit length; see :mod:`mixers.regroup.sparse_autoencoder`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from mixers.base import BoolArray, IntArray, MixerError
from mixers.regroup import clustering
from mixers.regroup.base import RegroupLab
from mixers.regroup.clustering import Vectors

Matrix = npt.NDArray[np.float64]
COMPONENTS_COST = 10.0  # x n^3 FLOPs, for singular or eigenvectors of an [n, n] matrix


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """Where the modalities meet. means: [d_v] a view v; axes: [d_v, d] a view, orthonormal columns."""

    means: tuple[Vectors, ...]
    axes: tuple[Vectors, ...]

    def of(self, view: int, vectors: npt.ArrayLike, lab: RegroupLab) -> Vectors:
        """[n, d] unit vectors of one modality's embeddings [n, d_v]; a row without length stays zero."""
        points = clustering.unit(vectors)
        lab.charge(2.0 * len(points) * self.axes[view].size, "common space: projection")
        points[np.any(points, axis=1)] -= self.means[view]
        return clustering.unit(points @ self.axes[view])


def common_space(views: Sequence[npt.ArrayLike], dimensions: int, *, centre: bool, lab: RegroupLab) -> Space:
    """Of one modality its principal components; of two the directions in which pairs vary together the most.

    The latter are the singular vectors of the cross-covariance of unit vectors (partial least squares): dimension i of
    one modality goes with dimension i of the other, as the towers of a CLIP were trained to do. At most
    ``dimensions``, and no more than either view has. centre: whether a modality's mean is taken off.
    """
    points = [clustering.unit(view) for view in views]
    means = [each.mean(axis=0) if centre else np.zeros(each.shape[1], dtype=np.float32) for each in points]
    one, other = points[0] - means[0], points[-1] - means[-1]
    left, values, right = np.linalg.svd(one.T @ other, full_matrices=False)
    sizes = one.shape[1], other.shape[1]
    lab.charge(2.0 * len(one) * sizes[0] * sizes[1] + COMPONENTS_COST * max(sizes) * min(sizes) ** 2, "common space")
    count = min(dimensions, max(1, int(np.sum(values > values[0] * np.finfo(np.float32).eps))))
    axes = (left[:, :count], right[:count].T)
    return Space(
        means=tuple(means),
        axes=tuple(np.ascontiguousarray(a, dtype=np.float32) for a in axes[: len(points)]),
    )


def order_by_content(views: Sequence[Vectors]) -> IntArray:
    """An order of the examples that depends on their vectors alone; equal ones may change places."""
    rows = zip(*(np.ascontiguousarray(view, dtype=np.float32) for view in views), strict=True)
    digests = [hashlib.blake2b(b"".join(part.tobytes() for part in row), digest_size=8).digest() for row in rows]
    return np.argsort(np.frombuffer(b"".join(digests), dtype=">u8"), kind="stable")


def matched(dictionary: Vectors, other: Vectors, lab: RegroupLab) -> Matrix:
    """[c] cosine of each concept with its partner in the one-to-one matching of the greatest sum; -1 without one.

    Stability of Papadimitriou et al. is the mean of these.
    """
    from scipy.optimize import linear_sum_assignment

    cosines = (dictionary @ other.T).astype(np.float64)
    rows, columns = linear_sum_assignment(-cosines)
    lab.charge(2.0 * cosines.size * dictionary.shape[1] + float(max(cosines.shape)) ** 3, "concepts: matching")
    found = np.full(len(dictionary), -1.0)
    found[rows] = cosines[rows, columns]
    return found


def bridge(one: csr_array, other: csr_array, dictionary: Vectors, lab: RegroupLab) -> Matrix:
    """[c, c] Bridge score E_pairs[z_one^T z_other] (elementwise product) D D^T (2504.11695).

    Large where concept i of the first modality and j of the second fire for the same pairs and point the same way.
    """
    n, c = one.shape
    together = (one.T @ other).toarray().astype(np.float64) / max(n, 1)
    products = float(np.dot(np.diff(one.indptr), np.diff(other.indptr)))
    lab.charge(2.0 * (products + c * dictionary.size), "concepts: bridge scores")
    return np.asarray(together * (dictionary.astype(np.float64) @ dictionary.T.astype(np.float64)))


def graph(scores: Matrix, quantile: float) -> Matrix:
    """[c, c] symmetric weights: the mean of a score and its transpose, where it is one of the large ones for an end.

    Large: not below that ``quantile`` of a concept's own positive scores. One bar for all would leave the concepts of
    rare examples without any edge, as the score grows with the share of examples for which both fire. Without loops: a
    concept that both modalities share ties nothing to anything else.
    """
    weights = np.maximum((scores + scores.T) / 2.0, 0.0)
    np.fill_diagonal(weights, 0.0)
    bars = np.array([np.quantile(row[row > 0.0], quantile) if row.any() else np.inf for row in weights])
    return np.where(weights >= np.minimum(bars[:, None], bars), weights, 0.0)


def parts(weights: Matrix) -> int:
    """Number of connected components, concepts without an edge included."""
    from scipy.sparse.csgraph import connected_components

    count, _ = connected_components(csr_array(weights), directed=False)
    return int(count)


def communities(weights: Matrix, k: int, *, rng: np.random.Generator, lab: RegroupLab) -> IntArray:
    """[c] group of every concept, ``k`` groups by spectral clustering; -1 for concepts without an edge.

    k-means on unit rows of the k leading eigenvectors of the normalised weights. A tenth of the mean degree is spread
    over all pairs first (regularised spectral clustering, Amini et al. 2013): otherwise every three concepts that hang
    together by themselves are as good a group as any, and the body of the graph stays whole.
    """
    from scipy.linalg import eigh

    linked = np.flatnonzero(weights.sum(axis=1) > 0.0)
    c = len(linked)
    if c < k:
        raise MixerError(
            f"sae: {c} concepts hang together, too few for k={k} groups; lower k, stability, low_energy or "
            "bridge_quantile, or raise steps"
        )
    inner = weights[np.ix_(linked, linked)]
    inner = inner + 0.1 * inner.sum() / c**2
    degrees = 1.0 / np.sqrt(inner.sum(axis=1))
    _, vectors = eigh(inner * degrees[:, None] * degrees, subset_by_index=(c - k, c - 1))
    lab.charge(COMPONENTS_COST * float(c) ** 3, "concepts: eigenvectors")
    rows = clustering.unit(vectors)
    centres = clustering.fit(rows, k, n_init=10, max_iter=100, rng=rng, lab=lab)
    found = np.full(len(weights), -1, dtype=np.int64)
    found[linked] = clustering.nearest(rows, centres, lab)
    return found


def attached(groups: IntArray, dictionary: Vectors, energy: Matrix, lab: RegroupLab) -> IntArray:
    """The groups with every concept of none, -1, put where its direction is nearest."""
    centres = centroids(dictionary, energy, groups)
    return np.where(groups < 0, clustering.nearest(dictionary, centres, lab), groups)


def centroids(dictionary: Vectors, energy: Matrix, groups: IntArray) -> Vectors:
    """[k, d] unit directions of the groups 0..k-1: sums of their concepts, weighted by energy [c]."""
    total = np.zeros((int(groups.max(initial=0)) + 1, dictionary.shape[1]))
    inside = groups >= 0
    np.add.at(total, groups[inside], energy[inside, None] * dictionary[inside])
    return clustering.unit(total)


def strongest(views: Sequence[csr_array], groups: IntArray, lab: RegroupLab) -> IntArray:
    """[n] group of the largest sum of an example's codes, over all its views; the first on a tie, -1 without a code."""
    members = np.eye(int(groups.max(initial=0)) + 1)[groups]
    energies = np.sum([codes.astype(np.float64) @ members for codes in views], axis=0)
    lab.charge(2.0 * sum(codes.nnz for codes in views), "concepts: energies of groups")
    return np.where(energies.max(axis=1) > 0.0, np.argmax(energies, axis=1), -1)


def agreeing(views: Sequence[csr_array], groups: IntArray, lab: RegroupLab) -> float | None:
    """Share of the pairs whose modalities alone give one group, of those where both have one; ``None`` without any."""
    one, other = (strongest([codes], groups, lab) for codes in (views[0], views[-1]))
    both = (one >= 0) & (other >= 0)
    return round(float(np.mean(one[both] == other[both])), 4) if len(views) > 1 and both.any() else None


def merged(
    groups: IntArray, views: Sequence[csr_array], dictionary: Vectors, energy: Matrix, smallest: float, lab: RegroupLab
) -> IntArray:
    """Groups renumbered 0..k-1, of which each is the strongest for at least one and a share ``smallest`` of examples.

    The smallest joins the one whose direction is nearest, until all are large enough or one is left.
    """
    while True:
        _, groups = np.unique(groups, return_inverse=True)
        k = int(groups.max(initial=0)) + 1
        found = strongest(views, groups, lab)
        sizes = np.bincount(found[found >= 0], minlength=k)
        least = int(np.argmin(sizes))
        if k == 1 or sizes[least] >= max(1.0, smallest * len(found)):
            return groups
        centres = centroids(dictionary, energy, groups)
        cosines = centres @ centres[least]
        cosines[least] = -np.inf
        groups = np.where(groups == least, int(np.argmax(cosines)), groups)


def living(energies: Matrix, low_energy: float) -> BoolArray:
    """[c] concepts that fire at all, with at least ``low_energy`` times the mean energy of those that do."""
    firing = energies > 0.0
    if not firing.any():
        return firing
    return np.asarray(firing & (energies >= low_energy * energies[firing].mean()))
