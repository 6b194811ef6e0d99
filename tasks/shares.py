"""Target shares as a user or a source gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tasks.base import FloatArray, TaskError


def target_shares(wanted: Mapping[str, float] | None, domains: Sequence[str], default: FloatArray) -> FloatArray:
    """[m] shares on the domains, summing to one: the wanted ones, or the default where nothing is wanted.

    Raises :class:`TaskError` for unknown domains, and for shares that are negative or do not sum to one.
    """
    if wanted is None:
        return default.copy()
    unknown = sorted(set(wanted) - set(domains))
    if unknown:
        raise TaskError(f"target names unknown domain {unknown[0]!r}; the domains are {', '.join(domains)}")
    shares = np.array([wanted.get(domain, 0.0) for domain in domains], dtype=np.float64)
    if not np.all(np.isfinite(shares)) or shares.min() < 0 or abs(shares.sum() - 1) > 1e-3:
        raise TaskError(f"target shares must be non-negative and sum to 1; they sum to {shares.sum():.6g}")
    return shares / shares.sum()
