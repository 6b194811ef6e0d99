"""Online Data Mixing: a bandit over the domains whose reward is the training loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mixers import simplex
from mixers.base import (
    Array,
    BoolArray,
    Choices,
    Lab,
    Mixer,
    MixerError,
    Mixture,
    Needs,
    Observation,
    Problem,
    Span,
    TrainLosses,
    space,
)  # fmt: skip

REWARDS = {"paper": "loss", "smoothed_exp": "exp_loss", "smoothed_linear": "exp_loss", "cumulative": "loss"}
REWARD_DIVISOR = 10.0  # of the released cumulative class
LARGEST_EXPONENT = 600.0  # a higher loss counts as this one under exp_loss, so that sums stay finite


def exploration_rate(m: int, t: int, factor: float = 1.0) -> float:
    """eps_t = min(1/m, factor sqrt(ln m / (m t))): the weight that every domain keeps after step t >= 1."""
    return min(1.0 / m, factor * math.sqrt(math.log(m) / (m * t)))


class ODM(Mixer):
    """Online Data Mixing, *Efficient Online Data Mixing For Language Model Pre-Training* (arXiv 2312.02406).

    EXP3 on the losses that training computes anyway. A domain i that a step served, with mean loss L_i, has its
    estimate moved, R_i <- a R_i + (1 - a) L_i / p_i (a: ``smoothing``; p: the mixture in force), and the next mixture
    is (1 - m eps_t) softmax(eps_{t-1} R) + eps_t, with eps_t = min(1/m, sqrt(ln m / (m t))). Domains that were not
    served keep their estimate, as in the released code. R starts at 0, after a warm-up on the natural mixture.

    The paper's text was not at hand. Its form above is how two independent ports give it (loss over probability, moving
    average, exponential); whether its reward is L or exp(L) is open, hence ``reward``. The released code
    (alon-albalak/online-data-mixing, edbfdad, ``megatron/data/data_sampling_utils.py``) holds other updates, and its
    README calls the smoothed one the paper's:

    - ``paper``, the default: the form above, as the method was published. No released class has it.
    - ``smoothed_exp``: SmoothedMeanWeightUpdater.update, for steps of one domain. Reward exp(L), not divided by p.
    - ``smoothed_linear``: its group_update, for steps of several domains, which the released 1B and 3B scripts run. The
      same R, but R / sum(R) in place of the softmax; a domain not yet served has eps_t only.
    - ``cumulative``: Exp3WeightUpdater. R_i <- R_i + L_i / (10 p_i), a sum without decay.

    Choices and limits:

    - t counts all steps, the warm-up's too, and the softmax has the eps of the update before (1/m at the first), both
      as released. As long as t <= m ln m the mixture is exactly uniform: with many domains and few steps, always.
    - A step has several domains here; every served one is updated once, by its example-mean loss, as in group_update.
      A domain is then served more often than p_i, so that dividing by p_i favours rare domains: ``cumulative`` stays
      near uniform, and ``paper`` with exp_loss (logits up to e^L) turns to another domain at every step. The weight is
      exact for one draw a step. With ``every`` above 1 the mean is over the round (released: over its last step).
    - Warm-up: 2,000 of 100,000 steps in the scripts; as a share here, since runs are of every length.
    - Scale. Losses times c make ``paper`` and ``cumulative`` sharper: the first update's logits are multiplied by c. In
      ``smoothed_linear`` that update is softmax(c L), while adding a constant to all losses never changes anything;
      with reward ``loss`` it is the factor c that never does.
    - In the long run: a moving average stays bounded while eps falls, so ``paper`` and ``smoothed_exp`` go back to
      uniform (the paper's logits are about m eps_t L), ``smoothed_linear`` stays with the losses, ``cumulative`` goes
      to one domain. Measured after 1,000 steps that serve one domain each, with fixed losses 3.2, 2.6 and 1.4:
      0.35, 0.34, 0.32 with ``paper``; 0.40, 0.33, 0.28; 0.57, 0.32, 0.11; 0.84, 0.13, 0.03.
    - A high loss is not a useful domain: noise and high entropy attract all variants.
    """

    name = "odm"
    search_space = space(
        variant=Choices(values=("paper", "smoothed_exp", "smoothed_linear", "cumulative")),
        smoothing=Span(low=0.5, high=0.98),
        warmup=Span(low=0.0, high=0.2),
    )

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """Defaults are the paper's form; its constants are the released ones.

        variant: which update, see the class. reward: ``loss``, ``exp_loss``, or ``variant`` for what the variant's
        source has (``paper`` and ``cumulative``: loss). smoothing: share of the old estimate that is kept, alpha;
        0.9 in the released class, 0.5 in most of its scripts; without effect in ``cumulative``.
        warmup: share of the steps on the natural mixture. warmup_steps: their number; takes the place of ``warmup``.
        every: steps between updates. exploration: factor on the square root in eps_t; 1 in all sources.
        """

        variant: Literal["paper", "smoothed_exp", "smoothed_linear", "cumulative"] = "paper"
        reward: Literal["variant", "loss", "exp_loss"] = "variant"
        smoothing: float = 0.9
        warmup: float = 0.02
        warmup_steps: int | None = None
        every: int = 1
        exploration: float = 1.0

        def __post_init__(self) -> None:
            rewards, steps = ("variant", "loss", "exp_loss"), self.warmup_steps
            for valid, rule in (
                (self.variant in REWARDS, f"variant is one of {', '.join(REWARDS)}, not {self.variant}"),
                (self.reward in rewards, f"reward is one of {', '.join(rewards)}, not {self.reward}"),
                (0.0 <= self.smoothing < 1.0, f"smoothing must be in [0, 1), not {self.smoothing}"),
                (0.0 <= self.warmup <= 1.0, f"warmup is a share of the steps, in [0, 1], not {self.warmup}"),
                (steps is None or steps >= 0, f"warmup_steps must be at least 0, not {steps}"),
                (self.every >= 1, f"every must be at least 1, not {self.every}"),
                (0.0 < self.exploration < math.inf, f"exploration must be positive and finite, not {self.exploration}"),
            ):
                if not valid:
                    raise MixerError(f"odm: {rule}")

    def needs(self) -> Needs:
        """The domains' training losses, by default after every step."""
        return Needs(every=self.config.every, signals=(TrainLosses(),))

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        """The natural mixture."""
        c = self.config
        self._domains, self._served = problem.domains, np.zeros(problem.m, dtype=np.bool_)
        self._warmup = round(c.warmup * problem.steps) if c.warmup_steps is None else c.warmup_steps
        self._estimates, self._eps = np.zeros(problem.m), 1.0 / problem.m
        self._weights = simplex.normalise(problem.train_shares)
        return problem.mixture(self._weights)

    def update(self, seen: Observation, lab: Lab) -> Mixture | None:
        """The next mixture; ``None`` during warm-up, and where the linear variant has no reward yet."""
        losses = seen.train_losses
        if seen.step <= self._warmup:
            return None
        m, present = len(seen.domains), seen.present & np.isfinite(losses)  # a loss that is not finite is passed over
        self._learn(losses, present)
        before, self._eps = self._eps, exploration_rate(m, seen.step, self.config.exploration)
        if self.config.variant != "smoothed_linear":
            preferred = simplex.softmax(before * self._estimates)
        elif self._estimates.any():
            preferred = simplex.normalise(self._estimates)
        else:
            return None
        self._weights = simplex.mix_with_uniform(preferred, m * self._eps)
        return Mixture(domains=seen.domains, weights=self._weights)

    def _learn(self, losses: Array, present: BoolArray) -> None:
        """Move the estimates of the domains that are ``present``, [m], by their ``losses``, [m]."""
        c = self.config
        reward = losses[present]
        if (REWARDS[c.variant] if c.reward == "variant" else c.reward) == "exp_loss":
            reward = np.exp(np.minimum(reward, LARGEST_EXPONENT))
        if c.variant in ("paper", "cumulative"):
            reward = reward / self._weights[present]
        if c.variant == "cumulative":
            self._estimates[present] += reward / REWARD_DIVISOR
        else:
            self._estimates[present] = c.smoothing * self._estimates[present] + (1.0 - c.smoothing) * reward
        self._served |= present

    def state_dict(self) -> dict[str, Any]:
        """Estimates and mixture by domain, the last eps, and which domains were served since the warm-up."""
        columns = zip(self._estimates.tolist(), self._weights.tolist(), self._served.tolist(), strict=True)
        return {"eps": self._eps, "domains": dict(zip(self._domains, map(list, columns), strict=True))}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        estimates, weights, served = zip(*(state["domains"][name] for name in self._domains), strict=True)
        self._eps = float(state["eps"])
        self._estimates, self._weights = np.array(estimates, dtype=np.float64), np.array(weights, dtype=np.float64)
        self._served = np.array(served, dtype=np.bool_)

    def report(self) -> dict[str, Any]:
        """Steps of warm-up, what is left of exploration (1: still uniform), the estimates, domains never served."""
        estimates = dict(zip(self._domains, self._estimates.tolist(), strict=True))
        never = [name for name, served in zip(self._domains, self._served.tolist(), strict=True) if not served]
        remarks = {"warmup_steps": self._warmup, "uniform_share": len(estimates) * self._eps, "estimates": estimates}
        return remarks | ({"never_served": never} if never else {})
