"""Proxy runs: what a mixture does, measured on short or small runs of its own before the main run starts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mixers.base import Array, IntArray, Lab, MixerError, Problem, Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    """How much of the main run a proxy run is.

    share: of its steps. size: of its model's parameters. match_repetition: use that share of every domain's examples
    too, so that the proxy repeats a domain as often as the main run would on the same mixture; otherwise a short run
    hardly repeats small domains and overrates them (arXiv 2606.07597, read as a digest only). validation_examples: of
    each target, 0: all.
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


def orders(problem: Problem, schedule: Sequence[tuple[Array, Fidelity]]) -> tuple[Run, ...]:
    """The orders of a schedule of mixtures, [m], with the fidelity of each."""
    return tuple(fidelity.order(problem, mixture) for mixture, fidelity in schedule)


def measure(problem: Problem, lab: Lab, schedule: Sequence[tuple[Array, Fidelity]]) -> Array:
    """[k, n] validation losses by target at the end of each run, in the order of the schedule; one call to the lab.

    Idle workers make the runs of one call side by side. NaN where a target has no example or a run diverged.
    """
    return np.stack([result.final for result in lab.train(orders(problem, schedule))])


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
        raise MixerError(f"no proxy run has a finite validation loss of {which}; give it validation examples")
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
