"""What offline mixers share: buy proxy runs, fit a surrogate, recommend its best mixture, and say how sure.

A subclass says what is fitted (:meth:`OfflineMixer.fit`) and what is recommended (:meth:`OfflineMixer.recommend`). A
one-shot mixer runs a swarm that is drawn beforehand; an iterative one has a loop of its own
(:meth:`OfflineMixer.explore`), which asks :meth:`OfflineMixer.evidence` what its runs have shown so far.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from threadpoolctl import threadpool_limits

from mixers import proxies, swarm
from mixers.base import Array, BoolArray, IntArray, Lab, Mixer, MixerError, Mixture, Needs, Problem, Purchases
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What runs have shown, with the domains in canonical order, so that their places and names change nothing.

    home: the problem in that order. inputs: [k, m + e], a run's mixture and, where runs differ in more, further
    columns. losses: [k, n], finite, of the targets that count; shares: [n], their weights. rows: [k] positions of the
    runs among all that were made; used: by target of the problem, whether it counts.
    """

    home: Problem
    inputs: Array
    losses: Array
    shares: Array
    rows: IntArray
    used: BoolArray

    @property
    def mixtures(self) -> Array:
        """[k, m]."""
        return self.inputs[:, : self.home.m]

    @property
    def values(self) -> Array:
        """[k] weighted losses: what is to be lowered."""
        return np.asarray(self.losses @ self.shares)

    @property
    def alike(self) -> BoolArray:
        """[k] which runs are at the largest value of every further column, and so can be compared with each other."""
        further = self.inputs[:, self.home.m :]
        return np.asarray((further == further.max(axis=0)).all(axis=1))


