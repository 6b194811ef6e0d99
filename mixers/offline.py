"""What one-shot offline mixers share: draw a swarm, buy a proxy run for each mixture, fit, recommend, and say how sure.

A subclass says what is fitted (:meth:`OfflineMixer.fit`) and what is recommended (:meth:`OfflineMixer.recommend`).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from threadpoolctl import threadpool_limits

from mixers import proxies, swarm
from mixers.base import Array, Lab, Mixer, MixerError, Mixture, Needs, Problem, Purchases
from mixers.proxies import Fidelity
from mixers.surrogates import Surrogate, agreement, left_out
from mixers.swarm import STRENGTHS, Swarm

SWARM, SIMULATION = 0, 1  # seeds of what is drawn
FOLDS = 3
MOST = 0.5  # a recommendation of this much on one rare domain is called degenerate


@dataclass(frozen=True, slots=True, kw_only=True)
class OfflineConfig:
    """Fields of every offline mixer.

    proxies: number of proxy runs; ``None``: 3 (m + 1) (Olmix). proxy_share, proxy_size: their steps and parameters as
    shares of the main run's. match_repetition: see :class:`mixers.proxies.Fidelity`. validation_examples: of each
    target, 0: all. target: the one whose loss is lowered; ``None``: all, by the problem's target shares. temperature,
    strengths, floor, prior_cap: see :class:`mixers.swarm.Swarm`. max_epochs: the recommendation repeats no domain more
    often in the main run; ``None``: no limit.
    """

    proxies: int | None = None
    proxy_share: float = 0.1
    proxy_size: float = 1.0
    match_repetition: bool = False
    validation_examples: int = 0
    target: str | None = None
    temperature: float = 0.5
    strengths: tuple[float, ...] = STRENGTHS
    floor: float = 2e-4
    prior_cap: float | None = 15.0
    max_epochs: float | None = None

    mixer: ClassVar[str] = "offline"  # begins every message

    def __post_init__(self) -> None:
        self.fidelity.checked(self.mixer)
        self.swarm.checked(self.mixer)
        if self.proxies is not None and self.proxies < 3:
            raise MixerError(f"{self.mixer}: proxies must be at least 3, or none for 3 (m + 1), not {self.proxies}")
        if self.max_epochs is not None and not 0.0 < self.max_epochs < float("inf"):
            raise MixerError(f"{self.mixer}: max_epochs must be positive and finite, or none, not {self.max_epochs}")

    @property
    def fidelity(self) -> Fidelity:
        """What a proxy run is."""
        return Fidelity(
            share=self.proxy_share,
            size=self.proxy_size,
            match_repetition=self.match_repetition,
            validation_examples=self.validation_examples,
        )

    @property
    def swarm(self) -> Swarm:
        """How its mixture is drawn."""
        return Swarm(temperature=self.temperature, strengths=self.strengths, floor=self.floor, prior_cap=self.prior_cap)


class OfflineMixer(Mixer):
    """A static mixture, recommended by a surrogate of proxy runs. Everything is bought before the first step."""

    Config = OfflineConfig

    def needs(self) -> Needs:
        """One round: the mixture is static."""
        return Needs(rounds=1)

    def _schedule(self, problem: Problem) -> list[tuple[Array, Fidelity]]:
        """The mixtures of the swarm, each with the fidelity; none for a single domain."""
        c = self.config
        count = 3 * (problem.m + 1) if c.proxies is None else c.proxies
        drawn = c.swarm.draw(problem, count, SWARM) if problem.m > 1 else ()
        return [(mixture, c.fidelity) for mixture in drawn]

    def purchases(self, problem: Problem) -> Purchases:
        """The proxy runs, exactly."""
        return Purchases(runs=proxies.orders(problem, self._schedule(problem)))

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        """Buy the proxy runs and learn from them."""
        if problem.m == 1:
            self._report: dict[str, Any] = {"runs": 0}
            return problem.mixture([1.0])
        schedule = self._schedule(problem)
        proxies.objective(problem, self.config.target, np.zeros((1, len(problem.targets))))  # before money is spent
        return self.learn(
            problem, np.stack([mixture for mixture, _ in schedule]), proxies.measure(problem, lab, schedule)
        )

    def learn(self, problem: Problem, mixtures: Array, losses: Array) -> Mixture:
        """The recommendation from runs on ``mixtures`` [k, m] with ``losses`` [k, n] by target, NaN where missing.

        Everything is computed in the canonical order of the domains, so that their places and names change nothing.
        """
        with threadpool_limits(1, user_api="blas"):  # matrices are small: more threads are slower, and round otherwise
            return self._learn(problem, mixtures, losses)

    def _learn(self, problem: Problem, mixtures: Array, losses: Array) -> Mixture:
        home = swarm.canonical(problem)
        weights = proxies.objective(problem, self.config.target, losses)
        rows, used = proxies.usable(losses, weights), weights > 0.0
        x = np.ascontiguousarray(mixtures[rows][:, swarm.columns(problem, home)])
        y, shares = np.ascontiguousarray(losses[rows][:, used]), weights[used]
        surrogate = self.fit(x, y)
        best = self.recommend(home, surrogate, shares)
        truth, apart = y @ shares, left_out(self.fit, x, y, FOLDS) @ shares
        skipped = [name for name, used in zip(problem.targets, used, strict=True) if not used]
        self._report = {
            "runs": len(rows),
            "in_sample": agreement(truth, surrogate.predict(x) @ shares),
            "left_out": agreement(truth, apart),
            "predicted": float((surrogate.predict(best[None]) @ shares)[0]),
            "best_run": {"measured": float(truth.min()), "mixture": _named(home, x[truth.argmin()])},
            "recommended": _named(home, best),
            **self._cautions(home, x, best),
            **({"skipped_targets": skipped} if skipped else {}),
            **({"runs_without_losses": len(losses) - len(rows)} if len(rows) < len(losses) else {}),
        }
        return problem.mixture(best[swarm.columns(home, problem)])

    def _cautions(self, home: Problem, x: Array, best: Array) -> dict[str, Any]:
        """How far the recommendation, [m], lies from the runs' mixtures, x [k, m], and what is odd about it."""
        apart = 0.5 * np.abs(x[:, None] - x[None]).sum(axis=2) + 2.0 * np.eye(len(x))
        nearest, usual = float(0.5 * np.abs(x - best).sum(axis=1).min()), float(apart.min(axis=1).max())
        top = int(best.argmax())
        beyond = {home.domains[i]: float(x[:, i].max()) for i in np.flatnonzero(best > x.max(axis=0) + 1e-9)}
        found: dict[str, Any] = {"nearest_run": nearest, "farthest_neighbours": usual}
        if nearest > usual or beyond:
            found["out_of_support"] = {"beyond_largest_share": beyond}
        if best[top] >= MOST and home.train_shares[top] <= 0.5 / home.m:
            found["degenerate"] = {"domain": home.domains[top], "train_share": float(home.train_shares[top])}
        return found

    @abstractmethod
    def fit(self, mixtures: Array, losses: Array) -> Surrogate:
        """The surrogate of runs on mixtures [k, m] with finite losses [k, n]."""

    @abstractmethod
    def recommend(self, home: Problem, surrogate: Surrogate, shares: Array) -> Array:
        """[m] the mixture with the least predicted loss; home: in canonical order, shares: [n] of the targets."""

    def report(self) -> dict[str, Any]:
        """The fit's errors, the recommendation, and how far to trust it.

        in_sample, left_out: mean absolute error and Spearman correlation of the weighted loss, on the runs of the fit
        and on thirds left out of it. nearest_run: total variation from the recommendation to the nearest mixture that
        was run; farthest_neighbours: the largest such distance among the runs themselves. out_of_support: it is beyond
        that, or has more of a domain than any run. degenerate: at least half of it is one domain that has at most half
        of an even share of the training data.
        """
        return self._report


def _named(problem: Problem, weights: Array) -> dict[str, float]:
    """Shares above 0 by domain."""
    return {name: float(w) for name, w in zip(problem.domains, weights, strict=True) if w > 0.0}
