"""A scaling law of fine-tuning by domain: own data, and what the data of all other domains are worth beside them.

    L_i = c_i D_i^(-beta_i) + e_i,   D_i = N_i + k_i X_i^alpha_i,   X_i = N - N_i

N_i: examples (or units) of the law's own domain in a run, N: of all. Source: Li, Liu, Xing, *Data Mixing Optimization
for Supervised Fine-Tuning of Large Language Models* (arXiv 2508.11953). With 0 <= alpha <= 1, D is concave in the
amounts and L convex. Transferred data are at most the raw amount, k X^alpha <= X, at every X that the fit has seen;
for less X than that the law promises too much, but never more than the least of those.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import optimize

from mixers import convex
from mixers.base import Array, IntArray, MixerError

BETAS = np.geomspace(0.01, 3.0, 48)  # ends: the bounds of beta
SHARES = np.concatenate(([0.0], np.geomspace(0.003, 1.0, 16)))  # k X^alpha as a share of X, where X is least
ALPHAS = np.linspace(0.0, 1.0, 6)
PARAMETERS = 5
UNKNOWN_BETA = 0.5  # where more of its own data does not lower a loss
LEAST = 1e-12  # of all amounts: powers of 0 are not finite


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectiveData:
    """One law a target. c, k, alpha, beta, e: [n]. own: [n] the position of each law's own domain."""

    c: Array
    k: Array
    alpha: Array
    beta: Array
    e: Array
    own: IntArray

    def _parts(self, amounts: Array) -> tuple[Array, Array]:
        """[r, n] own and other amounts, both above 0."""
        total = amounts.sum(axis=1, keepdims=True)
        own = np.maximum(amounts[:, self.own], LEAST * total)
        return own, np.maximum(total - own, LEAST * total)

    def predict(self, amounts: Array) -> Array:
        """[r, n] losses of runs on amounts [r, m]."""
        own, rest = self._parts(amounts)
        return np.asarray(self.c * (own + self.k * rest**self.alpha) ** -self.beta + self.e)

    def gradient(self, amounts: Array, weights: Array) -> Array:
        """[m] gradient, by the amounts [m] of one run, of the sum of the losses weighted by [n]."""
        own, rest = (part[0] for part in self._parts(amounts[None]))
        slope = -weights * self.c * self.beta * (own + self.k * rest**self.alpha) ** (-self.beta - 1.0)
        others = slope * self.k * self.alpha * rest ** (self.alpha - 1.0)
        found = np.full(amounts.size, others.sum())
        np.add.at(found, self.own, slope - others)
        return found


def fit(
    amounts: Array,
    losses: Array,
    own: IntArray,
    moved: IntArray,
    *,
    huber: float = 0.01,
    starts: int = 4,
    tolerance: float = 1e-8,
) -> EffectiveData:
    """The laws of n targets from runs on amounts [r, m] with finite losses [r, n].

    moved: [r] the one domain of which a run had more or less than the base run; -1 for that. Two stages, each target
    by itself. (1) beta, from the runs that moved its own domain: ratios of differences of losses hang on neither c nor
    e. (2) the others, from all runs, with that beta. Both minimise Huber's loss within bounds, by a trust-region method
    from the ``starts`` best points of a grid; huber: where residuals turn from squares to amounts, in units of loss.
    Losses times s are fitted as with huber / s, and s times amounts as the same laws of other units.
    """
    search = Search(huber=huber, starts=starts, tolerance=tolerance)
    rows = [_law(amounts, losses[:, j], int(i), moved, search) for j, i in enumerate(own)]
    c, k, alpha, beta, e = (np.array(values) for values in zip(*rows, strict=True))
    return EffectiveData(c=c, k=k, alpha=alpha, beta=beta, e=e, own=own)