class OfflineMixer(Mixer):
    """A static mixture, recommended by a surrogate of proxy runs. Everything is bought before the first step."""

    Config = OfflineConfig

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        self._report: dict[str, Any] = {}
        self._remarks: dict[str, Any] = {}  # a subclass's own, which go into the report

    @property
    def pooled(self) -> bool:
        """Whether one model of the weighted loss is fitted, in place of one a target."""
        return False

    def needs(self) -> Needs:
        """One round: the mixture is static."""
        return Needs(rounds=1)

    def _count(self, problem: Problem) -> int:
        """Number of proxy runs."""
        given: int | None = self.config.proxies
        return 3 * (problem.m + 1) if given is None else given

    def _schedule(self, problem: Problem) -> list[tuple[Array, Fidelity]]:
        """The mixtures of the swarm, each with the fidelity; none for a single domain."""
        c = self.config
        drawn = c.swarm.draw(problem, self._count(problem), SWARM) if problem.m > 1 else ()
        return [(mixture, c.fidelity) for mixture in drawn]

    def purchases(self, problem: Problem) -> Purchases:
        """The proxy runs, exactly."""
        return Purchases(runs=proxies.orders(problem, self._schedule(problem)))

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        """Buy the proxy runs and learn from them."""
        self._remarks = {}
        if problem.m == 1:
            self._report = {"runs": 0}
            return problem.mixture([1.0])
        proxies.objective(problem, self.config.target, np.zeros((1, len(problem.targets))))  # before money is spent
        inputs, losses = self.explore(problem, lab)
        return self.learn(problem, inputs, losses)

    def explore(self, problem: Problem, lab: Lab) -> tuple[Array, Array]:
        """What was run, [k, m + e] (see :class:`Evidence`), and its losses [k, n]: the whole schedule, in one call."""
        schedule = self._schedule(problem)
        return np.stack([mixture for mixture, _ in schedule]), proxies.measure(problem, lab, schedule)

    def evidence(self, problem: Problem, inputs: Array, losses: Array) -> Evidence:
        """What runs have shown; inputs: [k, m + e] in the problem's order, losses: [k, n], NaN where missing.

        Raises :class:`MixerError` where it is too little.
        """
        home = swarm.canonical(problem)
        weights = proxies.objective(problem, self.config.target, losses)
        rows, used = proxies.usable(losses, weights), weights > 0.0
        y, shares = losses[rows][:, used], weights[used]
        order = [*swarm.columns(problem, home), *range(problem.m, inputs.shape[1])]
        return Evidence(
            home=home,
            inputs=np.ascontiguousarray(inputs[rows][:, order]),
            losses=(y @ shares)[:, None] if self.pooled else np.ascontiguousarray(y),
            shares=np.ones(1) if self.pooled else shares,
            rows=rows,
            used=used,
        )

    def learn(self, problem: Problem, inputs: Array, losses: Array) -> Mixture:
        """The recommendation from runs on mixtures [k, m] (see :class:`Evidence` for more columns) with losses [k, n].

        Losses are by target, NaN where missing.
        """
        with threadpool_limits(1, user_api="blas"):  # matrices are small: more threads are slower, and round otherwise
            return self._learn(problem, self.evidence(problem, inputs, losses), len(losses))

    def _learn(self, problem: Problem, runs: Evidence, made: int) -> Mixture:
        home, x, y, shares, truth = runs.home, runs.inputs, runs.losses, runs.shares, runs.values
        surrogate = self.fit(x, y)
        apart = left_out(self.fit, x, y, FOLDS) @ shares
        left = agreement(truth, apart)
        best = self.settle(runs, surrogate, self.recommend(home, surrogate, shares), left["mae"] or 0.0)
        skipped = [name for name, used in zip(problem.targets, runs.used, strict=True) if not used]
        first = int(np.where(runs.alike, truth, np.inf).argmin())
        self._report = {
            "runs": len(x),
            "in_sample": agreement(truth, surrogate.predict(x) @ shares),
            "left_out": left,
            "predicted": float((surrogate.predict(best[None]) @ shares)[0]),
            "best_run": {"measured": float(truth[first]), "mixture": _named(home, runs.mixtures[first])},
            "recommended": _named(home, best),
            **self._cautions(home, runs.mixtures, best),
            **self._remarks,
            **({"skipped_targets": skipped} if skipped else {}),
            **({"runs_without_losses": made - len(x)} if len(x) < made else {}),
        }
        return problem.mixture(best[swarm.columns(home, problem)])

    def _cautions(self, home: Problem, x: Array, best: Array) -> dict[str, Any]:
        """How far the recommendation, [m], lies from the runs' mixtures, x [k, m], and what is odd about it."""
        # One run at a time: with many domains k^2 m numbers would not fit into memory.
        apart = np.stack([0.5 * np.abs(x - one).sum(axis=1) for one in x]) + 2.0 * np.eye(len(x))
        nearest, usual = float(0.5 * np.abs(x - best).sum(axis=1).min()), float(apart.min(axis=1).max())
        top = int(best.argmax())
        beyond = {home.domains[i]: float(x[:, i].max()) for i in np.flatnonzero(best > x.max(axis=0) + 1e-9)}
        found: dict[str, Any] = {"nearest_run": nearest, "farthest_neighbours": usual}
        if nearest > usual or beyond:
            found["out_of_support"] = {"beyond_largest_share": beyond}
        if best[top] >= MOST and home.train_shares[top] <= 0.5 / home.m:
            found["degenerate"] = {"domain": home.domains[top], "train_share": float(home.train_shares[top])}
        return found

    def pool(self, home: Problem, count: int, seed: int) -> Array:
        """[count, m] further mixtures of the swarm to choose from, within the caps on repetition."""
        c = self.config
        caps = swarm.repetition_caps(home, c.max_epochs)
        return np.asarray(c.swarm.draw(home, count, seed, caps=caps, new=False))

    def settle(self, runs: Evidence, surrogate: Surrogate, best: Array, error: float) -> Array:
        """[m] the last word, once ``best``, [m], is recommended; error: mean absolute, of left-out runs' losses."""
        return best

    @abstractmethod
    def fit(self, mixtures: Array, losses: Array) -> Surrogate:
        """The surrogate of runs on mixtures [k, m] with finite losses [k, n]; more columns: :class:`Evidence`."""

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
