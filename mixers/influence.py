"""TiKMiX-D's optimisation problem: the mixture of greatest, most even influence that makes no target worse.

Minimise, over the simplex,

    a std(P) - b sum(P) + g sum_j w_j ln w_j,   P = S w,   subject to  P >= S prior - slack.

The problem is convex, and with g > 0 it has one solution, whatever the solver and the order of domains and targets. A
primal-dual interior point method with exact second derivatives finds it, in a few dozen Cholesky factorisations of an
[m, m] matrix: about a second for 512 domains that are all targets (``python -m benchmarks.mixer_updates``). SciPy's
SLSQP, which the paper names, agrees on small problems; from some 64 domains on it was seen to stop at its limit of
iterations before it got there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import linalg
from threadpoolctl import threadpool_limits

from mixers.base import Array

RELAXED = 1e-9  # of a row's largest entry: room for an interior, where the prior is all that the constraints allow
ITERATIONS = 300
NOISE, DONE = 1e-10, 1e-22  # of the Newton decrement, about twice what the objective can still fall; NOISE is relative
FIRST_MU, LAST_MU, SHRINK = 0.1, 1e-10, 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """The function to minimise. rows: [n, m] normalised influence. shares: [n] of the targets, sum 1.

    spread, gain, entropy: the paper's three coefficients, a, b and g above. With equal shares ``std`` is the paper's
    (of the population) and the gain the sum over targets; other shares weigh both, and the gain is n times a mean.
    """

    rows: Array
    shares: Array
    spread: float
    gain: float
    entropy: float

    def value(self, weights: Array, smooth: float = 0.0) -> float:
        """The objective at ``weights``, [m]; smooth: e in sqrt(variance + e^2), which has no kink at even influence."""
        return self.of(self.rows @ weights, weights, smooth)

    def of(self, p: Array, weights: Array, smooth: float = 0.0) -> float:
        """The objective where the influence of ``weights`` is ``p``, [n], whatever the rows say."""
        mean = float(self.shares @ p)
        deviation = float(np.sqrt(self.shares @ (p - mean) ** 2 + smooth**2))
        logs = np.log(np.where(weights > 0.0, weights, 1.0))
        return self.spread * deviation - self.gain * len(p) * mean + self.entropy * float(weights @ logs)

    def derivatives(self, weights: Array, smooth: float) -> tuple[Array, Array]:
        """Gradient [m] and Hessian [m, m] at positive weights."""
        centred = self.rows - self.shares @ self.rows
        weighed = self.shares[:, None] * centred
        c = centred @ weights
        deviation = np.sqrt(self.shares @ c**2 + smooth**2)
        slope = weighed.T @ c / deviation
        gradient = self.spread * slope - self.gain * len(c) * (self.shares @ self.rows)
        gradient = gradient + self.entropy * (np.log(weights) + 1.0)
        hessian = self.spread / deviation * (centred.T @ weighed - np.outer(slope, slope))
        return gradient, hessian + np.diag(self.entropy / weights)


def minimise(objective: Objective, prior: Array, slack: float) -> tuple[Array, bool]:
    """The best mixture, [m], and whether it is the solution; otherwise it is the best of those met, the prior included.

    prior: [m], sums to one. slack: how far a target's influence may fall below the prior's; infinite: no constraint.
    All mixtures met obey the constraints to ``RELAXED``. Runs on one thread: several give other roundings, and on a
    busy machine they wait for each other many times longer than they compute.
    """
    # Objectives of one size, so that the same powers of ten stand for nothing in all of them.
    size = max(objective.spread, objective.gain * len(objective.rows), objective.entropy) or 1.0
    scaled = replace(
        objective, spread=objective.spread / size, gain=objective.gain / size, entropy=objective.entropy / size
    )
    with threadpool_limits(limits=1):
        return _minimise(scaled, prior, slack)


def _minimise(objective: Objective, prior: Array, slack: float) -> tuple[Array, bool]:
    m = len(prior)
    sizes = np.maximum(np.abs(objective.rows).max(axis=1), 1.0)
    limits = objective.rows / sizes[:, None] if np.isfinite(slack) else np.zeros((0, m))
    room = (slack / sizes + RELAXED) if np.isfinite(slack) else np.zeros(0)
    # Uniform shares so small that the constraints, with their room, still hold.
    w = (1.0 - RELAXED / 4) * prior + RELAXED / (4 * m)
    s = limits @ (w - prior) + room
    best, least = prior, objective.value(prior)
    mu, polish = FIRST_MU, 5
    lam, z = mu / s, mu / w

    def barrier(w: Array, s: Array) -> float:
        return objective.value(w, mu) - mu * float(np.log(s).sum() + np.log(w).sum())

    for _ in range(ITERATIONS):
        gradient, hessian = objective.derivatives(w, mu)
        downhill = -(gradient - limits.T @ (mu / s) - mu / w)
        system = hessian + (limits.T * (lam / s)) @ limits + np.diag(z / w)
        solved = _solved(system, np.stack([downhill, np.ones(m)], axis=1))
        if solved is None:
            return best, False
        free, ones = solved.T
        step = free - ones * (free.sum() / ones.sum())
        decrement = float(step @ downhill)
        move = limits @ step
        d_lam, d_z = mu / s - lam - lam / s * move, mu / w - z - z / w * step
        length = min(_reach(w, step), _reach(s, move))
        start = barrier(w, s)
        noise = NOISE * (1.0 + abs(start))
        if decrement > noise:  # below it, differences of the barrier are rounding
            while length > 1e-12 and barrier(w + length * step, s + length * move) > start - 1e-4 * length * decrement:
                length /= 2
        w = w + length * step
        w = w / w.sum()
        s = np.maximum(limits @ (w - prior) + room, 1e-3 * s)
        dual = min(1.0, _reach(lam, d_lam), _reach(z, d_z))
        lam, z = _near(lam + dual * d_lam, mu / s), _near(z + dual * d_z, mu / w)
        value = objective.value(w)
        if value < least:
            best, least = w, value
        if mu <= LAST_MU and (decrement < DONE or polish == 0):
            return w, True
        if mu <= LAST_MU:
            polish -= decrement < noise or length <= 1e-12
        elif decrement < max(0.1 * mu, noise) or length <= 1e-12:
            mu = max(SHRINK * mu, LAST_MU)
    return best, False


def _solved(system: Array, sides: Array) -> Array | None:
    """The solutions [m, k] of a positive definite system, with the least ridge that rounding asks for."""
    scale = np.sqrt(np.diag(system))  # the diagonal spans many powers of ten
    scaled = system / np.outer(scale, scale)
    for ridge in (1e-14, 1e-12, 1e-10, 1e-8):
        try:
            factor = linalg.cho_factor(scaled + ridge * np.eye(len(scale)))
        except (linalg.LinAlgError, ValueError):  # ValueError: not finite
            continue
        return np.asarray(linalg.cho_solve(factor, sides / scale[:, None]) / scale[:, None], dtype=np.float64)
    return None


def _reach(values: Array, step: Array) -> float:
    """The longest part of a step, at most 1, after which positive values keep a two-hundredth of their size."""
    falling = step < 0.0
    return min(1.0, 0.995 * float((-values[falling] / step[falling]).min())) if falling.any() else 1.0


def _near(multipliers: Array, central: Array) -> Array:
    """Multipliers kept within a large factor of those on the central path."""
    return np.clip(multipliers, central / 1e8, central * 1e8)
