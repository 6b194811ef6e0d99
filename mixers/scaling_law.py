"""A loss that falls as a power of the examples seen, L(n) = eps + beta n^-alpha, and its fit to one domain's losses.

Parameters are arrays (ln beta, ln eps, alpha), [3], or one row a domain, [m, 3]. The misfit is that of ADO's released
code (``loss_fn`` of github.com/yidingjiang/ado, commit bc3d8d0). The search for its minimum is not: the released one
runs L-BFGS from 512 starts for every domain, this one from the best of nine points.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import optimize

from mixers.base import Array

Objective = Callable[[Array], tuple[float, Array]]

HUBER = 1e-3  # where the loss on log residuals turns from quadratic to linear, as released
LEAST_ALPHA = 0.001  # as released, so that a loss that rises is fitted as one that hardly falls
LEAST_POINTS = 4  # one more than there are parameters
EXPONENTS = np.linspace(0.05, 0.75, 8)  # for each a first guess is solved for
REACH = 12.0  # how far, in nats, the search may go beyond the losses seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the parameters of a fit may not exceed; ``min_log_eps`` of ``None`` sets no limit.

    The search keeps them exactly. The released code adds a penalty of slope one on each excess to a misfit whose slope
    is at most 1e-3 a point: the same up to about a thousand points, after which the misfit can push a limit aside.
    """

    max_alpha: float = 0.8
    max_log_beta: float = 6.5
    min_log_eps: float | None = None


def predict(params: Array, n: Array) -> Array:
    """eps + beta n^-alpha, [T] for params [3] and n [T], or [m] for params [m, 3] and n [m]."""
    log_beta, log_eps, alpha = np.moveaxis(params, -1, 0)
    return np.exp(log_eps) + np.exp(log_beta - alpha * np.log(n))


def log_speed(params: Array, n: Array, min_alpha: float = 0.0) -> Array:
    """ln of -dL/dn = max(alpha, min_alpha) (L(n) - eps) / n, [m], for params [m, 3] and n [m].

    The exponent inside L is not raised to ``min_alpha``, only the factor in front (as released).
    """
    log_beta, _, alpha = np.moveaxis(params, -1, 0)
    return np.log(np.maximum(alpha, min_alpha)) + log_beta - (alpha + 1.0) * np.log(n)


def misfit(params: Array, log_n: Array, log_loss: Array) -> tuple[float, Array]:
    """Sum of the Huber losses of ln L(n) - ln loss, and its gradient, [3]; log_n, log_loss: [T].

    The released ``loss_fn`` without its penalties, which inside the limits leave a constant of -0.001.
    """
    log_beta, log_eps, alpha = params
    ratio = np.exp(np.minimum(log_beta - log_eps - alpha * log_n, 700.0))  # of the power term to eps
    residual = np.log1p(ratio) + log_eps - log_loss
    slope = np.maximum(np.minimum(residual, HUBER), -HUBER)
    part = ratio / (1.0 + ratio)
    gradient = np.array([slope @ part, slope @ (1.0 - part), -slope @ (part * log_n)])
    return float(slope @ (residual - 0.5 * slope)), gradient  # both branches of the Huber loss


def fit(n: Array, loss: Array, limits: Limits, last: Array | None = None, iterations: int = 200) -> Array | None:
    """The parameters [3] that minimise :func:`misfit` on n, loss [T]; ``None`` where the data give no valid fit.

    A search (L-BFGS-B, so many iterations at most) from the best of nine points: the ``last`` fit, if there is one,
    and for each of a row of exponents the eps and beta of least squares. It works on ln of the power term in the middle
    of the points in place of ln beta, which is nearly free of alpha, and in a box around them; where ln beta comes out
    above its limit, a second search fixes it there. Points whose loss is not positive and finite are left out; fewer
    than four are not fitted.
    """
    usable = np.isfinite(loss) & (loss > 0.0) & (n > 0.0)
    if np.count_nonzero(usable) < LEAST_POINTS:
        return None
    log_n, log_loss = np.log(n[usable]), np.log(loss[usable])
    middle = log_n.mean()

    def centred(point: Array) -> tuple[float, Array]:
        value, gradient = misfit(np.array([point[0] + point[2] * middle, point[1], point[2]]), log_n, log_loss)
        gradient[2] += middle * gradient[0]
        return value, gradient

    def at_the_limit(point: Array) -> tuple[float, Array]:
        value, gradient = misfit(np.array([limits.max_log_beta, *point]), log_n, log_loss)
        return value, gradient[1:]

    low, high = float(log_loss.min()) - REACH, float(log_loss.max())
    eps_box = (low, high) if limits.min_log_eps is None else (limits.min_log_eps, max(high, limits.min_log_eps))
    box = np.array([(low, high + REACH), eps_box, (LEAST_ALPHA, limits.max_alpha)])
    starts = _guesses(log_n - middle, log_loss, limits)
    if last is not None:
        starts = np.vstack((starts, (last[0] - last[2] * middle, last[1], last[2])))
    start = min(np.clip(starts, *box.T), key=lambda point: centred(point)[0])
    found = _search(centred, start, box, log_n.size, iterations)
    params = np.array([found[0] + found[2] * middle, found[1], found[2]])
    if params[0] > limits.max_log_beta:
        found = _search(at_the_limit, params[1:], box[1:], log_n.size, iterations)
        params = np.array([limits.max_log_beta, *found])
    return params if np.all(np.isfinite(params)) else None


def _search(function: Objective, start: Array, box: Array, points: int, iterations: int) -> Array:
    """The point [d] of a box [d, 2] where a misfit is least; scaled so that a residual of 1e-3 counts as one half."""
    scale = 1.0 / (HUBER**2 * points)

    def scaled(point: Array) -> tuple[float, Array]:
        value, gradient = function(point)
        return scale * value, scale * gradient

    found = optimize.minimize(
        scaled,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=optimize.Bounds(*box.T),
        options={"maxiter": iterations, "ftol": 1e-8},
    )
    return np.asarray(found.x)


def _guesses(x: Array, log_loss: Array, limits: Limits) -> Array:
    """The least-squares eps and beta for each of a row of exponents, as points of the search, [8, 3]."""
    loss = np.exp(log_loss)
    least_eps = 0.01 * loss.min() if limits.min_log_eps is None else math.exp(limits.min_log_eps)
    power = np.exp(-np.outer(EXPONENTS, x))
    centred = power - power.mean(axis=1, keepdims=True)
    slope = centred @ loss / np.maximum((centred**2).sum(axis=1), np.finfo(np.float64).tiny)
    eps = np.maximum(loss.mean() - slope * power.mean(axis=1), least_eps)
    beta = (power * (loss - eps[:, None])).sum(axis=1) / (power**2).sum(axis=1)
    beta = np.maximum(beta, 1e-3 * loss.min())  # where the loss does not fall
    return np.column_stack((np.log(beta), np.log(eps), EXPONENTS))
