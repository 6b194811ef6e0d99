"""Making the runs that mixers order, or finding them made."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.kept import folder_of, is_made, on_the_way
from harness.mixing import MixedTraining, Progress
from harness.orders import Made
from harness.prepared import Prepared
from harness.proxies.children import child_of, key_of
from harness.store import held, read_json, save_checkpoint, write_json
from harness.trainer import DivergedError
from harness.validation import validated
from mixers.base import Checkpoint, Run, RunResult

CHECKPOINT_SECONDS = 20.0


def obtain_all(prepared: Prepared, runs: Sequence[Run]) -> list[Made]:
    """The results of orders, in their order. Raises :class:`mixers.base.MixerError` for a bad one.

    A run that another process is making is left for last: of two trials that want the same runs, each makes some.
    """
    made: dict[int, Made] = {}
    for wait in (False, True):
        for i, run in enumerate(runs):
            found = made[i] if i in made else _made(child_of(prepared, run), run, wait=wait)
            if found is not None:
                made[i] = found
    return [made[i] for i in range(len(runs))]


def obtain(prepared: Prepared, run: Run) -> Made:
    """The result of one order: from the cache, or made here and now."""
    return obtain_all(prepared, [run])[0]


def fulfil(child: Prepared, run: Run, progress: Progress = lambda step, steps: None) -> Made:
    """The result of the training run that an order became."""
    made = _made(child, run, progress)
    assert made is not None
    return made


def _made(
    child: Prepared, run: Run, progress: Progress = lambda step, steps: None, *, wait: bool = True
) -> Made | None:
    """A result; ``None`` where another process is making it and it is not waited for."""
    folder = folder_of(child.cache, key_of(child, run))
    if is_made(folder, run):
        return _stored(folder, run)
    begin = time.perf_counter()
    with held(folder / "lock", wait=wait) as mine:
        if not mine:
            return None
        waited = time.perf_counter() - begin
        if is_made(folder, run):
            return _stored(folder, run, waited)
        return _train(child, run, folder, progress, waited)


def _train(child: Prepared, run: Run, folder: Path, progress: Progress, waited: float) -> Made:
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
    finite = _ran(training, run)
    ledger, batch = child.ledger, child.recipe.batch_size
    evaluations = len(at) * training.flops.forward * validated(child, run.validation_examples) / batch
    trained = ledger.flops["training"] + ledger.flops["mixing"] if finite else training.flops.training * run.steps
    if run.keep:
        save_checkpoint(folder / "model.pt", training.trainer.model.state_dict())
    seconds = time.perf_counter() - begin + ledger.made_elsewhere
    nothing = [math.nan] * len(child.problem.targets)
    losses = [training.evaluations[step] if finite else nothing for step in at]
    data = {
        "steps": list(at),
        "losses": [[x if math.isfinite(x) else None for x in row] for row in losses],
        "state": child.mixer.state_dict(),
        "size": run.size,
        "flops": trained + evaluations,
        "seconds": seconds,
    }
    write_json(folder / "result.json", data)
    (folder / "checkpoint.pt").unlink(missing_ok=True)
    return Made(result=_result(data, folder.name, run), seconds=seconds, cached=False, elsewhere=-waited)


def _ran(training: MixedTraining, run: Run) -> bool:
    """Train; whether losses stayed finite. A run that is bought for its model or its mixer's state must not diverge.

    Raises :class:`DivergedError` for such a run: its buyer has no use for what is left. Losses of other runs are NaN,
    which every buyer of losses copes with, and cost as much as they would have.
    """
    try:
        training.run()
    except DivergedError:
        if run.mixture is None or run.keep or run.keep_at:
            raise
        return False
    return True


def _stored(folder: Path, run: Run, waited: float = 0.0) -> Made:
    data = read_json(folder / "result.json")
    seconds = data["seconds"]
    return Made(result=_result(data, folder.name, run), seconds=seconds, cached=True, elsewhere=seconds - waited)


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
