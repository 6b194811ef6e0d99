"""The mixture of given distributions that comes nearest to another one, in the Huber distance."""

from __future__ import annotations

import numpy as np

from mixers import convex, simplex
from mixers.base import Array

TOLERANCE = 1e-6  # of a distance that lies between 0 and 2
LIKE = 1e-3  # slopes, and vectors, that differ by less are equal: the solve leaves as much


def huber(apart: Array, delta: float) -> float:
    """Sum over differences of their square / (2 delta), and of |difference| - delta / 2 where that exceeds delta.

    The Huber distance over delta: nearly the sum of absolute differences where these are large.
    """
    size = np.abs(apart)
    return float(np.where(size <= delta, size**2 / (2.0 * delta), size - delta / 2.0).sum())


def align(vectors: Array, target: Array, prior: Array, *, caps: Array, delta: float, kl: float) -> Array:
    """[m] the mixture r <= caps of least huber(r @ vectors - target) + kl KL(r || prior), to within ``TOLERANCE``.

    vectors: [m, k]. target: [k]. prior: [m], where the solve starts. caps: [m]; where they sum to less than one, what
    they allow in proportion.
    """
    return convex.solve(
        lambda r: vectors @ np.clip((r @ vectors - target) / delta, -1.0, 1.0),
        prior,
        caps=caps if caps.sum() >= 1.0 else simplex.normalise(caps),
        kl=kl,
        tolerance=TOLERANCE,
        value=lambda r: huber(r @ vectors - target, delta),
    )


def unique(mixture: Array, vectors: Array, target: Array, *, caps: Array, delta: float) -> bool:
    """Whether no other mixture is as near as this answer of :func:`align` without ``kl``; false where that is not sure.

    Only domains of the least slope can move without loss, and they can where that changes no difference up to
    ``delta``: beyond it the distance is a sum of amounts, and what one difference gains another loses.
    """
    apart = mixture @ vectors - target
    slope = vectors @ np.clip(apart / delta, -1.0, 1.0)
    room = mixture < caps - LIKE
    least = float(slope[room].min()) if room.any() else np.inf
    loose = slope <= least + LIKE
    loose &= room | (slope >= least - LIKE)
    near = vectors[np.ix_(loose, np.abs(apart) < delta)]
    held = np.column_stack((near, np.ones(len(near))))
    return len(near) == 0 or int(np.linalg.matrix_rank(held, tol=LIKE)) == len(near)
