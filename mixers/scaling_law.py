"""A loss that falls as a power of the examples seen, L(n) = eps + beta n^-alpha, and its fit to one domain's losses.

Parameters are arrays (ln beta, ln eps, alpha), [3], or one row a domain, [m, 3]. The objective is that of ADO's
released code (``loss_fn`` and ``huber_loss`` of github.com/yidingjiang/ado, commit bc3d8d0); the search for its minimum
is not: the released one runs L-BFGS from 512 starts for every domain, this one from the best of nine points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from mixers.base import Array

HUBER = 1e-3  # where the loss on log residuals turns from quadratic to linear, as released
LEAST_POINTS = 4  # one more than there are parameters
EXPONENTS = np.linspace(0.05, 0.75, 8)  # for each a first guess is solved for
REACH = 12.0  # how far, in nats, the search may go beyond the losses seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Soft limits, each a penalty of slope one on what exceeds it; ``min_log_eps`` of ``None`` sets none.

    The misfit is a sum over points of slope at most 1e-3 each, so that a thousand points together can push a limit
    aside, in the released code too.
    """

    max_alpha: float = 0.8
    min_alpha: float = 0.001
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


def objective(params: Array, log_n: Array, log_loss: Array, limits: Limits) -> tuple[float, Array]:
    """Sum of the Huber losses of ln L(n) - ln loss plus the penalties, and its gradient, [3].

    log_n, log_loss: [T]. The constant -min_alpha, which the released penalty leaves behind, is kept.
    """
    log_beta, log_eps, alpha = params
    power = log_beta - alpha * log_n
    residual = np.logaddexp(power, log_eps) - log_loss
    size = np.abs(residual)
    value = np.where(size > HUBER, HUBER * (size - 0.5 * HUBER), 0.5 * size**2).sum()
    slope = np.clip(residual, -HUBER, HUBER)
    part = special.expit(power - log_eps)  # of the loss that is not irreducible
    gradient = np.array([slope @ part, slope @ (1.0 - part), -slope @ (part * log_n)])
    value += max(alpha - limits.max_alpha, 0.0) - min(alpha, limits.min_alpha)
    value += max(log_beta - limits.max_log_beta, 0.0)
    gradient[2] += float(alpha > limits.max_alpha) - float(alpha < limits.min_alpha)
    gradient[0] += float(log_beta > limits.max_log_beta)
    if limits.min_log_eps is not None:
        value += max(limits.min_log_eps - log_eps, 0.0)
        gradient[1] -= float(log_eps < limits.min_log_eps)
    return float(value), gradient


def fit(n: Array, loss: Array, limits: Limits, last: Array | None = None, iterations: int = 200) -> Array | None:
    """The parameters [3] that minimise :func:`objective` on n, loss [T]; ``None`` where the data give no valid fit.

    One search (L-BFGS-B, so many iterations at most) from the best of nine points: the ``last`` fit, if there is one,
    and for each of a row of exponents the eps and beta of least squares. It works on ln of the power term in the middle
    of the points in place of ln beta, which is nearly free of alpha, and stays in a box around them. Points whose loss
    is not positive and finite are left out; fewer than four are not fitted.
    """
    usable = np.isfinite(loss) & (loss > 0.0) & (n > 0.0)
    if np.count_nonzero(usable) < LEAST_POINTS:
        return None
    log_n, log_loss = np.log(n[usable]), np.log(loss[usable])
    middle, scale = log_n.mean(), 1.0 / (HUBER**2 * log_n.size)

    def scaled(point: Array) -> tuple[float, Array]:
        params = np.array([point[0] + point[2] * middle, point[1], point[2]])
        value, gradient = objective(params, log_n, log_loss, limits)
        gradient[2] += middle * gradient[0]
        return scale * value, scale * gradient

    starts = _guesses(log_n - middle, log_loss, limits)
    if last is not None:
        starts = np.vstack((starts, (last[0] - last[2] * middle, last[1], last[2])))
    low, high = float(log_loss.min()), float(log_loss.max())
    ceiling = high if limits.min_log_eps is None else max(high, limits.min_log_eps)
    box = [(low - REACH, high + REACH), (low - REACH, ceiling), (0.0, 2.0)]
    start = min(np.clip(starts, *np.transpose(box)), key=lambda point: scaled(point)[0])
    options = {"maxiter": iterations, "ftol": 1e-8}
    found = optimize.minimize(scaled, start, jac=True, method="L-BFGS-B", bounds=box, options=options).x
    params = np.array([found[0] + found[2] * middle, found[1], found[2]])
    return params if np.all(np.isfinite(params)) else None


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
