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

from harness.engines.jobs import Job, JobQueue
from harness.errors import UserError
from harness.heartbeat import Heartbeat, end_with_parent
from harness.orders import ErrandDone, OrderPolicy, OrdersPending
from harness.registry import Registry
from harness.spec import TrialSpec
from harness.store import RunFolder

POLL_SECONDS = 0.5
MOST_FAULTS = 3
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
# By default glibc gives large blocks back to the system at once, and every step pays for the page faults of getting
# them again: about 15 % of a step at nano. Other allocators ignore these. Values of the user's own stay.
MALLOC_VARIABLES = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**32)}


def _work(
    spec: dict[str, Any], policy: OrderPolicy, root: str, cache: str, plugins: list[str], checkpoint_seconds: float
) -> tuple[str, ...]:
    """Body of a worker: run one trial and write its row, or return the keys of the runs that it waits for.

    An errand writes no row. Where it fails, so will the trial, which then says why.
    """
    from harness.trial import run_trial

    trial = TrialSpec.from_json(spec)
    folder = RunFolder(Path(root))
    registry = Registry([Path(plugin) for plugin in plugins])
    beat = Heartbeat(folder.work(trial.id) / "heartbeat.json")
    progress = (lambda step, steps: None) if policy.errand else beat
    try:
        row = run_trial(trial, registry, folder, Path(cache), progress, checkpoint_seconds, policy)
    except OrdersPending as pending:
        return pending.keys
    except ErrandDone:
        return ()
    if not policy.errand:
        folder.write_row(row)
    return ()


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

    queue = JobQueue(specs, workers)
    faults = 0
    while (threads := queue.threads) is not None:
        worker_environment(threads)
        context = multiprocessing.get_context("spawn")
        pool = ProcessPool(max_workers=workers, context=context, initializer=prepare_worker)
        running: dict[Future[tuple[str, ...]], Job] = {}
        broken = False
        try:
            while running or (queue.threads == threads and not broken):
                while not broken and queue.threads == threads and len(running) < workers:
                    job = queue.next()
                    places = [str(folder.root), str(cache), [str(p) for p in plugins]]
                    limit = job.spec.recipe["time_limit"] or None
                    try:
                        arguments = [job.spec.as_json(), job.policy, *places, checkpoint_seconds]
                        future: Future[tuple[str, ...]] = pool.schedule(_work, args=arguments, timeout=limit)
                    except RuntimeError:  # the pool has lost its workers
                        broken = True
                        queue.put_back(job)
                    else:
                        running[future] = job
                finished, _ = wait(running, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
                on_poll(list({job.spec.id: job.spec for job in running.values()}.values()))
                for future in finished:
                    job = running.pop(future)
                    error = future.exception()
                    if isinstance(error, BrokenExecutor) and folder.status(job.spec.id) is None:
                        # The worker was lost before it took the job, which is not the trial's fault.
                        broken = True
                        queue.put_back(job)
                    elif job.policy.errand:
                        queue.errand_ended(job)
                    elif error is None and future.result():
                        queue.park(job.spec, future.result())
                    else:
                        if error is not None and folder.status(job.spec.id) is None:
                            folder.write_row(empty_row(job.spec, *_why(error)))
                        yield job.spec
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