def resampled(
    laws: EffectiveData, amounts: Array, losses: Array, moved: IntArray, *, huber: float, count: int, seed: list[int]
) -> list[EffectiveData]:
    """Laws of a residual bootstrap: whole runs of residuals drawn anew, so that what targets have in common stays so.

    The residuals are centred, and made larger for the parameters that were fitted. Each fit starts from the best point
    of the grid and stops early.
    """
    expected = laws.predict(amounts)
    left = (losses - expected) - (losses - expected).mean(axis=0)
    left = left * np.sqrt(len(losses) / max(1, len(losses) - PARAMETERS))
    rng = np.random.default_rng(seed)
    drawn = (expected + left[rng.integers(len(left), size=len(left))] for _ in range(count))
    return [fit(amounts, y, laws.own, moved, huber=huber, starts=1, tolerance=1e-3) for y in drawn]


def minimum(
    laws: EffectiveData, weights: Array, whole: Array, prior: Array, caps: Array, *, rough: bool = False
) -> Array | None:
    """The mixture, [m], of least loss weighted by [n], from ``prior`` and within ``caps``; ``None``: it is not found.

    whole: [m] what a share of 1 of each domain amounts to. rough: to 1e-5 of a loss in place of 1e-8.
    """
    try:
        return convex.solve(
            lambda mixture: whole * laws.gradient(mixture * whole, weights),
            prior,
            caps=caps,
            tolerance=1e-5 if rough else 1e-8,
            iterations=2_000 if rough else 50_000,
            value=None if rough else lambda mixture: float(laws.predict((mixture * whole)[None])[0] @ weights),
        )
    except MixerError:
        return None


def moves(each: Array, levels: tuple[float, ...], *, same_length: bool) -> tuple[Array, Array, IntArray]:
    """Mixtures [r, m], lengths [r] in base runs, and the domain that each run moved [r]: the base run and K m others.

    each: [m] amount of a domain in the base run, in examples of any size. A run has one domain's amount times a level;
    same_length: its whole length is then that of the base run.
    """
    moved = np.concatenate(([-1], np.repeat(np.arange(each.size), len(levels))))
    amounts = np.tile(each, (len(moved), 1))
    amounts[np.arange(1, len(moved)), moved[1:]] *= np.tile(levels, each.size)
    total = amounts.sum(axis=1)
    lengths = np.ones(len(moved)) if same_length else total / total[0]
    return amounts / total[:, None], lengths, moved


