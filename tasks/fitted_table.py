"""The losses of any mixture at any of a table's sizes, from a fit on the table's rows."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
from scipy.stats import spearmanr
from threadpoolctl import threadpool_limits

from tasks.base import Best, FloatArray, Outcomes, Support, TaskError
from tasks.best_mixture import search
from tasks.cache import content_key, load_arrays, save_arrays
from tasks.sources.tables import Table
from tasks.surrogates import SURROGATES
from tasks.surrogates.base import Arrays, Surrogate

FORMAT = 1  # raised when a surrogate or the stored form changes
SAME = 1e-6  # shares that differ by no more are those of a row
NEAREST = 4.0  # factor by which an order's size may miss one of the table's
CHUNK = 2048  # mixtures predicted at once
SUPPORT = 0.95  # share of the rows whose own distance to their nearest other row is within the limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """The surrogate at one size. arrays: a target's fit, by its index; targets with too few losses have none.

    residuals: [rows of the size, n] left-out ones, NaN where there is no loss or no fit. errors: by target's name,
    their RMSE and the rank correlation (Spearman's) of left-out predictions. limit: see :class:`Support`.
    """

    arrays: Mapping[int, Arrays]
    residuals: FloatArray
    errors: Mapping[str, Mapping[str, float]]
    limit: float


class FittedTable(Outcomes):
    """A table and a surrogate fitted on all rows of each of its sizes, whatever their split.

    A judged loss is the surrogate's mean, so that scores differ by mixtures alone. A bought run is a row's own value
    where the mixture is a row's; elsewhere the mean plus a residual that the surrogate left on a row that it had not
    seen, drawn by seed, size and mixture: the same for every mixer. Sizes with too few rows for a fit are not sold.
    """

    def __init__(
        self, table: Table, surrogate: Surrogate, *, judged: int, cache: Path, train_shares: FloatArray,
        target_shares: FloatArray, available: float,
    ) -> None:  # fmt: skip
        self.table, self.surrogate, self.judged, self.cache = table, surrogate, judged, cache
        self.domains, self.targets, self.sizes = table.domains, table.targets, table.sizes
        self.train_shares, self.target_shares, self.available = train_shares, target_shares, available
        self.fingerprint = table.fingerprint()
        self.fits = {i: fit for i in range(len(table.sizes)) if (fit := self._fit(i)) is not None}
        if judged not in self.fits:
            raise TaskError(
                f"size {table.sizes[judged].name} has {np.sum(table.size == judged)} runs and no target with the "
                f"{surrogate.least_rows} losses that {surrogate.name} needs; {self._remedy()}"
            )
        lacking = [
            name for j, name in enumerate(table.targets) if target_shares[j] > 0 and j not in self.fits[judged].arrays
        ]
        if lacking:
            raise TaskError(
                f"target {lacking[0]} has fewer losses at size {table.sizes[judged].name} than the "
                f"{surrogate.least_rows} that {surrogate.name} needs; leave it out with target={{...}}"
            )

    def _remedy(self) -> str:
        """What to choose where the judged size has too few losses for the surrogate: one setting, else two of them."""
        one: list[str] = []
        two: list[str] = []
        for i, size in enumerate(self.sizes):
            most = np.isfinite(self.table.losses[self.table.size == i]).sum(axis=0).max()
            for name, family in SURROGATES.items():
                settings = [f"size={size.name}"] if i != self.judged else []
                settings += [f"surrogate={name}"] if name != self.surrogate.name else []
                if most >= family.least_rows:
                    (one if len(settings) < 2 else two).append(",".join(settings))
        if found := one or two:
            return f"choose {' or '.join(found)}"
        return "the table has too few runs to be judged"

    def losses(self, mixture: FloatArray) -> FloatArray:
        """[n] mean losses at the judged size."""
        return self.mean(self.judged, mixture[None])[0]

    def mean(self, size: int, mixtures: FloatArray) -> FloatArray:
        """[k, n] mean losses of [k, m] mixtures; NaN for targets that the size has too few losses of."""
        fit = self.fits[size]
        made = np.full((len(mixtures), len(self.table.targets)), np.nan)
        for j, arrays in fit.arrays.items():
            made[:, j] = self.surrogate.predict(arrays, mixtures)
        return made

    def run(self, size: int, mixture: FloatArray, seed: int) -> FloatArray:
        """[n] losses that a run of this mixture ends with, noise and all."""
        answer = self.mean(size, mixture[None])[0]
        rng = np.random.default_rng(_seed(seed, self.table.sizes[size].name, mixture))
        draw = rng.random()
        for j in self.fits[size].arrays:
            residuals = self.fits[size].residuals[:, j]
            known = residuals[np.isfinite(residuals)]
            answer[j] += known[int(draw * len(known))]  # all of one row, where no loss is missing
        hits = (self.table.size == size) & (np.abs(self.table.mixtures - mixture).max(axis=1) <= SAME)
        if hits.any():
            rows = self.table.losses[hits]
            known = np.isfinite(rows).any(axis=0)
            answer[known] = np.nanmean(rows[:, known], axis=0)
        return answer

    def score_error(self) -> float:
        """RMSE of the judged score (the losses' mean under the target shares) on rows that the fit had not seen."""
        counted = self.target_shares > 0
        residuals = self.fits[self.judged].residuals[:, counted]
        whole = np.isfinite(residuals).all(axis=1)
        if whole.any():
            return float(np.sqrt(((residuals[whole] @ self.target_shares[counted]) ** 2).mean()))
        # No row has every loss: as if the targets' errors were independent.
        return float(np.sqrt(np.nanmean(residuals**2, axis=0) @ self.target_shares[counted] ** 2))

    def support(self, size: int, mixture: FloatArray) -> Support:
        """How far the mixture is from the size's rows."""
        rows = np.flatnonzero(self.table.size == size)
        distances = 0.5 * np.abs(self.table.mixtures[rows] - mixture).sum(axis=1)
        nearest = int(distances.argmin())
        distance, limit = float(distances[nearest]), self.fits[size].limit
        return Support(
            distance=distance, limit=limit, outside=distance > limit, run=self.table.runs[int(rows[nearest])]
        )

    def size_of(self, share: float) -> int:
        """The size nearest to a share of the judged size's parameters; :class:`TaskError` beyond a factor of four."""
        whole = self.table.sizes[self.judged].parameters
        shares = {i: self.table.sizes[i].parameters / whole if whole else 1.0 for i in self.fits}
        nearest = min(shares, key=lambda i: abs(math.log(shares[i] / share)))
        if abs(math.log(shares[nearest] / share)) > math.log(NEAREST) * (1 + 1e-9):
            there = ", ".join(f"{shares[i]:.3g} ({self.table.sizes[i].name})" for i in shares)
            raise TaskError(
                f"the table has no runs of about {share:.3g} of the judged model's parameters; order one of {there}"
            )
        return nearest

    def cost(self, size: int) -> float:
        """As the table says."""
        return self.table.cost(size)

    def best(self) -> Best:
        """The mixture that a search finds to have the lowest mean score; a mixer may find a slightly better one.

        Cached by content.
        """
        versions = [FORMAT, sklearn.__version__, self.surrogate.name, self.fingerprint]
        shares = [self.target_shares.tolist(), self.train_shares.tolist()]
        key = content_key("best", *versions, self.sizes[self.judged].name, *shares)
        path = self.cache / "tables" / f"{key}.npz"
        stored = load_arrays(path)
        if stored is None:
            rows = self.table.mixtures[self.table.size == self.judged]
            stored = {"mixture": search(self._scores, np.concatenate([rows, self.train_shares[None]]))}
            save_arrays(path, **stored)
        mixture = np.asarray(stored["mixture"], dtype=np.float64)
        losses = self.losses(mixture)
        return Best(mixture=mixture, losses=losses, score=self.score(losses))

    def _scores(self, mixtures: FloatArray) -> FloatArray:
        """[k] scores of [k, m] mixtures at the judged size."""
        arrays, total = self.fits[self.judged].arrays, np.zeros(len(mixtures))
        for begin in range(0, len(mixtures), CHUNK):
            part = slice(begin, begin + CHUNK)
            for j in np.flatnonzero(self.target_shares > 0).tolist():
                total[part] += self.target_shares[j] * self.surrogate.predict(arrays[j], mixtures[part])
        return total

    def provenance(self) -> dict[str, Any]:
        """What a row says of the table and of its surrogate's left-out errors, by size and target."""
        table = self.table
        return {
            "sizes": [
                {
                    "name": one.name, "parameters": one.parameters, "tokens": one.tokens, "cost": table.cost(i),
                    "runs": int(np.sum(table.size == i)), "left_out": self.fits[i].errors if i in self.fits else None,
                }
                for i, one in enumerate(table.sizes)
            ],
            "cost": table.cost_rule,
            "notes": list(table.notes),
            "surrogate": self.surrogate.name,
        }  # fmt: skip

    def _fit(self, size: int) -> Fit | None:
        """The size's fit, from the cache where an equal one was made; ``None`` where there are too few rows."""
        rows = self.table.size == size
        mixtures, losses = self.table.mixtures[rows], self.table.losses[rows]
        enough = [j for j in range(losses.shape[1]) if np.isfinite(losses[:, j]).sum() >= self.surrogate.least_rows]
        if not enough:
            return None
        data = hashlib.sha256(mixtures.tobytes() + losses.tobytes()).hexdigest()
        path = (
            self.cache / "tables" / f"{content_key('fit', FORMAT, self.surrogate.name, sklearn.__version__, data)}.npz"
        )
        stored = load_arrays(path)
        if stored is None:
            made: dict[str, Any] = {}
            with threadpool_limits(1):  # so that the fit's last bits do not depend on who made it
                for j in enough:
                    known = np.isfinite(losses[:, j])
                    arrays, left_out = self.surrogate.fit(mixtures[known], losses[known, j])
                    made |= {f"{j}.{name}": array for name, array in arrays.items()} | {f"{j}!": left_out}
            save_arrays(path, **made)
            stored = made
        parts: dict[int, Arrays] = {
            j: {name.partition(".")[2]: array for name, array in stored.items() if name.startswith(f"{j}.")}
            for j in enough
        }
        residuals = np.full(losses.shape, np.nan)
        errors = {}
        for j in enough:
            known = np.isfinite(losses[:, j])
            residuals[known, j] = stored[f"{j}!"]
            errors[self.table.targets[j]] = _errors(losses[known, j], residuals[known, j])
        return Fit(arrays=parts, residuals=residuals, errors=errors, limit=_limit(mixtures))


def _errors(losses: FloatArray, residuals: FloatArray) -> dict[str, float]:
    rank = float(spearmanr(losses - residuals, losses).statistic) if len(np.unique(losses)) > 1 else 0.0
    return {"rmse": float(np.sqrt((residuals**2).mean())), "spearman": rank if math.isfinite(rank) else 0.0}


def _limit(mixtures: FloatArray) -> float:
    """Total variation within which 95 % of the distinct rows have another one."""
    rows = np.unique(mixtures.round(6), axis=0)
    nearest = [np.partition(0.5 * np.abs(rows - row).sum(axis=1), 1)[1] for row in rows] if len(rows) > 1 else [0.0]
    return float(np.quantile(nearest, SUPPORT))


def _seed(seed: int, size: str, mixture: FloatArray) -> int:
    text = json.dumps([seed, size, (mixture.round(9) + 0.0).tolist()])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
