"""Proxy runs: what a mixture does, measured on short or small runs of its own before the main run starts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from mixers.base import Array, IntArray, Lab, MixerError, Problem, Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    """How much of the main run a proxy run is.

    share: of its steps. size: of its model's parameters. match_repetition: use that share of every domain's examples
    too, so that the proxy repeats a domain as often as the main run would on the same mixture; otherwise a short run
    hardly repeats small domains and overrates them (arXiv 2606.07597, read as a digest only). The paper takes whole
    documents; we take examples, and on text an example is a window of a document, so that a proxy meets parts of more
    documents than it would by the paper's rule. validation_examples: of each target, 0: all.
    """

    share: float = 0.1
    size: float = 1.0
    match_repetition: bool = False
    validation_examples: int = 0

    def order(self, problem: Problem, mixture: Array) -> Run:
        """The order of one run on a mixture, [m].

        All runs have the same seed: they start from the same weights and meet each domain's examples in the same order,
        so that their losses differ by the mixture alone.
        """
        steps = max(1, round(self.share * problem.steps))
        return Run(
            steps=steps,
            mixture=problem.mixture(mixture),
            size=self.size,
            subsample=min(1.0, steps / problem.steps) if self.match_repetition else 1.0,
            validation_examples=self.validation_examples,
        )

    def checked(self, name: str) -> None:
        """Raise :class:`MixerError` in the name of a mixer where a value gives no run."""
        for valid, rule in (
            (0.0 < self.share <= 1.0, f"proxy_share must be in (0, 1], not {self.share}"),
            (0.0 < self.size < float("inf"), f"proxy_size must be above 0 and finite, not {self.size}"),
            (self.validation_examples >= 0, f"validation_examples must be at least 0, not {self.validation_examples}"),
        ):
            if not valid:
                raise MixerError(f"{name}: {rule}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """Fidelities of several sizes, the rungs; the last one is decided for.

    last: its fidelity. sizes: of all, ascending; none: the last alone. costs: of a run on each rung, in any unit; none:
    as the sizes.
    """

    last: Fidelity
    sizes: tuple[float, ...] = ()
    costs: tuple[float, ...] | None = None

    @property
    def fidelities(self) -> list[Fidelity]:
        """By rung."""
        return [replace(self.last, size=size) for size in self.sizes or (self.last.size,)]

    @property
    def relative(self) -> Array:
        """[s] sizes as shares of the last."""
        return np.array([fidelity.size / self.last.size for fidelity in self.fidelities])

    @property
    def prices(self) -> Array:
        """[s] costs in runs on the last rung."""
        return self.relative if self.costs is None else np.array(self.costs) / self.costs[-1]

    def schedule(self, mixtures: Array, rungs: Sequence[int] | IntArray) -> list[tuple[Array, Fidelity]]:
        """Mixtures, [k, m], with the fidelities of their rungs, [k]."""
        return [(mixture, self.fidelities[rung]) for mixture, rung in zip(mixtures, rungs, strict=True)]

    def inputs(self, mixtures: Array, rungs: IntArray) -> Array:
        """[k, m + 1] mixtures with their relative sizes; with one rung [k, m], the mixtures alone."""
        return mixtures if len(self.relative) == 1 else np.column_stack((mixtures, self.relative[rungs]))

    def checked(self, name: str) -> None:
        """Raise :class:`MixerError` in the name of a mixer where sizes or costs make no ladder."""
        count, costs = len(self.fidelities), (1.0,) if self.costs is None else self.costs
        ascending = all(0.0 < a < b for a, b in pairwise(self.sizes))
        for valid, rule in (
            (
                not self.sizes or (ascending and self.sizes[-1] == self.last.size),
                f"sizes must ascend from above 0 to proxy_size = {self.last.size:g}, not {list(self.sizes)}",
            ),
            (
                self.costs is None or (len(costs) == count and all(0.0 < c < float("inf") for c in costs)),
                f"costs must be one positive number a size, of {count} in all, not {list(costs)}",
            ),
        ):
            if not valid:
                raise MixerError(f"{name}: {rule}")


def orders(problem: Problem, schedule: Sequence[tuple[Array, Fidelity]]) -> tuple[Run, ...]:
    """The orders of a schedule of mixtures, [m], with the fidelity of each."""
    return tuple(fidelity.order(problem, mixture) for mixture, fidelity in schedule)


def measure(problem: Problem, lab: Lab, schedule: Sequence[tuple[Array, Fidelity]]) -> Array:
    """[k, n] validation losses by target at the end of each run, in the order of the schedule; one call to the lab.

    Idle workers make the runs of one call side by side. NaN where a target has no example or a run diverged.
    """
    return measure_and_bill(problem, lab, schedule)[0]


def measure_and_bill(problem: Problem, lab: Lab, schedule: Sequence[tuple[Array, Fidelity]]) -> tuple[Array, Array]:
    """As :func:`measure`, and [k] the FLOPs of each run."""
    results = lab.train(orders(problem, schedule))
    return np.stack([result.final for result in results]), np.array([result.flops for result in results])


def objective(problem: Problem, target: str | None, losses: Array) -> Array:
    """[n] weights of the targets: their shares, or all on the named one.

    losses: [k, n] of the runs; a target without a finite loss in any of them is skipped, and the others take its
    weight. Raises :class:`MixerError` where no weight is left.
    """
    if target is not None and target not in problem.targets:
        raise MixerError(f"there is no target {target!r}; the targets are {', '.join(problem.targets)}")
    shares = problem.target_shares if target is None else np.array([float(t == target) for t in problem.targets])
    weights = np.where(np.isfinite(losses).any(axis=0), shares, 0.0)
    if weights.sum() <= 0.0:
        which = "any target" if target is None else f"target {target!r}"
        raise MixerError(
            f"no proxy run has a finite validation loss of {which}; give it validation examples, or a lower learning "
            "rate if the runs diverged"
        )
    return np.asarray(weights / weights.sum())


def usable(losses: Array, weights: Array) -> IntArray:
    """Positions of the runs that are finite in every target of positive weight; :class:`MixerError` below three."""
    rows = np.flatnonzero(np.isfinite(losses[:, weights > 0.0]).all(axis=1))
    if rows.size < 3:
        raise MixerError(
            f"{rows.size} of {len(losses)} proxy runs have finite losses, at least 3 are needed; order more"
        )
    return rows


def target_losses(problem: Problem, target: str | None, losses: Array) -> Array:
    """[k] the loss of each run on the target mixture, from [k, n]; NaN where a target that counts is not finite.

    Weighted as :func:`objective` says. The sum is exact, so that the order of the targets changes nothing.
    """
    weights = objective(problem, target, losses)
    used = weights > 0.0
    total = math.fsum(weights[used])
    rows = losses[:, used] * weights[used]
    return np.array([math.fsum(row) / total if np.isfinite(row).all() else math.nan for row in rows])


def ladder(problem: Problem, smallest: float, largest: float, count: int) -> tuple[int, ...]:
    """Steps of ``count`` runs, ascending: geometric between two shares of the main run's, each longer than the last.

    Where the main run is too short for that, the longest have more steps than asked for, and may have more than it.
    """
    steps: list[int] = []
    for share in np.geomspace(smallest, largest, count):
        steps.append(max(round(share * problem.steps), steps[-1] + 1 if steps else 1))
    return tuple(steps)