def summary(laws: EffectiveData, again: list[EffectiveData], names: list[str]) -> dict[str, dict[str, list[float]]]:
    """By target and parameter: the value, then its 5 and 95 % quantiles among the laws of a bootstrap."""

    def values(parameter: str, j: int) -> list[float]:
        drawn = [float(getattr(other, parameter)[j]) for other in again]
        ends = np.quantile(drawn, [0.05, 0.95]).tolist() if drawn else []
        return [float(getattr(laws, parameter)[j]), *ends]

    return {name: {p: values(p, j) for p in ("c", "k", "alpha", "beta", "e")} for j, name in enumerate(names)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """How a law is looked for; see :func:`fit`."""

    huber: float
    starts: int
    tolerance: float

    def best(self, residuals: Callable[[Array], Array], grid: Array, low: list[float], high: list[float]) -> Array:
        """The point of least Huber loss of residuals [..., r], in units of ``huber``, from the best of a grid."""

        def loss(point: Array) -> Array:
            r = np.abs(residuals(point))
            return np.asarray(np.where(r <= 1.0, 0.5 * r**2, r - 0.5).sum(axis=-1))

        tried, eps = loss(grid), self.tolerance
        best, value = grid[tried.argmin()], float(tried.min())
        for start in grid[np.argsort(tried, kind="stable")[: self.starts]]:
            made = optimize.least_squares(
                residuals, np.clip(start, low, high), bounds=(low, high), loss="huber", x_scale="jac",
                ftol=eps, xtol=eps, gtol=eps, max_nfev=100 if eps < 1e-6 else 15,
            )  # fmt: skip
            point = np.clip(made.x, low, high)
            if np.all(np.isfinite(point)) and float(loss(point)) < value:
                best, value = point, float(loss(point))
        return np.asarray(best)


def _law(amounts: Array, y: Array, i: int, moved: IntArray, search: Search) -> tuple[float, ...]:
    """c, k, alpha, beta and e of one target."""
    if float(np.ptp(y)) <= 1e-12 * max(1.0, float(np.abs(y).max())):  # nothing hangs on the amounts
        return 0.0, 0.0, 0.0, UNKNOWN_BETA, float(y.mean())
    unit = float(np.exp(np.log(amounts[:, i]).mean()))
    own, rest = amounts[:, i] / unit, (amounts.sum(axis=1) - amounts[:, i]) / unit
    mine = (moved == i) | (moved < 0)
    beta = _exponent(own[mine], rest[mine], y[mine], search)
    share, alpha, c, e = _rest(own, rest, y, beta, search)
    k = share * float(rest.min()) ** (1.0 - alpha)
    return c * unit**beta, k * unit ** (1.0 - alpha), alpha, beta, e


def _exponent(own: Array, rest: Array, y: Array, search: Search) -> float:
    """beta, with transferred data as a share of ``rest``, which hardly varies here: alpha cannot be told from it.

    Every difference of two losses is divided by the widest one, that of the least and the greatest amount, which noise
    moves least. Without a positive one, ``UNKNOWN_BETA``. A beta so small that e would have to lie below its bound
    counts as a misfit.
    """
    least, most = int(own.argmin()), int(own.argmax())
    wide = float(y[least] - y[most])
    if wide <= 1e-12 * float(np.abs(y).max()):
        return UNKNOWN_BETA
    a, b = np.triu_indices(len(y), 1)
    measured, weight, low = (y[a] - y[b]) / wide, wide / search.huber, _lowest(y)

    def residuals(point: Array) -> Array:
        """[..., pairs + 1] for points [..., 2]."""
        beta, share = point[..., :1], point[..., 1:]
        power = (own + share * rest) ** -beta
        # Where all data count alike, the amount in runs of one length does not change: far off, in place of 0 / 0.
        span = np.maximum(power[..., least] - power[..., most], 1e-9 * power[..., most])
        ratios = ((power[..., a] - power[..., b]) / span[..., None] - measured) * weight
        below = np.maximum(low - (y[most] - wide * power[..., most] / span), 0.0) / search.huber
        return np.concatenate((ratios, below[..., None]), axis=-1)

    grid = np.stack(np.meshgrid(BETAS, SHARES, indexing="ij"), axis=-1).reshape(-1, 2)
    return float(search.best(residuals, grid, [BETAS[0], 0.0], [BETAS[-1], 1.0])[0])


def _lowest(y: Array) -> float:
    """The bound of e: 0, or where losses may be negative ten times their spread below them."""
    return 0.0 if y.min() > 0.0 else float(y.min() - 10.0 * np.ptp(y))


def _rest(own: Array, rest: Array, y: Array, beta: float, search: Search) -> Array:
    """Share of the least ``rest`` that is transferred, alpha, c and e, from all runs."""
    least, low = float(rest.min()), _lowest(y)
    size = float(np.ptp(y))

    def power(share: Array, alpha: Array) -> Array:
        return np.asarray((own + share * least * (rest / least) ** alpha) ** -beta)

    def residuals(point: Array) -> Array:
        share, alpha, c, e = (point[..., i, None] for i in range(4))
        return np.asarray((size * (c * power(share, alpha) + e) - y) / search.huber)

    pairs = np.stack(np.meshgrid(SHARES, ALPHAS, indexing="ij"), axis=-1).reshape(-1, 2)
    x = power(pairs[:, :1], pairs[:, 1:])
    centred = x - x.mean(axis=1, keepdims=True)
    c = np.maximum(centred @ (y - y.mean()), 0.0) / np.maximum((centred**2).sum(axis=1), 1e-300)
    e = np.clip(y.mean() - c * x.mean(axis=1), low, y.min())
    c = np.maximum(((y - e[:, None]) * x).sum(axis=1), 0.0) / (x**2).sum(axis=1)  # once more, for the e within bounds
    grid = np.column_stack([pairs, c / size, e / size])
    bounds = [0.0, 0.0, 0.0, low / size], [1.0, 1.0, np.inf, y.min() / size + 1e-12]
    found = search.best(residuals, grid, *bounds)
    return np.array([found[0], found[1], size * found[2], size * found[3]])
