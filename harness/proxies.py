"""Runs that a mixer orders apart from the main run: proxies, references. Each is made once and kept by content.

CACHE/runs/<key>/result.json   what came of it, and what it cost
CACHE/runs/<key>/model.pt      its weights, where they were to be kept
CACHE/runs/<key>/model-<n>.pt  the same after n steps
CACHE/runs/<key>/checkpoint.pt while it is under way
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from harness import PROTOCOL
from harness.experiment import plain
from harness.flops import PassFlops
from harness.kept import folder_of, is_made, on_the_way, weights_of
from harness.ledger import Ledger
from harness.mixing import MixedTraining, Progress, pass_flops
from harness.orders import INLINE
from harness.prepare import Prepared, problem_of
from harness.seeds import derive_seed, run_seed
from harness.spec import named
from harness.store import read_json, save_checkpoint, write_json
from harness.vectors import embedding_flops
from mixers.base import (
    Checkpoint,
    DomainGradients,
    Lab,
    Mixer,
    MixerError,
    Mixture,
    Problem,
    Purchases,
    Run,
    RunResult,
    StepLosses,
)
from mixers.regroup.base import Partition

FORMAT = 1  # raised when the stored form or the meaning of an order changes
CHECKPOINT_SECONDS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A run's result, the seconds that it took when it was made, and whether a cache answered."""

    result: RunResult
    seconds: float
    cached: bool


class Fixed(Mixer):
    """Draws from one mixture to the end."""

    name = "fixed mixture"

    def __init__(self, mixture: Mixture) -> None:
        super().__init__()
        self._mixture = mixture

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        """The mixture that it was made with."""
        return self._mixture


def obtain(prepared: Prepared, run: Run) -> Made:
    """The result of an order: from the cache, or made here and now. Raises :class:`MixerError` for a bad order."""
    return fulfil(child_of(prepared, run), run)


def fulfil(child: Prepared, run: Run, progress: Progress = lambda step, steps: None) -> Made:
    """The result of the training run that an order became."""
    folder = folder_of(child, key_of(child, run))
    stored = folder / "result.json"
    if is_made(folder, run):
        data = read_json(stored)
        return Made(result=_result(data, folder.name, run), seconds=data["seconds"], cached=True)
    begin = time.perf_counter()
    at = tuple(sorted({*run.evaluate_at, run.steps}))
    training = MixedTraining(
        child,
        folder / "checkpoint.pt",
        progress,
        CHECKPOINT_SECONDS,
        evaluate_at=at,
        validation_examples=run.validation_examples,
        keep_at=run.keep_at,
    )
    training.run()
    ledger = child.ledger
    evaluations = len(at) * training.flops.forward * _validated(child, run.validation_examples) / _batch(child)
    if run.keep:
        save_checkpoint(folder / "model.pt", training.trainer.model.state_dict())
    data = {
        "steps": list(at),
        "losses": [[None if math.isnan(x) else x for x in training.evaluations[step]] for step in at],
        "state": child.mixer.state_dict(),
        "size": run.size,
        "flops": ledger.flops["training"] + ledger.flops["mixing"] + evaluations,
        "seconds": time.perf_counter() - begin + ledger.made_elsewhere,
    }
    write_json(stored, data)
    (folder / "checkpoint.pt").unlink(missing_ok=True)
    return Made(result=_result(data, folder.name, run), seconds=data["seconds"], cached=False)


def missing(prepared: Prepared, runs: Sequence[Run]) -> dict[str, Run]:
    """Key -> order, of the orders that no cache answers; equal ones stand once."""
    keys = {key_of(child_of(prepared, run), run): run for run in runs}
    return {key: run for key, run in keys.items() if not is_made(folder_of(prepared, key), run)}


def child_of(prepared: Prepared, run: Run) -> Prepared:
    """The order as a training run of its own, on the trial's data."""
    if run.steps < 1 or any(not 0 <= step <= run.steps for step in run.evaluate_at):
        raise MixerError(f"a run of {run.steps} steps cannot be evaluated at {run.evaluate_at}")
    if any(not 0 <= step <= run.steps for step in run.keep_at):
        raise MixerError(f"a run of {run.steps} steps has no model to keep at {run.keep_at}; keep within its steps")
    partition = prepared.partition if run.subsample == 1.0 else _thinned(prepared, run.subsample)
    recipe = replace(prepared.recipe, steps=run.steps)
    seed = run_seed(prepared.seed, run.seed, shared=run.shared)
    return replace(
        prepared,
        task=prepared.main_task.scaled(run.size),
        partition=partition,
        problem=problem_of(prepared.corpus, partition, recipe, derive_seed(seed, "mixer")),
        mixer=_mixer(run),
        recipe=recipe,
        ledger=Ledger(),
        seed=seed,
        orders=INLINE,
        start=None if run.start is None else weights_of(prepared, run.start),
    )


def _mixer(run: Run) -> Mixer:
    """What drives the run. A mixer remembers, so the run gets one of its own that has seen nothing."""
    if run.mixture is not None and run.mixer is None:
        return Fixed(run.mixture)
    if run.mixer is not None and run.mixture is None:
        return type(run.mixer)(run.mixer.config)
    raise MixerError("a run has either a mixture or a mixer that drives it")


