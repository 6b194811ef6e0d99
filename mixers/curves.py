"""Losses that fall with what was spent, loss(C) = E + B C^-b: fits, their bootstrap, where two cross, and who leads.

The same form is a utility that saturates, u(C) = u_inf - a C^-b, with u = -loss. Least squares on the loss itself, so
losses times s give E and B times s and the same b; costs times s give B times s^b. :mod:`mixers.scaling_law` is another
fit of the form, on logarithms and with ADO's limits, for many points of one run; here a point is a run and dear.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np
from scipy import optimize

from mixers.base import Array, BoolArray, IntArray

LEAST_POINTS = 4  # one more than there are parameters
LOWEST, HIGHEST = 0.05, 2.0  # exponents: below, the form is a logarithm; above, all but the first point is the floor
STARTS = 33  # exponents that the search begins with
ZOOMS = 7  # times that it looks closer, around the best exponent so far
GRID = 129  # costs at which two curves are compared before their crossing is solved for
CHUNK = 1_000_000  # numbers in one array of the search
LEVEL = 0.9  # of intervals
SHOWN = 100  # crossings in one list


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """Any number of curves: E (floor), B (scale) and b (exponent), arrays of one shape [...], NaN where unfitted.

    B is below 0 for a loss that rises to its floor.
    """

    floor: Array
    scale: Array
    exponent: Array

    def at(self, cost: float | Array) -> Array:
        """[...] losses at a cost above 0, or at costs that are broadcast against the curves."""
        return np.asarray(self.floor + self.scale * np.asarray(cost, dtype=np.float64) ** -self.exponent)

    def part(self, index: int | slice) -> Curves:
        """The curves at a position, or some positions, of the last axis."""
        return Curves(floor=self.floor[..., index], scale=self.scale[..., index], exponent=self.exponent[..., index])


def fit(costs: Array, losses: Array, *, falling: bool = True) -> Curves:
    """The least-squares curves [..., s] of losses [..., s, k] at costs [s, k]; points that are not finite are left out.

    For one exponent the best floor and scale have a formula, so the search is over the exponent alone: the best of 33
    from 0.05 to 2, evenly spaced in the logarithm, then ever closer around the best, each a start of its own. The floor
    is not below 0 where all losses are positive, and no lower than ten times their spread below the least one
    otherwise. falling: a curve that would rise is the constant. Curves of fewer than four points, or at fewer
    than four costs, are NaN.
    """
    s, k = costs.shape
    flat = np.asarray(losses, dtype=np.float64).reshape(-1, s, k)
    step = max(1, CHUNK // (s * k * STARTS))
    parts = [_fit(costs, flat[i : i + step], falling) for i in range(0, len(flat), step)]
    floor, scale, exponent = (np.concatenate([part[i] for part in parts]).reshape(losses.shape[:-1]) for i in range(3))
    return Curves(floor=floor, scale=scale, exponent=exponent)


def _fit(costs: Array, losses: Array, falling: bool) -> tuple[Array, Array, Array]:
    """Floors, scales and exponents, [r, s] each, of losses [r, s, k]."""
    there = np.isfinite(losses) & (costs > 0.0)
    y = np.where(there, losses, 0.0)
    middle = np.exp(np.log(costs).mean(axis=-1))  # [s]; powers of costs / middle are of moderate size
    log_cost = np.log(costs / middle[:, None])
    least = np.where(there, losses, np.inf).min(axis=-1)
    most = np.where(there, losses, -np.inf).max(axis=-1)
    low = np.where(least > 0.0, 0.0, least - 10.0 * (most - least))
    centre = np.full(losses.shape[:-1], np.log(LOWEST * HIGHEST) / 2.0)
    width = np.log(HIGHEST / LOWEST) / 2.0
    points = np.linspace(-1.0, 1.0, STARTS)
    for _ in range(ZOOMS):
        grid = np.clip(centre[..., None] + width * points, np.log(LOWEST), np.log(HIGHEST))  # [r, s, G]
        error, _, _ = _solve(np.exp(grid), log_cost, y, there, low, falling)
        centre = np.take_along_axis(grid, error.argmin(axis=-1)[..., None], axis=-1)[..., 0]
        width *= 2.0 / (STARTS - 1)
    b = np.exp(centre)
    _, floor, scale = (found[..., 0] for found in _solve(b[..., None], log_cost, y, there, low, falling))
    distinct = np.array([[np.unique(c[t]).size for c, t in zip(costs, row, strict=True)] for row in there])
    usable = distinct >= LEAST_POINTS
    floor, scale, b = (np.where(usable, value, np.nan) for value in (floor, scale * middle**b, b))
    return floor, scale, b


def _solve(
    exponents: Array, log_cost: Array, y: Array, there: BoolArray, low: Array, falling: bool
) -> tuple[Array, Array, Array]:
    """Squared errors, floors and scales, [r, s, G] each, for exponents [r, s, G]; y, there: [r, s, k], low: [r, s]."""
    x = np.exp(-exponents[..., None] * log_cost[:, None, :])  # [r, s, G, k]
    y, there, low = y[..., None, :], there[..., None, :], low[..., None]
    n = np.maximum(there.sum(axis=-1), 1)
    x_mean, y_mean = (x * there).sum(axis=-1) / n, (y * there).sum(axis=-1) / n
    dx = (x - x_mean[..., None]) * there
    spread = (dx**2).sum(axis=-1)
    scale = np.divide((dx * y).sum(axis=-1), spread, out=np.zeros_like(spread), where=spread > 0.0)
    floor = y_mean - scale * x_mean
    bound = floor < low
    on_bound = (x * (y - low[..., None]) * there).sum(axis=-1) / np.maximum((x**2 * there).sum(axis=-1), 1e-300)
    scale, floor = np.where(bound, on_bound, scale), np.where(bound, low, floor)
    if falling:
        floor, scale = np.where(scale < 0.0, y_mean, floor), np.maximum(scale, 0.0)
    miss = (floor[..., None] + scale[..., None] * x - y) * there
    return (miss**2).sum(axis=-1), floor, scale


def bootstrap(
    curves: Curves, costs: Array, losses: Array, *, draws: int, seed: list[int], falling: bool = True
) -> Curves:
    """[draws, s] curves of losses that are the fitted ones [s] with residuals drawn anew, out of all curves' residuals.

    One curve has as many points as parameters and one more, which says next to nothing about its noise; all curves of a
    study together say more. The residuals are centred, and enlarged by what the fits took: the root of N / (N - 3 s).
    Where the form is wrong, that counts as noise, too, and each curve draws its own: a misfit that all curves share
    makes intervals of their differences too wide.
    """
    fitted = curves.at(costs.T).T
    residuals = np.where(np.isfinite(losses), losses - fitted, np.nan)
    pool = residuals[np.isfinite(residuals)]
    used = int(np.isfinite(curves.floor).sum())
    pool = (pool - pool.mean()) * np.sqrt(pool.size / max(1, pool.size - 3 * used)) if pool.size else np.zeros(1)
    drawn = np.random.default_rng(seed).choice(pool, size=(draws, *losses.shape))
    return fit(costs, np.where(np.isfinite(losses), fitted + drawn, np.nan), falling=falling)


def crossings(first: Curves, second: Curves, low: float, high: float) -> list[float]:
    """The costs between low and high at which two single curves change places, ascending; at most two exist."""

    def ahead(log_cost: Any) -> Any:
        return first.at(np.exp(log_cost)) - second.at(np.exp(log_cost))

    grid = np.linspace(np.log(low), np.log(high), GRID)
    sign = np.sign(ahead(grid))
    at = np.flatnonzero(sign)
    changes = [(grid[i], grid[j]) for i, j in pairwise(at) if sign[i] != sign[j]]
    return [float(np.exp(optimize.brentq(ahead, a, b, xtol=1e-12))) for a, b in changes]


def last_crossings(first: Curves, second: Curves, low: float, high: float) -> Array:
    """[draws] the highest cost between low and high at which curves [draws] change places, NaN where they do not."""
    grid = np.linspace(np.log(low), np.log(high), GRID)
    cost = np.exp(grid)[:, None]
    ahead = first.at(cost) - second.at(cost)  # [GRID, draws]
    change = ahead[:-1] * ahead[1:] < 0.0
    last = np.where(change.any(axis=0), GRID - 2 - change[::-1].argmax(axis=0), 0)
    a, b = (np.take_along_axis(ahead, (last + i)[None], axis=0)[0] for i in (0, 1))
    there = change.any(axis=0)
    part = np.divide(a, a - b, out=np.zeros_like(a), where=there)
    return np.where(there, np.exp(grid[last] + part * (grid[1] - grid[0])), np.nan)


def vertex(x: Array, y: Array, at: IntArray) -> Array:
    """[...] where the parabola through y [..., s] at x [s], ascending, in ``at`` [...] and its two neighbours is least.

    x[at] where ``at`` is an end, a neighbour is NaN or the parabola has no least point; never beyond the neighbours.
    """
    if x.size < 3:
        return np.asarray(x[at])
    middle = np.clip(at, 1, x.size - 2)
    before, here, after = (x[middle + i] for i in (-1, 0, 1))
    low, value, high = (np.take_along_axis(y, (middle + i)[..., None], axis=-1)[..., 0] for i in (-1, 0, 1))
    left, right = (value - low) / (here - before), (high - value) / (after - here)
    bend = (right - left) / (after - before)
    least = 0.5 * (before + here - left / np.where(bend > 0.0, bend, np.nan))
    return np.asarray(np.where((at == middle) & np.isfinite(least), np.clip(least, before, after), x[at]))


def ranks(losses: Array) -> list[int | None]:
    """1 for the least of [s] losses, 2 for the next; ``None`` for NaN. The first of equals comes first."""
    order = np.argsort(np.where(np.isnan(losses), np.inf, losses), kind="stable")
    place = np.empty(losses.size, dtype=np.int64)
    place[order] = np.arange(1, losses.size + 1)
    return [None if np.isnan(x) else int(p) for x, p in zip(losses, place, strict=True)]


def interval(values: Array) -> list[float] | None:
    """The middle nine tenths of the finite ones of [draws] values; ``None`` where there is none."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return None
    return [float(q) for q in np.quantile(finite, [(1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0])]


def leads(losses: Array) -> list[float]:
    """[s] the share of draws in which each of losses [draws, s] is the least; 0 for those that are NaN."""
    filled = np.where(np.isnan(losses), np.inf, losses)
    best = filled.argmin(axis=1)[np.isfinite(filled).any(axis=1)]
    return [float(np.mean(best == i)) if best.size else 0.0 for i in range(losses.shape[1])]


def all_crossings(names: Sequence[str], curves: Curves, draws: Curves, low: float, high: float) -> list[dict[str, Any]]:
    """Which of the curves [s] change places between two costs, as JSON-able data, those that lead in the end first.

    draws: [draws, s]. in_bootstrap: the share of them in which a pair crosses. last_interval: of their last crossing.
    At most a hundred pairs are listed.
    """
    if not low < high:
        return []
    found: list[dict[str, Any]] = []
    order = [int(i) for i in np.argsort(curves.at(high), kind="stable") if np.isfinite(curves.floor[i])]
    for i, j in combinations(order, 2):
        if costs := crossings(curves.part(i), curves.part(j), low, high):
            last = last_crossings(draws.part(i), draws.part(j), low, high)
            share = float(np.isfinite(last).mean())
            pair = {"ahead_at_last": names[i], "behind": names[j], "costs": costs}
            found.append({**pair, "in_bootstrap": share, "last_interval": interval(last)})
        if len(found) == SHOWN:
            break
    return found


def points(costs: Array, losses: Array, curve: Curves) -> dict[str, Any]:
    """The points [k] of a single curve and what was fitted to them, as JSON-able data.

    at_limit: the exponent is at an end of what is searched, or the floor is 0, so that the points do not show the form:
    losses that fall ever faster against the logarithm of the cost, or that have reached their floor.
    """
    fitted: dict[str, float | bool] | None = None
    if np.isfinite(curve.floor):
        fitted = {"floor": float(curve.floor), "scale": float(curve.scale), "exponent": float(curve.exponent)}
        fitted["at_limit"] = bool(np.isclose(curve.exponent, [LOWEST, HIGHEST]).any() or curve.floor == 0.0)
    return {"costs": costs.tolist(), "losses": [number(x) for x in losses], "curve": fitted}


def number(value: float) -> float | None:
    """JSON-able: ``None`` in place of NaN."""
    return float(value) if np.isfinite(value) else None
