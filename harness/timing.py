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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.flops import count_pass, sync
from harness.lab import PaidLab
from harness.ledger import Ledger
from harness.prepare import Prepared, prepare
from harness.registry import Registry
from harness.spec import TrialSpec
from harness.trainer import Trainer
from mixers.base import Mixture, Observation

WARM_UP = 6
MEMORY_STEPS = 4
LEAST_PAIRS, MOST_PAIRS = 20, 400
BOOTSTRAPS = 2000
WITHOUT_SIGNALS = 0.4  # share of the time spent on a mixer whose steps are those of the static mixture


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Shares are relative to the static mixture; ``low`` and ``high`` are a bootstrap 95 % interval of the median."""

    step_overhead: float
    low: float
    high: float
    memory_overhead: float
    static_step_ms: float
    boundary_ms: float
    pairs: int
    note: str = ""


def time_cell(
    spec: TrialSpec, registry: Registry, cache: Path, *, seconds: float, tick: Callable[[], None] = lambda: None
) -> Timing:
    """Time one (task, partition, mixer) for about ``seconds``; call it when nothing else runs."""
    torch.set_num_threads(spec.threads)
    prepared = prepare(spec, registry, cache)
    needs = prepared.mixer.needs()
    memory = _memory_overhead(prepared, needs.signals)
    static, live = prepared.trainer(()), prepared.trainer(needs.signals)
    mixture = _first_mixture(prepared, live)
    boundaries = needs.boundaries(prepared.recipe.steps)
    per_round = max(1, round(prepared.recipe.steps / len(boundaries)))
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
        tick()
    boundary = 0.0 if len(boundaries) == 1 else _boundary_seconds(prepared, live, mixture)
    times = np.array(pairs)
    base = float(np.median(times[:, 0]))
    differences = times[:, 1] - times[:, 0]
    extra = boundary / per_round
    rng = np.random.default_rng(0)
    draws = rng.integers(0, len(differences), size=(BOOTSTRAPS, len(differences)))
    medians = np.median(differences[draws], axis=1)
    low, high = np.quantile(medians, [0.025, 0.975])
    return Timing(
        step_overhead=(float(np.median(differences)) + extra) / base,
        low=(float(low) + extra) / base,
        high=(float(high) + extra) / base,
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


def _lab(prepared: Prepared, trainer: Trainer) -> PaidLab:
    indices = np.arange(min(prepared.recipe.batch_size, len(prepared.corpus.labels["train"])), dtype=np.int64)
    batch = prepared.task.batch(prepared.corpus, "train", indices)
    flops = count_pass(prepared.task, trainer.model, {k: v.to(prepared.device) for k, v in batch.items()})
    return PaidLab(prepared, trainer, Ledger(), flops, prepared.mixer.needs().purchases)


def _first_mixture(prepared: Prepared, trainer: Trainer) -> Mixture:
    return prepared.mixer.start(prepared.problem, _lab(prepared, trainer)).checked(prepared.problem.domains)


def _boundary_seconds(prepared: Prepared, trainer: Trainer, mixture: Mixture) -> float:
    """Median seconds of gathering an observation and updating, over three short rounds."""
    taken = []
    lab = _lab(prepared, trainer)
    for index in range(3):
        trainer.begin_round(index)
        trainer.step(mixture)
        sync(trainer.device)
        begin = time.perf_counter()
        served = trainer.served()
        seen = Observation(
            domains=prepared.problem.domains,
            step=trainer.done,
            steps=prepared.problem.steps,
            round=index,
            learning_rate=trainer.learning_rate(trainer.done),
            mixture_id=0,
            examples=served.examples,
            units=served.units,
            losses=trainer.domain_losses(),
            gradients=trainer.tracker.take() if trainer.tracker is not None else None,
        )
        prepared.mixer.update(seen, lab)
        taken.append(time.perf_counter() - begin)
    return float(np.median(taken))


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
