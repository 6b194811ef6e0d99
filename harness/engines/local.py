"""Trials on this machine: workers that take one after the other, replaced when they crash, killed when they hang."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, TimeoutError, wait
from pathlib import Path
from typing import Any

from pebble import ProcessExpired, ProcessPool

from harness.errors import UserError
from harness.heartbeat import Heartbeat, end_with_parent
from harness.registry import Registry
from harness.spec import TrialSpec
from harness.store import RunFolder

POLL_SECONDS = 0.5
MOST_FAULTS = 3
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
# By default glibc gives large blocks back to the system at once, and every step pays for the page faults of getting
# them again: about 15 % of a step at nano. Other allocators ignore these. Values of the user's own stay.
MALLOC_VARIABLES = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**32)}


def _work(spec: dict[str, Any], root: str, cache: str, plugins: list[str], checkpoint_seconds: float) -> None:
    """Body of a worker: run one trial and write its row."""
    from harness.trial import run_trial

    trial = TrialSpec.from_json(spec)
    folder = RunFolder(Path(root))
    beat = Heartbeat(folder.work(trial.id) / "heartbeat.json")
    registry = Registry([Path(plugin) for plugin in plugins])
    folder.write_row(run_trial(trial, registry, folder, Path(cache), beat, checkpoint_seconds))


def prepare_worker() -> None:
    """Leave Ctrl-C to the run, which ends its workers itself, and end with it when it is killed; keep library chatter
    off the terminal.

    The slow imports happen here, so that a trial's time limit does not pay for them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    # The library's import is most of a task's first second. Tasks import it lazily, where they build a model.
    with contextlib.suppress(ImportError):
        import torch  # noqa: F401
        import transformers  # noqa: F401


def worker_environment(threads: int) -> None:
    """Set what numerical libraries read when a worker starts; it inherits this process's environment."""
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    for name, value in MALLOC_VARIABLES.items():
        os.environ.setdefault(name, value)


def _why(error: BaseException) -> tuple[str, str]:
    """Status and reason of a trial whose worker did not write a row itself."""
    if isinstance(error, TimeoutError):
        return "timeout", "the trial ran past its time limit (--time-limit) and was ended"
    if isinstance(error, ProcessExpired):
        code = error.exitcode or 0
        if code == -signal.SIGKILL:
            return "oom", "the worker was killed (signal 9), most often by the system for want of memory"
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return "crashed", f"the worker ended with {name}"
    return "crashed", f"{type(error).__name__}: {' '.join(str(error).split())}"


def run_all(
    specs: Sequence[TrialSpec],
    *,
    folder: RunFolder,
    cache: Path,
    plugins: Sequence[Path],
    workers: int,
    on_poll: Callable[[list[TrialSpec]], None],
    checkpoint_seconds: float,
) -> Iterator[TrialSpec]:
    """Run the trials, yielding each when its row stands. ``on_poll`` gets the trials that are under way.

    Each trial's own number of threads holds for every numerical library of its worker, which is why trials with
    different numbers do not share a pool.
    """
    from harness.trial import empty_row

    waiting = sorted(specs, key=lambda spec: spec.threads)
    faults = 0
    while waiting:
        threads = waiting[0].threads
        worker_environment(threads)
        context = multiprocessing.get_context("spawn")
        pool = ProcessPool(max_workers=workers, context=context, initializer=prepare_worker)
        running: dict[Future[None], TrialSpec] = {}
        broken = False
        try:
            while running or (waiting and waiting[0].threads == threads and not broken):
                while not broken and waiting and waiting[0].threads == threads and len(running) < workers:
                    spec = waiting.pop(0)
                    arguments = [spec.as_json(), str(folder.root), str(cache), [str(p) for p in plugins]]
                    limit = spec.recipe["time_limit"] or None
                    try:
                        future: Future[None] = pool.schedule(
                            _work, args=[*arguments, checkpoint_seconds], timeout=limit
                        )
                    except RuntimeError:  # the pool has lost its workers
                        broken = True
                        waiting.insert(0, spec)
                    else:
                        running[future] = spec
                finished, _ = wait(running, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
                on_poll(list(running.values()))
                for future in finished:
                    spec = running.pop(future)
                    error = future.exception()
                    if isinstance(error, BrokenExecutor) and folder.status(spec.id) is None:
                        # The worker was lost before it took the trial, which is not the trial's fault.
                        broken = True
                        waiting.insert(0, spec)
                        continue
                    if error is not None and folder.status(spec.id) is None:
                        folder.write_row(empty_row(spec, *_why(error)))
                    yield spec
            pool.close()
        except BaseException:
            pool.stop()
            raise
        finally:
            if broken:
                pool.stop()
            pool.join()
        faults += broken
        if faults > MOST_FAULTS:
            raise UserError(
                f"workers were lost {faults} times before they took a trial, most often for want of memory; "
                "use fewer --workers, then run the same command again"
            )
