"""A mixer played in a scripted world: its lab, its run, and what tests by hand need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from harness.conformance.worlds import UNITS_PER_EXAMPLE, World
from mixers.base import (
    Against,
    Array,
    BoolArray,
    Checkpoint,
    ExampleVectors,
    GradientEstimate,
    Influence,
    InfluenceEstimate,
    Mixer,
    MixerError,
    Mixture,
    Observation,
    Problem,
    RunResult,
    StepLosses,
)
from mixers.base import Run as Order

__all__ = ["Run", "ScriptedLab", "World", "observation", "problem"]


class ScriptedLab:
    """Sells what the world's script says, in any quantity: what was declared is checked in a real trial.

    lowered: [m] by identity, how much probes have lowered the logarithm of the losses; a new array every time.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.lowered = np.zeros(world.m)
        self.step = 0

    def validation_losses(self, examples: int = 0) -> Array:
        """[n] by target."""
        return self._world.validation_losses(self.step, self.lowered)

    def domain_gradients(
        self, examples: int, *, parts: int = 1, scaling: str = "none", against: Against = "each"
    ) -> GradientEstimate:
        """Those of the script, whatever the examples."""
        return self._world.estimate(self.step, against)

    def embeddings(self, examples: int, embedder: str = "auto") -> ExampleVectors:
        """Those of the script, up to so many of each domain and target."""
        return self._world.embeddings(examples)

    def influence(
        self, checkpoint: Checkpoint, how: Influence, targets: Sequence[int] | None = None
    ) -> InfluenceEstimate:
        """That of the script, of a few examples a domain, whatever the model."""
        return self._world.influence(targets)

    def probe(self, mixture: Mixture, steps: int) -> None:
        """Lowers the losses of what the mixture trains on."""
        self.lowered = self.lowered + self._world.lowered(mixture, steps)

    def train(self, runs: Sequence[Order]) -> list[RunResult]:
        """Losses that fall faster where the mixture has more weight."""
        return [self._run(order) for order in runs]

    def _run(self, order: Order) -> RunResult:
        world = replace(self._world, steps=order.steps)
        weights, state = np.full(world.m, 1.0 / world.m), {}
        if order.mixture is not None:
            weights = order.mixture.checked(world.domains).weights
        elif order.mixer is not None:
            driver = type(order.mixer)(order.mixer.config)
            run = Run(driver, world)
            for step in range(min(order.steps, 8)):
                run.reweigh(step)
            run.to_end()
            weights, state = run.mixtures[-1].weights, driver.state_dict()
        steps = tuple(sorted({*order.evaluate_at, order.steps}))
        losses = np.stack([world.run_losses(weights, step) for step in steps])
        return RunResult(
            steps=steps,
            losses=losses,
            state=state,
            checkpoint=Checkpoint(key="kept"),
            flops=1.0,
            checkpoints={step: Checkpoint(key=f"kept@{step}") for step in order.keep_at},
        )


class Run:
    """A mixer in a world, from ``start`` to the last update.

    mixtures: those in force, the first from ``start`` and one more after every update, as the referee would take them.
    """

    def __init__(self, mixer: Mixer, world: World) -> None:
        self.mixer, self.world, self.lab = mixer, world, ScriptedLab(world)
        self.problem = world.problem()
        self.boundaries = mixer.needs().boundaries(world.steps)
        self.mixtures = [self._checked(mixer.start(self.problem, self.lab), "start")]
        self.shown: list[Observation] = []

    def _checked(self, answer: Any, method: str) -> Mixture:
        if not isinstance(answer, Mixture):
            raise MixerError(
                f"{method} returned {type(answer).__name__}; return a Mixture, such as problem.mixture(weights)"
            )
        return answer.checked(self.problem.domains)

    def reweigh(self, step: int) -> None:
        """Show one batch, where the mixer declares it."""
        if any(isinstance(signal, StepLosses) for signal in self.mixer.needs().signals):
            self.mixer.reweigh(self.world.batch_losses(step))

    @property
    def updates(self) -> int:
        """How many updates there are: one a round, none after the last."""
        return len(self.boundaries) - 1

    def update(self, round: int) -> None:
        """Show one round and take the answer."""
        step, begun = self.boundaries[round], self.boundaries[round - 1] if round else 0
        self.reweigh(begun)
        self.lab.step = step
        self.shown.append(self.world.observation(self.mixer, round, begun, step))
        answer = self.mixer.update(self.shown[-1], self.lab)
        self.mixtures.append(self.mixtures[-1] if answer is None else self._checked(answer, "update"))

    def to_end(self, first: int = 0) -> Run:
        """All updates from ``first`` on."""
        for round in range(first, self.updates):
            self.update(round)
        return self

    def resumed(self, state: Mapping[str, Any], round: int, mixture: Mixture, lowered: Array) -> Run:
        """Take up the state of another run after its first ``round`` updates, and go on to the end.

        lowered: what its probes had done to the losses, [m] by identity.
        """
        self.mixer.load_state_dict(state)
        self.mixtures, self.lab.lowered = [mixture], lowered
        return self.to_end(round)


def problem(train: Sequence[float], target: Sequence[float] | None = None, *, steps: int = 100) -> Problem:
    """A small problem for tests by hand, of 1000 examples: domains d0, d1, ... with these train and target shares."""
    domains = tuple(f"d{i}" for i in range(len(train)))
    examples = np.round(1000 * np.array(train)).astype(np.int64)
    return Problem(
        domains=domains,
        targets=domains,
        train_shares=np.array(train),
        target_shares=np.array(train if target is None else target),
        examples=examples,
        units=examples * UNITS_PER_EXAMPLE,
        steps=steps,
        batch_size=4,
        seed=0,
    )


def observation(
    problem: Problem, *, losses: Sequence[float] | None = None, present: Sequence[bool] | None = None, round: int = 0
) -> Observation:
    """A round of tests by hand, ten a run. Domains that are not ``present`` have count 0 and loss NaN."""
    there: BoolArray = np.ones(problem.m, dtype=bool) if present is None else np.array(present, dtype=bool)
    counts = np.where(there, 4, 0)
    return Observation(
        domains=problem.domains,
        step=(round + 1) * problem.steps // 10,
        steps=problem.steps,
        round=round,
        learning_rate=1e-3,
        mixture_id=round,
        examples=counts,
        units=counts * UNITS_PER_EXAMPLE,
        losses=None if losses is None else np.where(there, np.array(losses, dtype=np.float64), np.nan),
    )
