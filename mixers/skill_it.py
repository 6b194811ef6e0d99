"""Skill-It: follow the losses along a graph of which domain helps which."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np

from mixers import simplex
from mixers.base import (
    Array,
    Choices,
    Lab,
    Mixer,
    MixerError,
    Mixture,
    Needs,
    Observation,
    Problem,
    Purchases,
    Run,
    Span,
    space,
)  # fmt: skip


class SkillIt(Mixer):
    """Weigh domain i by how much it helps the targets whose losses are high: p_i = softmax(eta sum_j A_ij L_j).

    Source: Chen et al., *Skill-it! A data-driven skills framework for understanding and training language models*
    (arXiv 2307.14430), Algorithms 1 to 3, and the code HazyResearch/skill-it 807b3bf. A [m, n] is learnt from m short
    runs on single domains from scratch: A_ij = max(0, drop of loss j when trained on i). The first mixture is
    exp(eta sum_j A_ij), normalised; afterwards L_j is summed over a window of rounds, and the mixture is always made
    anew from uniform, never from the last one.

    Choices:

    - graph: ``drop`` is Algorithm 3 with absolute loss drops, as in the paper. ``relative`` divides by the loss before,
      as Aioli's harness does. ``pairwise`` is Algorithm 2: i helps j as far as the pair lowers loss j more than j alone
      (negative: 0), with m (m - 1) / 2 further runs; the diagonal, of which the paper says nothing but for its
      synthetic data (1), is j's own drop. It needs targets that are the training domains.
    - window: in rounds. The code counts evaluations, which differs where there are several a round.
    - lag: by Algorithm 1 the losses in the window are those at the *beginning* of each round, so that a mixture does
      not see what the round before it did. The code is the same where it evaluates once a round (after the round's
      first step). ``lag=false`` looks at the present losses, as the code does where it evaluates often.
    - The code turns off-diagonal entries of exactly 1 into 0.5, which is meant for its synthetic graphs, and averages
      the losses in the window, in place of the sum, where targets are some of the training skills: left out.
    - Checked against the official ``MWTrainer.train`` on recorded graphs and losses: the first mixture and every later
      one, with one evaluation a round, windows of 1, 3 and longer than the run, targets that are the domains, some of
      them or others, eta up to 100; with two evaluations a round a window of 1. How the graph is learnt has no official
      code.
    - Scale: A and L both grow with the losses, so that losses multiplied by c act as eta c^2 (``relative``: eta c).
    """

    name = "skill_it"
    search_space = space(
        eta=Span(low=0.01, high=2.0, log=True),
        window=Span(low=1, high=5, whole=True),
        graph=Choices(values=("drop", "relative")),
    )

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """eta: strength (paper: 0.1 to 0.8, 100 for RedPajama). rounds: the paper's T (5 to 10). window: its w.

        graph, lag: see the class. graph_share: steps of a graph run as a share of the main run's (paper: 0.03 to 1).
        graph_size: of its model. validation_examples: of each target in an evaluation (paper: 50 to 400); 0: all.
        """

        eta: float = 0.2
        rounds: int = 6
        window: int = 3
        graph: Literal["drop", "relative", "pairwise"] = "drop"
        lag: bool = True
        graph_share: float = 0.1
        graph_size: float = 1.0
        validation_examples: int = 100

        def __post_init__(self) -> None:
            for valid, rule in (
                (math.isfinite(self.eta) and self.eta >= 0.0, f"eta must be finite and at least 0, not {self.eta}"),
                (self.rounds >= 1 and self.window >= 1, "rounds and window must be at least 1"),
                (0.0 < self.graph_share <= 1.0, f"graph_share must be in (0, 1], not {self.graph_share}"),
                (self.graph_size > 0.0, f"graph_size must be above 0, not {self.graph_size}"),
                (self.validation_examples >= 0, f"validation_examples must be at least 0: {self.validation_examples}"),
            ):
                if not valid:
                    raise MixerError(f"skill_it: {rule}")

    def needs(self) -> Needs:
        """Rounds; losses and the graph are bought."""
        return Needs(rounds=self.config.rounds)

    def purchases(self, problem: Problem) -> Purchases:
        """The graph's runs and one evaluation a round."""
        return Purchases(
            validation_losses=len(self.needs().boundaries(problem.steps)),
            validation_examples=self.config.validation_examples,
            runs=self._runs(problem),
        )

    def _runs(self, problem: Problem) -> tuple[Run, ...]:
        """The m single domains, then with ``pairwise`` all pairs in equal parts."""
        m, c = problem.m, self.config
        mixtures = list(np.eye(m))
        if c.graph == "pairwise":
            mixtures += [(np.eye(m)[i] + np.eye(m)[j]) / 2 for i, j in combinations(range(m), 2)]
        steps = max(1, round(c.graph_share * problem.steps))
        return tuple(
            Run(
                steps=steps,
                mixture=problem.mixture(mixture),
                size=c.graph_size,
                evaluate_at=(0,),
                validation_examples=c.validation_examples,
            )
            for mixture in mixtures
        )

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        """Learn the graph; the mixture of its row sums."""
        if self.config.graph == "pairwise" and problem.domains != problem.targets:
            raise MixerError("skill_it: graph=pairwise needs targets that are the training domains; use graph=drop")
        results = lab.train(self._runs(problem))
        before, after = results[0].losses[0], np.stack([result.final for result in results])
        self._graph = self._learn(np.nan_to_num(before - after), before, problem.m)
        self._problem = problem
        self._window: list[Array] = []
        self._look(lab)
        return problem.mixture(simplex.softmax(self.config.eta * self._graph.sum(axis=1)))

    def _learn(self, drops: Array, before: Array, m: int) -> Array:
        """[m, n] graph from the loss drops of all runs, [runs, n]."""
        graph = np.maximum(drops[:m], 0.0)
        if self.config.graph == "relative":
            return graph / np.where(np.isfinite(before) & (before > 0.0), before, np.inf)
        if self.config.graph == "pairwise":
            alone = np.diag(drops[:m]).copy()
            graph = np.diag(np.maximum(alone, 0.0))
            for row, (i, j) in enumerate(combinations(range(m), 2), start=m):
                graph[i, j] = max(0.0, drops[row, j] - alone[j])
                graph[j, i] = max(0.0, drops[row, i] - alone[i])
        return graph

    def _look(self, lab: Lab) -> None:
        losses = np.nan_to_num(lab.validation_losses(self.config.validation_examples))
        self._window = [*self._window, losses][-self.config.window :]

    def update(self, seen: Observation, lab: Lab) -> Mixture | None:
        """The next mixture, from uniform."""
        if not self.config.lag:
            self._look(lab)
        logits = self.config.eta * self._graph @ np.sum(self._window, axis=0)
        if self.config.lag:
            self._look(lab)
        return self._problem.mixture(simplex.softmax(logits))

    def state_dict(self) -> dict[str, Any]:
        """The losses in the window; the graph is learnt again, from runs that are made once."""
        return {"window": [losses.tolist() for losses in self._window]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._window = [np.array(losses, dtype=np.float64) for losses in state["window"]]

    def report(self) -> dict[str, Any]:
        """The graph, row by training domain."""
        return {"graph": np.round(self._graph, 6).tolist()}
