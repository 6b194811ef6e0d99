"""ADO: draw what is forecast to be learnt fastest, by a scaling law of each domain's own training loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mixers import scaling_law, simplex
from mixers.base import Array, Lab, Mixer, MixerError, Mixture, Needs, Observation, Problem, Span, TrainLosses, space
from mixers.domain_laws import DomainLaws
from mixers.scaling_law import Limits

RELEASED = 60_000  # steps of the released runs, of which their schedules are written as shares


def clip_min_probability(shares: Array, delta_min: float) -> Array:
    """Raise shares [m] to ``delta_min`` and divide by the sum, so that the least ends slightly below it (released)."""
    raised = np.maximum(shares, delta_min)
    return raised / raised.sum()


class ADO(Mixer):
    """*Adaptive Data Optimization: Dynamic Sample Selection with Scaling Laws* (arXiv 2410.11820), Algorithm 1.

    Every domain's training loss is fitted with L_k(n) = eps_k + beta_k n^-alpha_k (:mod:`mixers.scaling_law`). With
    speed_k = max(alpha_k, alpha_min) (L_k(n) - eps_k) / n, the prior mu and the history h of realised shares, the
    preference is rho_k ~ mu_k h_k^s speed_k, raised to delta_min; the mixture is gamma2 rho + (1 - gamma2) mean, after
    which rho enters the running mean of all steps. mu, h and the mean start at the prior, which is also the mixture
    until start_step. A constant factor on all losses changes nothing (but through the limits of the fit); one on a
    single domain's losses multiplies its speed.

    Source: the released code (github.com/yidingjiang/ado, commit bc3d8d0, ``src/data_selectors/ado.py``); the paper's
    text was read in summaries only. s, gamma1, gamma2 and delta_min have the paper's names where the code has numbers;
    which gamma is which is taken from a third-party port. From the code:

    - n counts the examples of *all* domains (``use_same_step_size``), so that 1/n cancels in rho.
    - delta_min is applied to rho before averaging, not to the mixture; h follows what was drawn, not what was asked.
    - The running mean divides by the step, not by the number of updates: the share of the run before start_step is
      the weight that the prior keeps in the mean.

    Where this differs:

    - Released schedules (ignore and start 1000, a fit every 1000, smoothing over 101 steps, every tenth step) belong
      to runs of 60,000 (those that start at 500 are first fitted at 1000 too); with them a short run would never leave
      the prior. The defaults are the same *shares*; a value of one or more is a number of steps. In a short run
      smoothing and subsampling then do nothing.
    - min_log_eps is off. The released 0.5 forbids an irreducible loss below 1.65 nats: where the loss gets there, as
      with characters, small vocabularies or contrastive losses, eps stays above what is seen and the fit means nothing.
    - A domain absent from a round adds no point to its fit (released: its last loss again). A domain whose fit is not
      valid keeps its last one (released: one invalid fit discards all); before its first it has its prior share of rho.
    - The first released fit is on a single point and its minimum arbitrary; here a domain waits for four.
    - A fit searches from one point, the best of nine, and keeps its limits exactly; the released one searches from 512
      and penalises an excess. A refit of 8 domains with 500 points takes 0.02 s (``python -m benchmarks.ado_refit``).
    - delta_min above 1/m is impossible and becomes 1/(2m), which is reported.
    - With ``every`` above 1 a round counts as so many steps in h and in the mean.

    On a short range of n eps and alpha are barely identifiable, and a falling learning rate looks like a domain that
    is learnt.
    """

    name = "ado"
    search_space = space(
        s=Span(low=0.0, high=1.0),
        gamma1=Span(low=0.02, high=0.5, log=True),
        gamma2=Span(low=0.05, high=1.0, log=True),
        start_step=Span(low=0.01, high=0.2, log=True),
    )

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """Released values by default; the first five are steps, or below 1 shares of the run.

        start_step: when the mixture leaves the prior. ignore_steps: steps left out of the fits. update_interval: steps
        between fits. smooth: window of the Savitzky-Golay filter on a domain's losses. subsample: every how many steps
        the smoothed losses are fitted.
        every: steps in a round; the row stores the mixture of each. mode: the prior, ``empirical`` (train shares) or
        ``uniform``. use_same_step_size: n counts all domains' examples; otherwise each domain's own. s: exponent of h.
        gamma1: share of the new in h. gamma2: share of rho in the mixture. delta_min: least share of rho. alpha_min:
        least exponent as a factor of the speed. max_alpha, max_log_beta, min_log_eps: limits of the fits; released 0.8,
        6.5 and 0.5.
        """

        start_step: float = 1000 / RELEASED
        ignore_steps: float = 1000 / RELEASED
        update_interval: float = 1000 / RELEASED
        smooth: float = 101 / RELEASED
        subsample: float = 10 / RELEASED
        every: int = 1
        mode: Literal["empirical", "uniform"] = "empirical"
        use_same_step_size: bool = True
        s: float = 0.5
        gamma1: float = 0.1
        gamma2: float = 0.1
        delta_min: float = 0.01
        alpha_min: float = 0.05
        max_alpha: float = 0.8
        max_log_beta: float = 6.5
        min_log_eps: float | None = None

        def __post_init__(self) -> None:
            for field in ("start_step", "ignore_steps", "update_interval", "smooth", "subsample"):
                value = getattr(self, field)
                if not (math.isfinite(value) and value >= 0.0):
                    raise MixerError(f"ado: {field} is a number of steps, or below 1 a share of the run, not {value}")
            for field in ("s", "alpha_min", "max_alpha", "max_log_beta"):
                if not (math.isfinite(getattr(self, field)) and getattr(self, field) >= 0.0):
                    raise MixerError(f"ado: {field} must be finite and at least 0, not {getattr(self, field)}")
            if self.max_alpha < scaling_law.LEAST_ALPHA:
                raise MixerError(f"ado: max_alpha must be at least {scaling_law.LEAST_ALPHA}, not {self.max_alpha}")
            for field in ("gamma1", "gamma2", "delta_min"):
                if not 0.0 <= getattr(self, field) <= 1.0:
                    raise MixerError(f"ado: {field} must be in [0, 1], not {getattr(self, field)}")
            if self.every < 1:
                raise MixerError(f"ado: every must be at least 1, not {self.every}")
            if self.mode not in ("empirical", "uniform"):
                raise MixerError(f"ado: mode is empirical or uniform, not {self.mode}")
            if self.min_log_eps is not None and not math.isfinite(self.min_log_eps):
                raise MixerError(f"ado: min_log_eps must be finite, or null for no limit, not {self.min_log_eps}")

    def needs(self) -> Needs:
        """Training losses, every round."""
        return Needs(every=self.config.every, signals=(TrainLosses(),))

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        """The prior."""
        c, m = self.config, problem.m
        self._prior = np.array(problem.train_shares) if c.mode == "empirical" else simplex.uniform(m)
        self._floor = c.delta_min if c.delta_min * m <= 1.0 else 0.5 / m
        self._begin, self._ignore = _steps(c.start_step, problem), _steps(c.ignore_steps, problem)
        self._interval = max(1, _steps(c.update_interval, problem))
        self._window, self._stride = (max(1, _steps(v, problem) // c.every) for v in (c.smooth, c.subsample))
        limits = Limits(max_alpha=c.max_alpha, max_log_beta=c.max_log_beta, min_log_eps=c.min_log_eps)
        self._laws = DomainLaws(problem.domains, limits)
        self._step, self._n, self._history, self._mean = 0, np.zeros(m), self._prior, self._prior
        return problem.mixture(self._prior)

    def update(self, seen: Observation, lab: Lab) -> Mixture | None:
        """The next mixture, or ``None`` (the prior stays) before start_step and before the first valid fit."""
        c, total = self.config, float(seen.examples.sum())
        now, before = seen.step - 1, self._step - 1  # the released code counts steps from zero
        taken, self._step = seen.step - self._step, seen.step
        old = (1.0 - c.gamma1) ** taken
        self._history = old * self._history + (1.0 - old) * seen.examples / total
        self._n = self._n + (total if c.use_same_step_size else seen.examples)
        self._laws.add(seen.step, self._n, np.where(seen.present, seen.train_losses, np.nan))
        if now >= self._begin and now // self._interval > before // self._interval:
            self._laws.refit(ignore=self._ignore, window=self._window, stride=self._stride)
        if now < self._begin or not self._laws.fitted.any():
            return None
        rho = clip_min_probability(self._preference(), self._floor)
        weights = c.gamma2 * rho + (1.0 - c.gamma2) * self._mean
        share = taken / seen.step
        self._mean = (1.0 - share) * self._mean + share * rho
        return Mixture(domains=seen.domains, weights=weights)

    def _preference(self) -> Array:
        """rho before the floor, [m]. Domains without a law have their prior share; the others share what remains."""
        rho, fitted = self._prior.copy(), self._laws.fitted
        speed = scaling_law.log_speed(self._laws.params[fitted], self._n[fitted], self.config.alpha_min)
        raw = self._prior[fitted] * self._history[fitted] ** self.config.s * np.exp(speed - speed.max())
        if raw.sum() > 0.0:
            rho[fitted] *= 0.0
            rho[fitted] = (1.0 - rho.sum()) * raw / raw.sum()
        return rho

    def state_dict(self) -> dict[str, Any]:
        """Losses and laws so far by domain, and n, history and mean."""
        arrays = {"n": self._n.tolist(), "history": self._history.tolist(), "mean": self._mean.tolist()}
        return {"step": self._step, **arrays, "laws": self._laws.state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._step = state["step"]
        self._n, self._history, self._mean = (np.array(state[key]) for key in ("n", "history", "mean"))
        self._laws.load(state["laws"])

    def report(self) -> dict[str, Any]:
        """The fits, and delta_min where it had to be lowered."""
        lowered = {} if self._floor == self.config.delta_min else {"delta_min": self._floor}
        return self._laws.report() | lowered


def _steps(value: float, problem: Problem) -> int:
    """A schedule length in steps; below 1 it is a share of the run."""
    return round(value * problem.steps if value < 1.0 else value)
