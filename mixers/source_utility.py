"""Source utility: what each source's data would bring at the main run's cost, read off curves of annealing runs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np

from mixers import curves, proxies, simplex, swarm
from mixers.base import Array, Checkpoint, Lab, Mixer, MixerError, Mixture, Problem, Purchases, Run, Span, space
from mixers.curve_runs import CurveConfig
from mixers.curves import number


class SourceUtility(Mixer):
    """From one checkpoint, anneal on each source at several budgets; read its curve of loss against cost; then share.

    Source of the idea: Ostapenko et al., *Using Scaling Laws for Data Source Utility Estimation in Domain-Specific
    Pre-Training* (arXiv 2507.22250), of which only the abstract and notes were at hand: one annealing run says how
    sources rank at one budget, the rank changes with compute, so make several of growing cost, where acquiring the data
    counts, and fit curves. **The form is a design of our own**: the paper's curve, number of budgets, share of the
    source and count of cost are not known here, and it ranks sources for a person to buy, where this gives a mixture.

    (1) A run on the training shares q is kept. (2) From it, for each domain i, ``budgets`` runs on share e_i +
    (1 - share) q, and as many on q alone, the replay. (3) Each one's loss on the targets is fitted as E + B C^-b, B of
    either sign. (4) At the main run's cost a source's gain is the replay's predicted loss less its own.
    (5) The mixture is p_i ~ q_i exp(gain_i / (share temperature)).

    Choices:

    - Cost: examples trained on, plus for those that the source's share draws ``costs[i]`` each, in units of what
      training on an example costs. So C = steps x batch x (1 + share costs[i]), and at one cost a dear source trains
      less. An example that is drawn twice is paid for twice: an upper bound. The replay's data are there already.
    - A budget is a run of its own with the whole schedule, warm-up included, as the lab gives each run: learning
      rates rise again to their peak and fall. All annealing runs meet the same examples of a domain, and not those
      that the checkpoint's run began with.
    - tilt: gain / share is, to first order, how much more a little of the source lowers the loss than a little of all,
      so (5) is one step of exponentiated gradient from the training shares; without gains it stays there. ``gain``
      shares in proportion to positive gains, and keeps the training shares where there is none.
    - A source without a curve (fewer than four finite losses) has no gain; a domain without examples gets nothing.

    Limits. The curves are read at ``budget`` times the main run's cost, far beyond the longest annealing run: with four
    points a curve that is a wide guess. Very short runs lie before the power law sets in; the report says ``at_limit``,
    predicted losses are then too high for all sources alike, and only their order means something. Sources are
    judged one at a time, beside the training shares.

    Scale: losses times s act as temperature / s. Deterministic.
    """

    name = "source_utility"
    search_space = space(temperature=Span(low=0.02, high=2.0, log=True))

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config(CurveConfig):
        """share: of the source in an annealing run. checkpoint: length of the run that they start from.

        costs: domain -> cost of an example, in units of training on one; others cost nothing. rule: ``tilt`` or
        ``gain``. temperature: of ``tilt``, in units of the loss. The others: :class:`mixers.curve_runs.CurveConfig`.
        """

        mixer: ClassVar[str] = "source_utility"

        smallest: float = 0.025
        largest: float = 0.2
        share: float = 0.3
        checkpoint: float = 0.2
        costs: dict[str, float] = field(default_factory=dict)
        rule: Literal["tilt", "gain"] = "tilt"
        temperature: float = 0.1

        def __post_init__(self) -> None:
            CurveConfig.__post_init__(self)
            for valid, rule in (
                (0.0 < self.share <= 1.0, f"share must be in (0, 1], not {self.share}"),
                (0.0 < self.checkpoint <= 1.0, f"checkpoint must be in (0, 1], not {self.checkpoint}"),
                (all(0.0 <= c < np.inf for c in self.costs.values()), "costs must be finite and at least 0"),
                (self.rule in ("tilt", "gain"), f"rule is tilt or gain, not {self.rule}"),
                (0.0 < self.temperature < np.inf, f"temperature must be positive and finite, not {self.temperature}"),
            ):
                if not valid:
                    raise MixerError(f"source_utility: {rule}")

    def purchases(self, problem: Problem) -> Purchases:
        """The checkpoint's run and the annealing runs, exactly."""
        if not self._sources(problem):
            return Purchases()
        return Purchases(runs=(self._first(problem), *self._anneals(problem, Checkpoint(key="not made yet"))))

    def _sources(self, problem: Problem) -> list[int]:
        """Positions of the domains with examples, in canonical order; none where there is nothing to choose."""
        there = [i for i in swarm.columns(problem, swarm.canonical(problem)) if problem.train_shares[i] > 0.0]
        return there if len(there) > 1 else []

    def _first(self, problem: Problem) -> Run:
        steps = max(1, round(self.config.checkpoint * problem.steps))
        return replace(self.config.order(problem, problem.train_shares, steps), keep=True)

    def _anneals(self, problem: Problem, start: Checkpoint) -> list[Run]:
        """Replay first, then the sources in canonical order, each from the shortest run to the longest."""
        c = self.config
        units = np.eye(problem.m)[self._sources(problem)]
        mixtures = [problem.train_shares, *(c.share * units + (1.0 - c.share) * problem.train_shares)]
        return [replace(run, start=start, seed=1) for mixture in mixtures for run in c.orders(problem, mixture)]

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        """Buy the runs, fit, and share."""
        c, sources = self.config, self._sources(problem)
        unknown = sorted(set(c.costs) - set(problem.domains))
        if unknown:
            raise MixerError(
                f"source_utility: costs names {unknown[0]!r}; the domains are {', '.join(problem.domains)}"
            )
        proxies.objective(problem, c.target, np.zeros((1, len(problem.targets))))  # before money is spent
        if not sources:
            self._report: dict[str, Any] = {"runs": 0}
            return problem.mixture(problem.train_shares)
        first = lab.train([self._first(problem)])[0]
        if first.checkpoint is None:
            raise MixerError("source_utility: the lab kept no model of a run with keep=True")
        runs = self._anneals(problem, first.checkpoint)
        losses = np.stack([result.final for result in lab.train(runs)])
        return self.learn(problem, [run.steps for run in runs], losses)

    def learn(self, problem: Problem, steps: list[int], losses: Array) -> Mixture:
        """The mixture from losses [runs, n] of the annealing runs in their order, with their steps."""
        c, sources = self.config, self._sources(problem)
        names = [problem.domains[i] for i in sources]
        dear = 1.0 + c.share * np.array([0.0, *(c.costs.get(name, 0.0) for name in names)])
        costs = np.reshape(steps, (-1, c.budgets)) * problem.batch_size * dear[:, None]
        losses = proxies.target_losses(problem, c.target, losses).reshape(costs.shape)
        fitted = curves.fit(costs, losses, falling=False)
        if np.isnan(fitted.floor[0]):
            raise MixerError("source_utility: fewer than 4 of the replay runs have finite losses: they diverged")
        draws = curves.bootstrap(fitted, costs, losses, draws=c.draws, seed=[problem.seed, 0], falling=False)
        goal = c.goal(problem)
        predicted, redrawn = fitted.at(goal), draws.at(goal)
        gains = np.nan_to_num(predicted[0] - predicted[1:])
        shares = self._shares(problem.train_shares[sources], gains)
        weights = np.zeros(problem.m)
        weights[sources] = shares
        weights = swarm.within(weights, problem.train_shares, swarm.repetition_caps(problem, c.max_epochs))
        about = [
            {
                **curves.points(costs[i], losses[i], fitted.part(i)),
                "predicted": number(predicted[i]),
                "interval": curves.interval(redrawn[:, i]),
                "gain": number(predicted[0] - predicted[i]),
                "gain_interval": curves.interval(redrawn[:, 0] - redrawn[:, i]),
            }
            for i in range(1 + len(names))
        ]
        columns = (curves.ranks(losses[1:, 0]), curves.ranks(predicted[1:]), curves.leads(redrawn[:, 1:]))
        beside = [dict(zip(("rank_at_first", "rank", "leads"), row, strict=True)) for row in zip(*columns, strict=True)]
        own = slice(1, None)
        low = float(costs[:, 0].max())
        self._report = {
            "runs": 1 + len(steps),
            "cost": goal,
            "replay": about[0],
            "sources": {name: {**a, **b} for name, a, b in zip(names, about[1:], beside, strict=True)},
            "crossings": curves.all_crossings(names, fitted.part(own), draws.part(own), low, goal),
        }
        return problem.mixture(weights)

    def _shares(self, train: Array, gains: Array) -> Array:
        """[s] shares from those of the training data, above 0, and gains."""
        if self.config.rule == "gain":
            positive = np.maximum(gains, 0.0)
            return simplex.normalise(positive if positive.any() else train)
        return simplex.softmax(np.log(train) + gains / (self.config.share * self.config.temperature))

    def report(self) -> dict[str, Any]:
        """Costs and losses, curves, predictions at the main run's cost with intervals (90 %), and crossings.

        rank_at_first, rank: by the loss measured in the shortest runs, and by the predicted one. leads: the share of
        the bootstrap in which the source is the best. crossings: pairs of sources that change places between the
        shortest runs and the main run's cost, see :func:`mixers.curves.all_crossings`.
        """
        return self._report
