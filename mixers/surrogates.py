"""Models of validation losses as functions of the mixture: what the proxy runs of an offline mixer are fitted with.

Each ``fit_*`` takes mixtures [k, m] and losses [k, n], finite, and gives a :class:`Surrogate`, which has one model a
target. What they see is numbers by column: the caller orders the domains, see :func:`mixers.swarm.canonical`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy import optimize, stats

from mixers.base import Array, MixerError

HIGHEST_EXPONENT = 300.0  # of a law in mid-search or far outside of its runs; elsewhere they are far below
FIRST_STEPS = 40  # of the search from each start; the best of them goes on
START_RIDGE = 1e-4  # only for the points that the search starts from


class Surrogate(Protocol):
    """Predicts losses, [k, n], of mixtures, [k, m]."""

    def predict(self, mixtures: Array) -> Array:
        """[k, n] for [k, m]."""
        ...


Fit = Callable[[Array, Array], Surrogate]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLinear:
    """loss_j = c_j + exp(b_j + t_j . p), convex in p. c, b: [n]; t: [n, m] whose rows have mean 0.

    On the simplex a constant may be moved from t to b: with mean 0, exp(b) is what the uniform mixture has above c.
    """

    c: Array
    b: Array
    t: Array

    def predict(self, mixtures: Array) -> Array:
        """[k, n] for [k, m]; finite also where a law is asked far outside of what it was fitted on."""
        return np.asarray(self.c + np.exp(np.minimum(self.b + mixtures @ self.t.T, HIGHEST_EXPONENT)))

    def gradient(self, mixture: Array, weights: Array) -> Array:
        """[m] gradient of the weighted sum of the losses, weights [n], at one mixture [m]."""
        power = np.exp(np.minimum(self.b + self.t @ mixture, HIGHEST_EXPONENT))
        return np.asarray((weights * power) @ self.t)


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """loss_j = b_j + t_j . p. b: [n]; t: [n, m] whose rows have mean 0."""

    b: Array
    t: Array

    def predict(self, mixtures: Array) -> Array:
        """[k, n] for [k, m]."""
        return np.asarray(self.b + mixtures @ self.t.T)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trees:
    """One LightGBM booster a target; constant outside the mixtures that it was fitted on."""

    boosters: tuple[Any, ...]

    def predict(self, mixtures: Array) -> Array:
        """[k, n] for [k, m]."""
        return np.stack([booster.predict(mixtures, num_threads=1) for booster in self.boosters], axis=1)


def fit_linear(mixtures: Array, losses: Array, *, ridge: float) -> Linear:
    """Least squares with a penalty of ``ridge`` a run on the squares of the slopes; the intercept is free.

    Losses times a constant multiply b and t by it.
    """
    centre, mean = mixtures.mean(axis=0), losses.mean(axis=0)
    slopes = _ridge(mixtures - centre, losses - mean, ridge * len(mixtures)).T
    slopes = slopes - slopes.mean(axis=1, keepdims=True)
    return Linear(b=mean - slopes @ centre, t=slopes)


def _ridge(x: Array, y: Array, penalty: float) -> Array:
    """[m, n] slopes of the centred x [k, m] for the centred y [k, n]; the smallest where the data leave a choice."""
    u, s, v = np.linalg.svd(x, full_matrices=False)
    kept = s > 1e-10 * max(s[0], np.finfo(np.float64).tiny)
    scale = np.divide(s, s**2 + penalty, out=np.zeros_like(s), where=kept)
    return np.asarray(v.T @ (scale[:, None] * (u.T @ y)))


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeSettings:
    """As :class:`mixers.regmix.RegMix` has them. min_leaf: ``None`` for a tenth of the runs, from 2 to 20.

    depth: of a tree at most; ``None``: no limit beside that of its leaves. l1, l2: penalties on a leaf's value.
    """

    learning_rate: float = 0.01
    rounds: int = 1000
    patience: int = 3
    inner_share: float = 0.2
    min_leaf: int | None = None
    seed: int = 42
    depth: int | None = None
    l1: float = 0.0
    l2: float = 0.0


def lightgbm(instead: str = "model=linear") -> Any:
    """The package, imported when it is needed; :class:`MixerError` where it is not installed, naming what is left."""
    try:
        import lightgbm as package
    except ImportError:
        raise MixerError(f"LightGBM is not installed: pip install 'mixoff[regmix]', or use {instead}") from None
    return package


def fit_trees(mixtures: Array, losses: Array, settings: TreeSettings) -> Trees:
    """Gradient-boosted trees on squared error, one booster a target.

    How many trees: those up to the last that lowered the error on an inner part of the runs, every so-manyth, that the
    search does not see; then that many are grown on all runs. Losses times a power of two give the same trees.
    """
    package, s = lightgbm(), settings
    leaf = min(20, max(2, len(mixtures) // 10)) if s.min_leaf is None else s.min_leaf
    params = {"objective": "regression", "boosting": "gbdt", "learning_rate": s.learning_rate, "seed": s.seed}
    params |= {"min_data_in_leaf": leaf, "num_threads": 1, "deterministic": True, "force_row_wise": True}
    params |= {"verbosity": -1, "max_depth": -1 if s.depth is None else s.depth, "lambda_l1": s.l1, "lambda_l2": s.l2}
    inner = np.arange(len(mixtures)) % max(2, round(1.0 / s.inner_share)) == 0
    boosters = []
    for y in losses.T:
        outer = package.Dataset(mixtures[~inner], y[~inner], params=params)
        judge = package.Dataset(mixtures[inner], y[inner], reference=outer)
        stop = package.early_stopping(s.patience, verbose=False)
        grown = package.train(params, outer, s.rounds, valid_sets=[judge], callbacks=[stop])
        trees = max(1, grown.best_iteration)
        boosters.append(package.train(params, package.Dataset(mixtures, y, params=params), trees))
    return Trees(boosters=tuple(boosters))


def fit_log_linear(
    mixtures: Array, losses: Array, *, huber: float = 0.01, starts: int = 4, iterations: int = 500
) -> LogLinear:
    """The mixing law of each target: least mean Huber loss of the residuals, by L-BFGS from several starts.

    Residuals turn from counting as squares to counting as amounts at ``huber``, in units of the loss, so losses times s
    are fitted as with huber / s.
    A start is a value of c below the losses (from just below the least one to ten times their spread, not below 0 where
    losses are positive), with the b and t of least squares on log(loss - c); so each fit is the same every time.
    """
    rows = [_law(mixtures, column, huber, starts, iterations) for column in losses.T]
    c, b, t = (np.array(values) for values in zip(*rows, strict=True))
    return LogLinear(c=c, b=b, t=t)


def _law(x: Array, y: Array, huber: float, starts: int, iterations: int) -> tuple[float, float, Array]:
    """c, b and t [m] of one target, from x [k, m] and y [k]."""
    centre, spread = x.mean(axis=0), float(np.ptp(y))
    if spread <= 1e-12 * max(1.0, float(np.abs(y).max())):  # nothing hangs on the mixture
        return float(y.mean()) - 1e-12, float(np.log(1e-12)), np.zeros(x.shape[1])
    z, least = x - centre, float(y.min())
    low = 0.0 if least > 0.0 else least - 10.0 * spread

    def misfit(point: Array) -> tuple[float, Array]:
        power = np.exp(np.minimum(point[1] + z @ point[2:], HIGHEST_EXPONENT))
        residual = (point[0] * spread + power - y) / huber
        slope = np.clip(residual, -1.0, 1.0)
        part = slope * power / huber
        gradient = np.concatenate(([slope.sum() * spread / huber, part.sum()], part @ z))
        return float(slope @ (residual - 0.5 * slope)) / y.size, gradient / y.size

    def search(point: Array, steps: int) -> Any:
        return optimize.minimize(
            misfit,
            point,
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": steps, "ftol": 1e-10, "gtol": 1e-7},
        )

    found = []
    free = np.full(1 + x.shape[1], np.inf)
    bounds = optimize.Bounds(np.r_[low / spread, -free], np.r_[float(y.max()) / spread, free])
    for c in dict.fromkeys(np.maximum(least - spread * np.geomspace(0.03, 10.0, starts), 0.99 * low).tolist()):
        log = np.log(y - c)
        t = _ridge(z, (log - log.mean())[:, None], START_RIDGE * y.size)[:, 0]
        found.append(search(np.concatenate(([c / spread, log.mean()], t)), FIRST_STEPS))
    best = search(min(found, key=lambda result: float(result.fun)).x, iterations).x
    t = best[2:] - best[2:].mean()
    return float(best[0] * spread), float(best[1] - centre @ t), np.asarray(t)


def left_out(fit: Fit, mixtures: Array, losses: Array, folds: int) -> Array:
    """[k, n] losses that fits on the other folds predict of each run; every so-manyth run is in one fold."""
    fold = np.arange(len(mixtures)) % min(folds, len(mixtures))
    predicted = np.empty_like(losses)
    for part in range(int(fold.max()) + 1):
        inside = fold == part
        predicted[inside] = fit(mixtures[~inside], losses[~inside]).predict(mixtures[inside])
    return predicted


def agreement(truth: Array, predicted: Array) -> dict[str, float | None]:
    """Mean absolute error and Spearman's rank correlation of [k] predictions; ``None`` where one side is constant."""
    varied = np.ptp(truth) > 0.0 and np.ptp(predicted) > 0.0
    rank = float(stats.spearmanr(truth, predicted).statistic) if varied else None
    return {"mae": float(np.abs(truth - predicted).mean()), "spearman": rank}
