"""Synthetic ratio: how much of one domain, by a law of the budget for each of a few ratios."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np

from mixers import curves, proxies, swarm
from mixers.base import Array, Choices, Lab, Mixer, MixerError, Mixture, Problem, Purchases, Run, space
from mixers.curve_runs import CurveConfig
from mixers.curves import Curves, number

BUDGETS_SHOWN = 9  # budgets in the report, from the shortest run's to BEYOND times the main run's
BEYOND = 4.0


class SyntheticRatio(Mixer):
    """Runs at a few ratios of one domain to all others and several budgets; a power law each; the best at the budget.

    Source: Kang et al., *Demystifying Synthetic Data in LLM Pre-training: A Systematic Study of Scaling Laws, Benefits,
    and Pitfalls* (arXiv 2510.01631), of which abstract and detailed notes were at hand, and no code is known. For each
    of the ratios 0, 1/3, 2/3, 1 of synthetic to natural text models are trained on growing budgets D, and L(D) =
    B D^-beta + E is fitted; it predicts twice the largest budget to within half a percent there. The best ratio hangs
    on the budget, about 30 % for rephrased text at large ones. The paper is a study; **that a mixer takes the ratio of
    least predicted loss at the main run's budget is our reading**. The same procedure serves any domain.

    Choices:

    - domain: names decide nothing, so that without the setting it is the smallest domain with examples (by
      examples, units, shares); on ``text[synthetic=...]`` set domain=synthetic. Natural text is all other
      domains, at their training shares.
    - L is the loss on the targets, weighted by their shares; the paper's perplexities are of held-out texts, some of
      which are like what was rephrased. A target of the designated domain's own text would judge as partially.
    - The laws over model size are left out: runs have one size. The budget is examples, all of one length, and none
      of it pays for the generator, as in the paper; :mod:`mixers.source_utility` counts that.
    - Budgets from a twentieth to 0.4 of the main run: the prediction reaches 2.5 times as far, where the paper's
      reaches 2. One run a point; the paper has three to five variants.
    - refine: ``grid`` takes one of the ratios, as the paper. ``parabola`` takes the least point of the parabola through
      the best ratio's predicted loss and its neighbours', where it has one; at an end of the grid it stays there.
    - A domain that the main run repeats much and the short runs did not is overrated: match_repetition, max_epochs.

    Scale: losses times a constant change nothing. A ratio with fewer than four finite losses is no candidate.
    """

    name = "synthetic_ratio"
    search_space = space(refine=Choices(values=("grid", "parabola")))

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config(CurveConfig):
        """domain: see the class. ratios: its shares, ascending. refine: ``grid`` or ``parabola``.

        max_epochs: the ratio repeats the domain no more often in the main run; the other domains are not looked at. The
        others: :class:`mixers.curve_runs.CurveConfig`.
        """

        mixer: ClassVar[str] = "synthetic_ratio"

        domain: str | None = None
        ratios: tuple[float, ...] = (0.0, 1 / 3, 2 / 3, 1.0)
        refine: Literal["grid", "parabola"] = "grid"

        def __post_init__(self) -> None:
            CurveConfig.__post_init__(self)
            r = self.ratios
            if not (len(r) >= 2 and r[0] >= 0.0 and r[-1] <= 1.0 and all(a < b for a, b in pairwise(r))):
                raise MixerError(f"synthetic_ratio: ratios must be two or more in [0, 1], ascending, not {list(r)}")
            if self.refine not in ("grid", "parabola"):
                raise MixerError(f"synthetic_ratio: refine is grid or parabola, not {self.refine}")

    def purchases(self, problem: Problem) -> Purchases:
        """A run for each ratio and budget, exactly."""
        return Purchases(runs=tuple(self._runs(problem)))

    def _designated(self, problem: Problem) -> int | None:
        """Position of the domain; ``None`` where there are not two domains with examples."""
        wanted, there = self.config.domain, problem.train_shares > 0.0
        if wanted is not None and wanted not in problem.domains:
            names = ", ".join(problem.domains)
            raise MixerError(f"synthetic_ratio: there is no domain {wanted!r}; set domain to one of {names}")
        if there.sum() < 2:
            return None
        if wanted is None:
            return next(i for i in swarm.columns(problem, swarm.canonical(problem)) if there[i])
        if not there[problem.domains.index(wanted)]:
            raise MixerError(f"synthetic_ratio: domain {wanted!r} has no training examples; set domain to another")
        return problem.domains.index(wanted)

    def _mixture(self, problem: Problem, ratio: float) -> Array:
        """[m] so much of the domain, the rest at training shares."""
        chosen = self._designated(problem)
        assert chosen is not None
        own = np.eye(problem.m)[chosen]
        rest = np.where(own > 0.0, 0.0, problem.train_shares)
        return np.asarray(ratio * own + (1.0 - ratio) * rest / rest.sum())

    def _runs(self, problem: Problem) -> list[Run]:
        """Ratio by ratio, each from the shortest run to the longest."""
        c = self.config
        if self._designated(problem) is None:
            return []
        return [run for ratio in c.ratios for run in c.orders(problem, self._mixture(problem, ratio))]

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        """Buy the runs, fit, and take the best ratio."""
        runs = self._runs(problem)
        proxies.objective(problem, self.config.target, np.zeros((1, len(problem.targets))))  # before money is spent
        if not runs:
            self._report: dict[str, Any] = {"runs": 0}
            return problem.mixture(problem.train_shares)
        losses = np.stack([result.final for result in lab.train(runs)])
        return self.learn(problem, [run.steps for run in runs], losses)

    def learn(self, problem: Problem, steps: list[int], losses: Array) -> Mixture:
        """The mixture from losses [runs, n] of the runs in their order, with their steps."""
        c, chosen = self.config, self._designated(problem)
        assert chosen is not None
        costs = np.reshape(steps, (len(c.ratios), c.budgets)) * float(problem.batch_size)
        losses = proxies.target_losses(problem, c.target, losses).reshape(costs.shape)
        laws = curves.fit(costs, losses)
        if np.isnan(laws.floor).all():
            raise MixerError("synthetic_ratio: no ratio has 4 runs with finite losses: they diverged")
        draws = curves.bootstrap(laws, costs, losses, draws=c.draws, seed=[problem.seed, 0])
        cap = float(swarm.repetition_caps(problem, c.max_epochs)[chosen])
        goal = c.goal(problem)
        ratio = float(self._best(laws, goal, cap)[()])
        predicted, redrawn = laws.at(goal), draws.at(goal)
        leads, crossed = curves.leads(redrawn), [f"{r:.4g}" for r in c.ratios]
        low = float(costs[:, 0].max())
        self._report = {
            "runs": len(steps),
            "domain": problem.domains[chosen],
            "ratio": ratio,
            "ratio_interval": curves.interval(self._best(draws, goal, cap)),
            "budget": goal,
            "laws": [
                {
                    "ratio": c.ratios[i],
                    **curves.points(costs[i], losses[i], laws.part(i)),
                    "predicted": number(predicted[i]),
                    "interval": curves.interval(redrawn[:, i]),
                    "leads": leads[i],
                }
                for i in range(len(c.ratios))
            ],
            "by_budget": [
                {
                    "budget": float(at),
                    "ratio": float(self._best(laws, at, cap)[()]),
                    "interval": curves.interval(self._best(draws, at, cap)),
                }
                for at in np.geomspace(low, BEYOND * goal, BUDGETS_SHOWN)
            ],
            "crossings": curves.all_crossings(crossed, laws, draws, low, BEYOND * goal),
        }
        return problem.mixture(self._mixture(problem, ratio))

    def _best(self, laws: Curves, budget: float, cap: float) -> Array:
        """[...] the ratio of least loss at a budget, for laws [..., ratios], within the cap; the first of equals."""
        ratios, loss = np.array(self.config.ratios), laws.at(budget)
        allowed = np.where(np.isnan(loss) | (ratios > cap), np.inf, loss)
        at = allowed.argmin(axis=-1)
        best = ratios[at] if self.config.refine == "grid" else curves.vertex(ratios, loss, at)
        return np.asarray(np.where(np.isfinite(allowed).any(axis=-1), np.minimum(best, cap), min(cap, ratios[0])))

    def report(self) -> dict[str, Any]:
        """The laws, the best ratio at the main run's budget and at others, with intervals (90 %) of a bootstrap.

        Budgets are in examples. leads: the share of the bootstrap in which a ratio is the best at the main run's
        budget. crossings: see :func:`mixers.curves.all_crossings`.
        """
        return self._report
