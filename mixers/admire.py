"""ADMIRE: Bayesian optimisation of the mixture, one proxy run at a time, of one model size or of several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from threadpoolctl import threadpool_limits

from mixers import gaussian, optimum, proxies, swarm
from mixers.base import Array, BoolArray, Choices, IntArray, Lab, MixerError, Mixture, Problem, Purchases, Span, space
from mixers.evidence import Evidence
from mixers.gaussian import Inputs, Process, Settings
from mixers.offline import SIMULATION, OfflineMixer
from mixers.offline_config import OfflineConfig
from mixers.proxies import Ladder
from mixers.surrogates import Surrogate

PROPOSALS = 2000  # plus the number of runs: seeds of the candidates for the next one
APART = 0.01  # total variation from every run of a size at which a candidate is new there
AROUND = 0.5  # share of the candidates that are drawn towards the best predicted one
SHARED = 3  # mixtures that are run at every size before the first choice
REFINED = 512  # directions of the search for the answer


class Admire(OfflineMixer):
    """Fit a Gaussian process to all proxy runs, run what it would learn most from, again; its best mean at the end.

    Source: *ADMIRE-BayesOpt: Accelerated Data MIxture RE-weighting with Bayesian Optimization* (arXiv 2508.11551; code
    xo28/ADMIRE-BayesOpt dc17795, read; the paper's body was not). With one size the next run has the greatest expected
    improvement; with several the pair of mixture and size says most of the least loss at the last size, for its cost
    (max-value entropy search). Costs: ``costs``, or, as in the code, sizes relative to the last.

    Choices, against the released scripts, which replay tables of finished runs:

    - Candidates: theirs are the runs of the table; here new draws of RegMix's sampler, half of them moved towards the
      best predicted mixture, and for another size what was run before.
    - Answer: the least posterior mean at the last size, from ``answers`` draws and a search around the best of them.
      The multi-fidelity script takes the arg-max of the *acquisition*, which is what one should run next.
    - The simplex: weights sum to one, so a coordinate is superfluous. Leaving one out would treat that domain apart.
      Roots of shares lie on a sphere, where no domain is apart, and differences between small shares count more;
      ``inputs=share`` are the scripts' raw weights, whose distances within the simplex are as well defined.
    - model: ``sum`` is one process of the weighted loss, as in the scripts, which have one score; improvement and
      entropy are of one number. ``each`` is a process a target, whose weighted sum is normal, too; for one size alone,
      as BoTorch's entropy takes one output. It is not the paper's.
    - Kernel: Matern 5/2 with a length scale a domain (``ard``), under BoTorch's prior for many dimensions; with several
      sizes BoTorch's multi-fidelity model, as in the scripts (library defaults, on losses standardised here).
    - initial: m + 1 mixtures of the swarm (scripts: 1), at the smallest size; three of them at each other size.
    - Budget: as many runs as other offline mixers make, 3 (m + 1). With several sizes that is the price, in runs at the
      last size, of all together, and ``runs`` limits their number. What a run of a size costs is read off the bill of
      the first ones; a lab that tells no FLOPs is believed to charge ``costs``. On a table sizes pick its nearest
      sizes: give sizes that it has.
    - A mixture whose run diverged is not proposed again. max_epochs holds for proposals and the answer.

    Scale: losses times a constant change nothing but rounding, as they are standardised.
    """

    name = "admire"
    search_space = space(
        model=Choices(values=("sum", "each")),
        inputs=Choices(values=("root", "share")),
        temperature=Span(low=0.0, high=1.0),
    )

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config(OfflineConfig):
        """sizes: of the runs, as shares of the main model's parameters, ascending, ``proxy_size`` last; none: it alone.

        costs: of a run at each size, for the choice of the next; none: sizes relative to the last. initial: mixtures
        before the first choice; none: m + 1. runs: at most, with several sizes; none: 3 times ``proxies``. candidates:
        for the next run. answers: for the answer. values: samples of the least loss (scripts: 1). iterations: of a fit.
        model, inputs, ard: see the class. The others: :class:`mixers.offline_config.OfflineConfig`.
        """

        mixer: ClassVar[str] = "admire"

        model: Literal["sum", "each"] = "sum"
        inputs: Inputs = "root"
        ard: bool = True
        sizes: tuple[float, ...] = ()
        costs: tuple[float, ...] | None = None
        initial: int | None = None
        runs: int | None = None
        candidates: int = 512
        answers: int = 4096
        values: int = 10
        iterations: int = 50

        def __post_init__(self) -> None:
            OfflineConfig.__post_init__(self)
            self.ladder.checked("admire")
            for valid, rule in (
                (self.model in ("sum", "each"), f"model is sum or each, not {self.model}"),
                (self.inputs in ("root", "share"), f"inputs is root or share, not {self.inputs}"),
                (self.ard or len(self.sizes) <= 1, "ard is of one size: with several it is always on"),
                (len(self.sizes) <= 1 or self.model == "sum", "several sizes need model=sum"),
                (self.initial is None or self.initial >= 3, f"initial must be at least 3, not {self.initial}"),
                (self.runs is None or self.runs >= 3, f"runs must be at least 3, not {self.runs}"),
                (
                    min(self.candidates, self.answers, self.values, self.iterations) >= 1,
                    "candidates, answers, values and iterations must be at least 1",
                ),
            ):
                if not valid:
                    raise MixerError(f"admire: {rule}")

        @property
        def ladder(self) -> Ladder:
            """The sizes."""
            return Ladder(last=self.fidelity, sizes=self.sizes, costs=self.costs)

    @property
    def pooled(self) -> bool:
        """With ``model=sum``."""
        return bool(self.config.model == "sum")

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        """As every offline mixer, once BoTorch is there."""
        if problem.m > 1:
            gaussian.botorch()
        return super().start(problem, lab)

    def _opening(self, problem: Problem) -> tuple[Array, IntArray, int]:
        """What is run before the first choice, [k, m], places of their sizes, [k], and how many full runs are left."""
        c, ladder = self.config, self.config.ladder
        drawn = np.stack([mixture for mixture, _ in self._schedule(problem)])
        if c.initial is not None and c.initial > len(drawn):
            raise MixerError(f"admire: initial is {c.initial}, of {len(drawn)} proxies; raise proxies")
        first = drawn[: problem.m + 1 if c.initial is None else c.initial]
        further = [first[:SHARED]] * (len(ladder.prices) - 1)
        mixtures = np.concatenate((first, *further))
        levels = np.concatenate([np.full(len(part), k) for k, part in enumerate((first, *further))])
        left = len(drawn) - float(ladder.prices[levels].sum())
        if left < -1e-9:
            cost = len(drawn) - left
            raise MixerError(f"admire: the first runs cost {cost:.3g} of {len(drawn)} proxies; raise proxies")
        return mixtures, levels, int(left + 1e-9)

    def purchases(self, problem: Problem) -> Purchases:
        """The first runs exactly, and as many at the last size as their price leaves: others cost no more."""
        if problem.m == 1:
            return Purchases()
        mixtures, levels, left = self._opening(problem)
        first, later = self.config.ladder.schedule(mixtures, levels), (problem.train_shares, self.config.fidelity)
        return Purchases(runs=proxies.orders(problem, [*first, *[later] * left]))

    def explore(self, problem: Problem, lab: Lab) -> tuple[Array, Array]:
        """The first runs in one call to the lab, then one a call. With several sizes inputs have one more column."""
        c, ladder = self.config, self.config.ladder
        mixtures, levels, budget = self._opening(problem)
        most = len(levels) + budget if len(ladder.prices) == 1 else c.runs or 3 * self._count(problem)
        losses, flops = proxies.measure_and_bill(problem, lab, ladder.schedule(mixtures, levels))
        prices, left = ladder.prices, float(budget)
        if np.all(flops > 0.0):
            bills = np.array([flops[levels == k].mean() for k in range(len(prices))])
            prices = bills / bills[-1]
        while len(levels) < most and np.any(within := prices <= left + 1e-9):
            with threadpool_limits(1, user_api="blas"):
                runs = self.evidence(problem, ladder.inputs(mixtures, levels), losses)
                mixture, level = self._next(runs, mixtures[:, swarm.columns(problem, runs.home)], levels, within)
            mixture = mixture[swarm.columns(runs.home, problem)][None]
            found = proxies.measure(problem, lab, ladder.schedule(mixture, [level]))
            mixtures, losses = np.concatenate((mixtures, mixture)), np.concatenate((losses, found))
            levels, left = np.append(levels, level), left - float(prices[level])
        if len(prices) > 1:
            counts = np.bincount(levels, minlength=len(prices)).tolist()
            self._remarks = {"sizes": dict(zip(map(str, c.sizes), counts, strict=True)), "prices": prices.tolist()}
        return ladder.inputs(mixtures, levels), losses

    def _next(self, runs: Evidence, tried: Array, levels: IntArray, within: BoolArray) -> tuple[Array, int]:
        """The mixture, [m], and the size to run next; tried: [k, m] at sizes [k]; within: [s] sizes that are left."""
        c, ladder, home, shares = self.config, self.config.ladder, runs.home, runs.shares
        process = self.fit(runs.inputs, runs.losses)
        pool = self.pool(home, c.candidates, PROPOSALS + len(tried))
        best = optimum.argmin(process, shares, pool)
        moved = pool[: round(AROUND * len(pool))]
        rng = np.random.default_rng([home.seed, PROPOSALS, len(tried)])
        moved += rng.uniform(size=(len(moved), 1)) * (best - moved)
        if len(ladder.prices) == 1:
            new = swarm.untried(pool, tried, APART)
            return new[process.log_improvement(new, shares, float(runs.values.min())).argmax()], 0
        again = tried[(tried <= swarm.repetition_caps(home, c.max_epochs) + 1e-9).all(axis=1)]
        choice = np.concatenate((pool, again))
        parts = {k: swarm.untried(choice, tried[levels == k], APART) for k in np.flatnonzero(within)}
        places = np.concatenate([np.full(len(part), k) for k, part in parts.items()])
        rows = ladder.inputs(np.concatenate(list(parts.values())), places)
        judged = process.entropy_for_cost(rows, pool, ladder.prices[places], samples=c.values, seed=len(tried))
        return rows[judged.argmax(), : home.m], int(places[judged.argmax()])

    def fit(self, mixtures: Array, losses: Array) -> Process:
        """A process of the weighted loss, or one a target; mixtures: [k, m], or [k, m + 1] with a size."""
        c = self.config
        m = mixtures.shape[1] - (len(c.ladder.prices) > 1)
        return gaussian.fit(mixtures, losses, m, Settings(inputs=c.inputs, ard=c.ard, iterations=c.iterations))

    def recommend(self, home: Problem, surrogate: Surrogate, shares: Array) -> Array:
        """The least mean at the last size."""
        pool = self.pool(home, self.config.answers, SIMULATION)
        best = optimum.argmin(surrogate, shares, pool)
        return optimum.refine(lambda p: optimum.predicted(surrogate, shares, p), best, pool[:REFINED])
