"""What a mixer costs in time and memory: paired steps against the static mixture, alone on the machine.

Two trainers of the same trial, one without signals and one with the mixer's, take turns step by step; each pair
gives a difference, and the order within a pair alternates. The work at a round's end is timed apart and spread over
the round's steps. Nothing here touches a row's results: the trainers are thrown away.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.budget import fitted
from harness.flops import PassFlops, sync
from harness.lab import PaidLab
from harness.ledger import Ledger
from harness.mixing import observe
from harness.prepare import prepare
from harness.prepared import Prepared, pass_flops
from harness.process import set_up
from harness.registry import Registry
from harness.spec import TrialSpec
from harness.stats import paired_cost
from harness.trainer import Trainer
from mixers.base import Mixture

WARM_UP = 6
MEMORY_STEPS = 4
LEAST_UPDATES = 3
UPDATES_SHARE = 0.3  # of the seconds of a cell, for the ends of rounds
LEAST_PAIRS, MOST_PAIRS = 20, 400
WITHOUT_SIGNALS = 0.15  # share of the time spent on a mixer whose steps are those of the static mixture


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Shares are relative to the static mixture; ``low`` and ``high`` are a bootstrap 95 % interval."""

    step_overhead: float
    low: float
    high: float
    memory_overhead: float
    static_step_ms: float
    boundary_ms: float
    pairs: int


def time_cell(spec: TrialSpec, registry: Registry, cache: Path, *, seconds: float) -> Timing:
    """Time one (task, partition, mixer) for about ``seconds``; call it when nothing else runs."""
    set_up(spec.threads, spec.seed)
    prepared, _ = fitted(prepare(spec, registry, cache))
    needs = prepared.mixer.needs()
    memory = _memory_overhead(prepared, needs.signals)
    static, live = prepared.trainer(()), prepared.trainer(needs.signals)
    mixture = _first_mixture(prepared, live)
    for trainer in (static, live):
        trainer.begin_round(0)
        for _ in range(WARM_UP):
            trainer.step(mixture)
    clock = _clock(prepared)
    pairs: list[tuple[float, float]] = []
    end = time.perf_counter() + (seconds if needs.signals else WITHOUT_SIGNALS * seconds)
    while len(pairs) < LEAST_PAIRS or (time.perf_counter() < end and len(pairs) < MOST_PAIRS):
        order = (static, live) if len(pairs) % 2 == 0 else (live, static)
        taken = {id(trainer): _timed(trainer, mixture, clock) for trainer in order}
        pairs.append((taken[id(static)], taken[id(live)]))
    boundaries = needs.boundaries(prepared.recipe.steps)
    # A trainer of its own: the pairs may have used up the steps that probes would be taken from.
    at_ends = prepared.trainer(needs.signals)
    boundary = _boundary_seconds(prepared, at_ends, mixture, seconds=UPDATES_SHARE * seconds)
    # The last round is not observed and ends without an update.
    observed = boundaries[-2] / prepared.recipe.steps if len(boundaries) > 1 else 0.0
    extra = boundary * (len(boundaries) - 1) / prepared.recipe.steps
    times = np.array(pairs)
    base = float(np.median(times[:, 0]))
    cost = paired_cost(times)
    share = observed if needs.signals else 1.0
    step, low, high = (share * value + extra / base for value in (cost.share, cost.low, cost.high))
    return Timing(
        step_overhead=step,
        low=low,
        high=high,
        memory_overhead=memory,
        static_step_ms=1000 * base,
        boundary_ms=1000 * boundary,
        pairs=len(pairs),
    )


def _clock(prepared: Prepared) -> Callable[[], float]:
    """Wall clock; for one thread on a CPU the process's own time, which leaves out what others took from it."""
    alone = prepared.device.type == "cpu" and prepared.spec.threads == 1
    return time.process_time if alone else time.perf_counter


def _timed(trainer: Trainer, mixture: Mixture, clock: Callable[[], float]) -> float:
    sync(trainer.device)
    begin = clock()
    trainer.step(mixture)
    sync(trainer.device)
    return clock() - begin


def _lab(prepared: Prepared, trainer: Trainer, flops: PassFlops) -> PaidLab:
    return PaidLab(prepared, trainer, Ledger(), flops, prepared.mixer.purchases(prepared.problem))


def _first_mixture(prepared: Prepared, trainer: Trainer) -> Mixture:
    lab = _lab(prepared, trainer, pass_flops(prepared, trainer.model))
    return prepared.mixer.start(prepared.problem, lab).checked(prepared.problem.domains)


def _boundary_seconds(prepared: Prepared, trainer: Trainer, mixture: Mixture, *, seconds: float) -> float:
    """Mean wall-clock seconds of the ends of rounds, in their order; 0 where the mixer has no update.

    Rounds are of one step here, but the mixer is told the steps of the real ones, so that what it does now and then
    (a refit) comes as often as in a trial. Probes are steps of the main run: their time is taken off. At least a few
    ends are timed, then as many as there is time for.
    """
    boundaries = prepared.mixer.needs().boundaries(prepared.recipe.steps)
    flops = pass_flops(prepared, trainer.model)
    taken: list[float] = []
    until = time.perf_counter() + seconds
    for index, end in enumerate(boundaries[:-1]):
        if len(taken) >= LEAST_UPDATES and time.perf_counter() > until:
            break
        lab = _lab(prepared, trainer, flops)
        trainer.begin_round(index)
        begin = time.perf_counter()
        trainer.step(mixture)
        sync(trainer.device)
        stepped = time.perf_counter()
        seen = replace(observe(prepared.problem, trainer, index, mixture_id=0), step=end)
        prepared.mixer.update(seen, lab)
        sync(trainer.device)
        taken.append(max(0.0, time.perf_counter() - stepped - lab.probed * (stepped - begin)))
        if trainer.done >= prepared.recipe.steps:
            break
    return float(np.mean(taken)) if taken else 0.0


def _memory_overhead(prepared: Prepared, signals: tuple[Any, ...]) -> float:
    """Relative difference in peak memory over a few steps, each side alone in turn, after one for practice."""
    _peak(prepared, ())
    peaks = [_peak(prepared, which) for which in ((), signals)]
    return (peaks[1] - peaks[0]) / peaks[0] if peaks[0] else 0.0


def _peak(prepared: Prepared, signals: tuple[Any, ...]) -> float:
    """Peak bytes: the allocator's on CUDA, the process's resident set on Linux, 0 elsewhere."""
    _release()
    cuda = prepared.device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    else:
        _reset_resident_peak()
    trainer = prepared.trainer(signals)
    m = len(prepared.problem.domains)
    mixture = prepared.problem.mixture(np.full(m, 1.0 / m))
    trainer.begin_round(0)
    for _ in range(MEMORY_STEPS):
        trainer.step(mixture)
    if trainer.tracker is not None:
        trainer.tracker.take()
    return float(torch.cuda.max_memory_allocated()) if cuda else _resident_peak()


def _release() -> None:
    """Give freed memory back, so that one side's leavings do not count for the other."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _reset_resident_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _resident_peak() -> float:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return 1024.0 * float(line.split()[1])
    return 0.0
