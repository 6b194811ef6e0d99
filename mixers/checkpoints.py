"""Models kept on the way of one run: at which steps, which of them is best at what, and what examples do to them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mixers.base import Array, BoolArray, Influence, IntArray, Lab, MixerError, Run, RunResult


def spaced(steps: int, count: int) -> tuple[int, ...]:
    """``count`` steps evenly spaced over a run, the last one at its end; fewer where the run is shorter."""
    return tuple(sorted({max(1, round(steps * i / count)) for i in range(1, count + 1)}))


def best(losses: Array) -> IntArray:
    """[n] position of the least finite loss of every target, the first on a tie; -1 where none is finite.

    losses: [number of checkpoints, n].
    """
    known = np.where(np.isfinite(losses), losses, np.inf)
    return np.where(np.isfinite(known).any(axis=0), known.argmin(axis=0), -1).astype(np.int64)


def watched(run: Run, count: int) -> Run:
    """The run, which keeps its model at ``count`` evenly spaced steps and is evaluated at each of them."""
    at = spaced(run.steps, count)
    return replace(run, keep_at=at, evaluate_at=at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Influences of k training examples on each target at that target's own checkpoint.

    influence: [k, n]; positive lowers the target's loss; 0 for targets that were not used. steps: [n] step of the
    target's checkpoint, 0 for targets that were not used. domains, units, examples: [k], as the lab gave them.
    """

    influence: Array
    steps: IntArray
    domains: IntArray
    units: Array
    examples: IntArray


def score(result: RunResult, lab: Lab, how: Influence, used: BoolArray, *, standardise: bool) -> Scores:
    """Buy the influence on each used target, [n], at the checkpoint of a watched run with its least validation loss.

    Targets that share a checkpoint are bought together. standardise: each target's influences are divided by their root
    mean square. An example that has an influence which is not finite is left out.
    """
    place = best(result.losses)
    steps = np.where(used, np.array(result.steps)[place], 0)
    columns = None
    for step in sorted(set(steps[used].tolist())):
        asked = np.flatnonzero(steps == step)
        made = lab.influence(result.checkpoints[step], how, asked.tolist())
        columns = np.zeros(made.influence.shape) if columns is None else columns
        columns[:, asked] = made.influence[:, asked]
    if columns is None:
        raise MixerError("no target has a finite validation loss at any checkpoint; give it validation examples")
    finite = np.isfinite(columns).all(axis=1)
    columns = columns[finite]
    if standardise:
        sizes = np.sqrt((columns**2).mean(axis=0)) if len(columns) else np.ones(len(used))
        columns = columns / np.where(sizes > 0.0, sizes, 1.0)
    return Scores(
        influence=columns,
        steps=steps,
        domains=made.domains[finite],
        units=made.units[finite],
        examples=made.examples[finite],
    )


def densities(joint: Array, units: Array, domains: IntArray, m: int) -> tuple[Array, Array]:
    """[m] unit-weighted means of the examples' joint influence and their standard errors; NaN without any example.

    joint, units, domains: [k]. Of a single example the error is 0: it says nothing.
    """
    sums = np.bincount(domains, weights=units, minlength=m)
    with np.errstate(invalid="ignore", divide="ignore"):
        density = np.bincount(domains, weights=units * joint, minlength=m) / sums
        squares = np.bincount(domains, weights=(units * (joint - density[domains])) ** 2, minlength=m)
        return density, np.sqrt(squares) / sums