def _thinned(prepared: Prepared, share: float) -> Partition:
    """The first examples of every domain in a fixed random order, at least one; the others get the label -1."""
    if not 0.0 < share <= 1.0:
        raise MixerError(f"a run's subsample must be in (0, 1], not {share}")
    labels = prepared.partition.train
    order = np.random.default_rng(derive_seed(0, "subsample")).permutation(len(labels))
    thinned = np.full_like(labels, -1)
    for domain in range(prepared.problem.m):
        members = order[labels[order] == domain]
        chosen = members[: max(1, round(share * len(members)))]
        thinned[chosen] = domain
    thinned.setflags(write=False)
    return replace(prepared.partition, train=thinned)


def key_of(child: Prepared, run: Run) -> str:
    """Hash of all that the run's result depends on; whether it is shared stands in the child's seed."""
    recipe = {key: value for key, value in dataclasses.asdict(child.recipe).items() if key != "time_limit"}
    identity = [
        FORMAT,
        PROTOCOL,
        child.corpus.fingerprint,
        named(child.spec.task),
        plain(child.task.config),
        hashlib.sha256(child.partition.train.tobytes() + child.partition.validation.tobytes()).hexdigest(),
        list(child.problem.domains),
        child.problem.target_shares.tolist(),
        recipe,
        child.seed,
        [str(child.device), str(child.dtype), child.spec.compile, child.spec.threads],
        [run.size, run.subsample, run.evaluate_at, run.validation_examples, run.keep],
        None if run.start is None else run.start.key,
        _driver(run),
        # At the end and only where there are any: older runs keep their keys.
        *([sorted({*run.keep_at})] if run.keep_at else []),
    ]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:24]


def _driver(run: Run) -> Any:
    """What draws: the mixture, or the mixer's class with its source and its config."""
    if run.mixture is not None:
        weights = run.mixture.loss_weights
        return [run.mixture.weights.tolist(), None if weights is None else weights.tolist()]
    cls = type(run.mixer)
    source = hashlib.sha256(Path(inspect.getfile(cls)).read_bytes()).hexdigest()
    return [cls.__module__, cls.__qualname__, source, plain(run.mixer.config)]  # type: ignore[union-attr]


def price(prepared: Prepared, run: Run) -> float:
    """Upper bound of a run's FLOPs, without making it."""
    child = child_of(prepared, replace(run, start=None))
    signals = child.mixer.needs().signals
    flops = _flops_of(child)
    total = run.steps * flops.training
    if any(isinstance(signal, StepLosses) and signal.reference is not None for signal in signals):
        total += run.steps * flops.forward
    if any(isinstance(signal, DomainGradients) for signal in signals):
        total += run.steps * flops.training  # generous: the tracker's price is known only as it goes
    at = len({*run.evaluate_at, run.steps})
    total += at * flops.forward * _validated(child, run.validation_examples) / _batch(child)
    return total + price_of(child, child.mixer.purchases(child.problem), flops)


_COUNTED: dict[str, PassFlops] = {}


def _flops_of(child: Prepared) -> PassFlops:
    """FLOPs of a step of the run's model, counted once: a mixer may order hundreds of runs of one size."""
    shape = [child.task.name, plain(child.task.config), child.corpus.fingerprint, _batch(child), str(child.device)]
    key = json.dumps(shape, sort_keys=True)
    if key not in _COUNTED:
        _COUNTED[key] = pass_flops(child, child.build_model().to(child.device))
    return _COUNTED[key]


def price_of(prepared: Prepared, bought: Purchases, flops: PassFlops) -> float:
    """Upper bound of what purchases cost in FLOPs."""
    from harness import influence
    from harness.gradients.estimate import TARGETS_AT_ONCE

    m, n, batch = prepared.problem.m, len(prepared.problem.targets), _batch(prepared)
    validation = bought.validation_losses * flops.forward * _validated(prepared, bought.validation_examples) / batch
    blocks = 1 if bought.gradients_against == "mean" else -(-n // TARGETS_AT_ONCE)
    passes = bought.gradient_examples * (n + m * blocks)
    gradients = bought.domain_gradients * flops.training * passes / batch
    vectors = embedding_flops(prepared, bought.embedder) if bought.embedding_examples else 0.0
    runs = sum(price(prepared, run) for run in bought.runs)
    return validation + gradients + vectors + runs + influence.price(prepared, bought)


def _validated(prepared: Prepared, examples: int) -> int:
    """Validation examples in one pass."""
    counts = np.bincount(prepared.partition.validation, minlength=len(prepared.problem.targets))
    return int(np.minimum(counts, examples).sum() if examples else counts.sum())


def _batch(prepared: Prepared) -> int:
    return prepared.recipe.batch_size


def _result(data: dict[str, Any], key: str, run: Run) -> RunResult:
    losses = np.array([[math.nan if x is None else x for x in row] for row in data["losses"]], dtype=np.float64)
    losses.setflags(write=False)
    return RunResult(
        steps=tuple(data["steps"]),
        losses=losses,
        state=data["state"],
        checkpoint=Checkpoint(key=key) if run.keep else None,
        flops=float(data["flops"]),
        checkpoints={step: on_the_way(key, step) for step in sorted({*run.keep_at})},
    )
