"""The training losses of all domains over a run, and the scaling law that each follows so far."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.signal import savgol_filter

from mixers import scaling_law
from mixers.base import Array, BoolArray
from mixers.scaling_law import Limits


class DomainLaws:
    """One scaling law a domain, refitted on demand from all losses so far.

    ``params``: [m, 3] rows of ln beta, ln eps and alpha; NaN for a domain without a valid fit yet. A fit that is not
    valid keeps the domain's last one.
    """

    def __init__(self, domains: tuple[str, ...], limits: Limits) -> None:
        self._domains, self._limits = domains, limits
        self._curves: list[list[tuple[int, float, float]]] = [[] for _ in domains]
        self._kept = np.zeros(len(domains), dtype=np.int64)
        self._fits = 0
        self.params = np.full((len(domains), 3), np.nan)

    @property
    def fitted(self) -> BoolArray:
        """[m] which domains have a law."""
        return ~np.isnan(self.params[:, 0])

    def add(self, step: int, n: Array, losses: Array) -> None:
        """Examples seen by ``step`` and the mean losses of the round, [m]; a domain whose loss is NaN adds no point."""
        for curve, seen, loss in zip(self._curves, n.tolist(), losses.tolist(), strict=True):
            if math.isfinite(loss):
                curve.append((step, seen, loss))

    def points(self, k: int, *, ignore: int, window: int, stride: int) -> tuple[Array, Array]:
        """n and smoothed loss of domain k, [T]: every so many points after the step ``ignore``.

        A cubic Savitzky-Golay filter runs over all points, those ignored included; where a domain was absent, its
        neighbours in time are neighbours in the filter. A window below five smooths nothing.
        """
        steps, n, loss = np.array(self._curves[k]).T if self._curves[k] else np.zeros((3, 0))
        window = min(window, loss.size)
        window -= 1 - window % 2
        if window > 4:
            loss = savgol_filter(loss, window, 3)
        kept = np.flatnonzero(steps > ignore)[::stride]
        return n[kept], loss[kept]

    def refit(self, *, ignore: int, window: int, stride: int) -> None:
        """Fit every domain's :meth:`points` anew, starting from its last law."""
        self._fits += 1
        for k, fitted in enumerate(self.fitted):
            n, loss = self.points(k, ignore=ignore, window=window, stride=stride)
            law = scaling_law.fit(n, loss, self._limits, self.params[k] if fitted else None)
            if law is not None and np.all(np.isfinite(law)):
                self.params[k] = law
            else:
                self._kept[k] += 1

    def state(self) -> dict[str, Any]:
        """Losses, laws and counts by domain, as JSON-able data."""
        laws = [row.tolist() if fitted else None for row, fitted in zip(self.params, self.fitted, strict=True)]
        curves = ([list(point) for point in curve] for curve in self._curves)
        rows = zip(laws, self._kept.tolist(), curves, strict=True)
        by_domain = {
            name: {"law": law, "kept": kept, "losses": curve}
            for name, (law, kept, curve) in zip(self._domains, rows, strict=True)
        }
        return {"fits": self._fits, "domains": by_domain}

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state` returned."""
        self._fits = state["fits"]
        for k, name in enumerate(self._domains):
            saved = state["domains"][name]
            self.params[k] = np.nan if saved["law"] is None else saved["law"]
            self._kept[k] = saved["kept"]
            self._curves[k] = [(step, n, loss) for step, n, loss in saved["losses"]]

    def report(self) -> dict[str, Any]:
        """Number of fits; each domain's last beta, eps and alpha, and its fits without a result (too few points)."""
        laws = {
            name: {"beta": math.exp(log_beta), "eps": math.exp(log_eps), "alpha": float(alpha)}
            for name, (log_beta, log_eps, alpha) in zip(self._domains, self.params, strict=True)
            if not math.isnan(alpha)
        }
        remarks: dict[str, Any] = {"fits": self._fits, "laws": laws}
        if self._kept.any():
            remarks["invalid_fits"] = {n: int(k) for n, k in zip(self._domains, self._kept, strict=True) if k}
        return remarks
