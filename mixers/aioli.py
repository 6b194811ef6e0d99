"""Aioli: learn how domains help each other from short probes of the run itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mixers import simplex
from mixers.base import (
    Array,
    Lab,
    Mixer,
    MixerError,
    Mixture,
    Needs,
    Observation,
    Problem,
    Purchases,
    Span,
    space,
)  # fmt: skip


def probe_mixtures(m: int, eps: float) -> Array:
    """[m, m] row j is (1 - eps) on domain j and eps spread evenly."""
    return (1.0 - eps) * np.eye(m) + eps / m


def interactions(probes: Array, drops: Array) -> Array:
    """[n, m] normalised A from P A_i = drops[:, i]: how much training on domain j lowers the loss of target i.

    probes: P, [m, m], mixtures as rows. drops: [m, n] mean loss drops under each; a target with one that is not finite
    has zeros in A and no part in the rest. Where an entry is negative the smallest is subtracted from all; then A sums
    to one. All zeros where nothing dropped or all entries are the same negative number.
    """
    there = np.asarray(np.isfinite(drops).all(axis=0))
    solved = np.linalg.solve(probes, np.where(there, drops, 0.0)).T
    learnt = np.where(there[:, None], solved - solved.min(initial=0.0), 0.0)
    total = learnt.sum()
    return np.asarray(learnt / total if total > 0.0 else np.zeros_like(learnt), dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """rounds: those that begin with probes. sweeps: over all probes, each time. steps: of one probe."""

    rounds: tuple[int, ...]
    sweeps: int
    steps: int


class Aioli(Mixer):
    """Begin rounds with probes of all domains; the mixture of the rest follows from what they did to the losses.

    Source: Chen et al., *Aioli: A Unified Optimization Framework for Language Model Data Mixing* (arXiv 2411.05735),
    Algorithms 1 and 2 by a summary (the paper's text was not at hand), and the code HazyResearch/aioli a236112.
    LearnParams: probe j is (1 - eps) on domain j with eps spread evenly; ``sweeps`` times all m probes are trained on
    with the live model, optimiser and schedule, a validation pass after each; beta_ij is the mean drop of loss i under
    probe j; A_i solves P A_i = beta_i. A is normalised and p_j becomes p_j exp(eta sum_i A_ij), a plain sum over the
    targets. Probes are steps of the run itself: they cost no steps, but m sweeps + 1 validation passes a learning are
    paid for, which the paper's column "0 extra runs" does not show.

    Choices:

    - Order: one permutation of the probes a sweep, as in the code (the summary has one shuffle of all). Domains are
      numbered by size, and by name where sizes are equal, so that neither position nor new names move the draw.
    - ``ema``: None accumulates p from learning to learning (paper, and the README's first advice). The released scripts
      set it: A is averaged, with this weight on the old one, and p is made anew from uniform, so that no ratio of
      weights exceeds e^eta.
    - ``delta``: the sources do not agree. The summary says .007 for seven domains, where the scripts' probes take .70
      or .07 of a round; .13 for two domains, .29 for three. The code's ``one_hot_factor`` is 1 - eps + eps / m.
    - Short rounds: where delta of a round has no step for each of the m sweeps probes, A is learnt every ``stride``
      rounds only, the fewest that have; where the whole run has not, once and in fewer sweeps, at least one even if
      that is more than delta: see ``report``. Probes of one learning are never parted, also where they outlast a round.
    - A target without validation examples is left out; where no loss drops, the mixture stays (0/0 in the code).
    - Scale: A is divided by its sum, so that losses multiplied by a constant give the same mixtures.
    """

    name = "aioli"
    search_space = space(eta=Span(low=0.1, high=20.0, log=True), eps=Span(low=0.3, high=0.95))

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """eta: step size (README: 0.1, 0.2 or 0.5). sweeps: the paper's k. eps: evenness of the probes. rounds.

        delta: share of the steps between learnings that probes take. ema: weight of the old A, in [0, 1), as released
        (0.1, 0.5); None: the paper's accumulation. validation_examples: of each target in a pass; 0: all.
        """

        eta: float = 0.2
        sweeps: int = 4
        eps: float = 0.75
        rounds: int = 20
        delta: float = 0.3
        ema: float | None = None
        validation_examples: int = 0

        def __post_init__(self) -> None:
            for valid, rule in (
                (0.0 <= self.eta < math.inf, f"eta must be finite and at least 0, not {self.eta}"),
                (self.sweeps >= 1, f"sweeps must be at least 1, not {self.sweeps}"),
                (0.0 <= self.eps < 1.0, f"eps must be in [0, 1), not {self.eps}: at 1 all probes are uniform"),
                (self.rounds >= 1, f"rounds must be at least 1, not {self.rounds}"),
                (0.0 < self.delta < 1.0, f"delta must be in (0, 1), not {self.delta}: at 1 only probes are trained on"),
                (self.ema is None or 0.0 <= self.ema < 1.0, f"ema must be in [0, 1) or None, not {self.ema}"),
                (self.validation_examples >= 0, f"validation_examples must be at least 0: {self.validation_examples}"),
            ):
                if not valid:
                    raise MixerError(f"aioli: {rule}")

    def needs(self) -> Needs:
        """Rounds; all that is learnt is bought."""
        return Needs(rounds=self.config.rounds)

    def plan(self, problem: Problem) -> Plan:
        """When and how long to probe. Raises :class:`MixerError` where no sweep leaves a step of the run to mix."""
        m, c, edges = problem.m, self.config, (0, *self.needs().boundaries(problem.steps))
        if m == 1:
            return Plan(rounds=(), sweeps=c.sweeps, steps=0)
        if m >= problem.steps:
            raise MixerError(
                f"aioli: one sweep over {m} domains takes {m} steps, of the run's {problem.steps}; "
                "train for more steps or merge domains"
            )
        rounds = len(edges) - 1
        for stride in range(1, rounds + 1):
            starts = tuple(range(0, rounds - stride + 1, stride))  # what is left over goes to the last learning
            room = math.floor(c.delta * min(edges[i + stride] - edges[i] for i in starts) + 1e-9)
            if room >= m * c.sweeps:
                break
        sweeps = min(c.sweeps, max(1, room // m))
        return Plan(rounds=starts, sweeps=sweeps, steps=max(1, room // (m * sweeps)))

    def purchases(self, problem: Problem) -> Purchases:
        """m sweeps + 1 validation passes a learning, and the probes' steps."""
        plan = self.plan(problem)
        learnings, probes = len(plan.rounds), problem.m * plan.sweeps
        return Purchases(
            validation_losses=learnings * (probes + 1),
            validation_examples=self.config.validation_examples,
            probe_steps=learnings * probes * plan.steps,
        )

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        """The mixture after the first round's probes."""
        self._problem, self._plan, self._weights = problem, self.plan(problem), simplex.uniform(problem.m)
        self._matrix, self._learnings = np.zeros((len(problem.targets), problem.m)), 0
        return self._learn(0, lab) or problem.mixture(self._weights)

    def update(self, seen: Observation, lab: Lab) -> Mixture | None:
        """The mixture after the next round's probes; ``None`` where it has none."""
        return self._learn(seen.round + 1, lab)

    def _learn(self, round: int, lab: Lab) -> Mixture | None:
        problem, c, plan = self._problem, self.config, self._plan
        if round not in plan.rounds:
            return None
        probes = probe_mixtures(problem.m, c.eps)
        drops = np.zeros((problem.m, len(problem.targets)))
        before = lab.validation_losses(c.validation_examples)
        for j in self._order(round):
            lab.probe(problem.mixture(probes[j]), plan.steps)
            after = lab.validation_losses(c.validation_examples)
            drops[j] += (before - after) / plan.sweeps
            before = after
        learnt, self._learnings = interactions(probes, drops), self._learnings + 1
        if not learnt.any():
            return None
        if c.ema is not None and self._matrix.any():
            learnt = c.ema * self._matrix + (1.0 - c.ema) * learnt
        base = self._weights if c.ema is None else simplex.uniform(problem.m)
        self._matrix, self._weights = learnt, simplex.exponentiated_gradient(base, c.eta * learnt.sum(axis=0))
        return problem.mixture(self._weights)

    def _order(self, round: int) -> list[int]:
        """[m sweeps] positions of the probed domains: every domain once a sweep, in random order."""
        problem = self._problem
        places = np.lexsort((np.array(problem.domains), problem.units, problem.examples))
        random = np.random.default_rng([problem.seed, round])
        return [int(j) for _ in range(self._plan.sweeps) for j in places[random.permutation(problem.m)]]

    def state_dict(self) -> dict[str, Any]:
        """The weights, the last A (with ``ema`` the averaged one) and how often it was learnt."""
        return {"weights": self._weights.tolist(), "matrix": self._matrix.tolist(), "learnings": self._learnings}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._weights, self._matrix = (np.array(state[name], dtype=np.float64) for name in ("weights", "matrix"))
        self._learnings = int(state["learnings"])

    def report(self) -> dict[str, Any]:
        """The last A, row by target; how often and how it was learnt, and in which share of the run's steps."""
        plan, problem, wanted = self._plan, self._problem, self.config.sweeps
        share = self._learnings * problem.m * plan.sweeps * plan.steps / problem.steps
        remarks: dict[str, Any] = {"matrix": np.round(self._matrix, 6).tolist(), "learnings": self._learnings}
        remarks |= {"sweeps": plan.sweeps, "steps_per_probe": plan.steps, "probe_share": share}
        return remarks | ({"sweeps_asked_for": wanted} if plan.sweeps < wanted else {})
