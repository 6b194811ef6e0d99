"""What offline mixers share: buy proxy runs, fit a surrogate, recommend its best mixture, and say how sure.

A subclass says what is fitted (:meth:`OfflineMixer.fit`) and what is recommended (:meth:`OfflineMixer.recommend`). A
one-shot mixer runs a swarm that is drawn beforehand; an iterative one has a loop of its own
(:meth:`OfflineMixer.explore`), which asks :meth:`OfflineMixer.evidence` what its runs have shown so far.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from mixers import proxies, swarm
from mixers.base import Array, Lab, Mixer, Mixture, Needs, Problem, Purchases
from mixers.evidence import Evidence, cautions, named
from mixers.offline_config import OfflineConfig
from mixers.proxies import Fidelity
from mixers.surrogates import Surrogate, agreement, left_out

SWARM, SIMULATION = 0, 1  # seeds of what is drawn
FOLDS = 3


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
            "best_run": {"measured": float(truth[first]), "mixture": named(home, runs.mixtures[first])},
            "recommended": named(home, best),
            **cautions(home, runs.mixtures, best),
            **self._remarks,
            **({"skipped_targets": skipped} if skipped else {}),
            **({"runs_without_losses": made - len(x)} if len(x) < made else {}),
        }
        return problem.mixture(best[swarm.columns(home, problem)])

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
