"""``harness run``: plan the grid, run what is missing, time the cells, show the table."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from pebble import ProcessPool
from rich.console import Console

from harness.caches import cache_root
from harness.engines.local import prepare_worker, run_all, worker_environment
from harness.errors import UserError
from harness.experiment import Experiment, trials
from harness.leaderboard.cautions import oddity
from harness.leaderboard.rows import read_rows
from harness.plan import by_task, refuse_incomplete, task_of
from harness.progress import GridProgress
from harness.provenance import hardware
from harness.registry import Registry
from harness.spec import TrialSpec
from harness.store import RunFolder, write_json, write_text
from harness.tabular.trial import is_tabular
from harness.trial import CHECKPOINT_SECONDS

TIMING_SECONDS = {"demo": 3.0}
DEFAULT_TIMING_SECONDS = 60.0
TIMING_LIMIT = 900.0


def run_experiment(
    experiment: Experiment,
    out: Path,
    console: Console,
    *,
    retry: bool = False,
    extend: Sequence[Path] = (),
    judge: str = "test",
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> list[TrialSpec]:
    """Run every trial that has no row yet; returns the grid's trials. Raises :class:`UserError` before it starts.

    retry: run trials again that did not end well. extend: published leaderboards or run folders whose rows count as
    done here. judge: the split that the trials are judged on.
    """
    registry = Registry(experiment.plugin)
    grid = list(trials(experiment, registry, judge))
    folder = RunFolder(out)
    cache = cache_root()
    refuse_incomplete(grid, registry, cache)
    with folder.lock():
        _write_experiment(out, experiment)
        for row in read_rows(extend):
            if folder.status(row["id"]) is None:
                folder.write_row(row)
        if retry:
            for spec in grid:
                if folder.status(spec.id) not in (None, "ok"):
                    folder.row_path(spec.id).unlink()
        missing = [spec for spec in grid if folder.status(spec.id) is None]
        workers = _workers(experiment, len(missing))
        done = len(grid) - len(missing)
        console.print(
            f"{len(grid)} trials, {done} already done, {workers} at once; rows in {out / 'rows'}",
            markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip
        if missing:
            _load_once(missing, registry, cache, console)
            with GridProgress(console, folder, missing, done, workers) as progress:
                for spec in run_all(
                    missing,
                    folder=folder,
                    cache=cache,
                    plugins=experiment.plugin,
                    workers=workers,
                    on_poll=progress.poll,
                    checkpoint_seconds=checkpoint_seconds,
                ):
                    row = folder.row(spec.id) or {}
                    progress.finish(spec, row)
                    if row["status"] == "ok" and (odd := oddity(row)):
                        progress.say(f"  note: {spec.mixer.label} {odd} (seed {spec.seed})")
                    if row["status"] == "ok" and row["fingerprint_expected"] not in (None, row["fingerprint"]):
                        progress.say(
                            f"  note: the corpus differs from the published one (found {row['fingerprint'][:12]}, "
                            f"published {row['fingerprint_expected'][:12]}); this row will not join published tables"
                        )
        if experiment.timing:
            _time_cells(grid, folder, experiment, cache, console)
    return grid


def _write_experiment(out: Path, experiment: Experiment) -> None:
    text = yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False)
    write_text(out / "experiment.yaml", text)


def _workers(experiment: Experiment, missing: int) -> int:
    """As asked for; by default one per core, or a single one on a GPU, whose memory trials would share."""
    if experiment.workers:
        return experiment.workers
    if experiment.device == "cuda" or (experiment.device == "auto" and hardware()["gpu"]):
        return 1
    return max(1, min((os.cpu_count() or 1) // experiment.threads, max(1, missing)))


def _load_once(missing: Sequence[TrialSpec], registry: Registry, cache: Path, console: Console) -> None:
    """Prepare each task's data before the workers start, so that they do not all prepare it at the same time.

    A failure here is a failure of the whole grid, so it is reported at once, as a user's error.
    """
    for spec in by_task(missing).values():
        console.print(f"preparing the data of {spec.task.label} ...", markup=False, highlight=False)
        try:
            task_of(spec, registry, cache).load()
        except (ValueError, OSError) as error:
            raise UserError(f"{spec.task.label}: {' '.join(str(error).split())}") from None


def _time_job(spec: dict[str, Any], cache: str, plugins: list[str], seconds: float, out: str) -> None:
    from harness.timing import time_cell

    trial = TrialSpec.from_json(spec)
    timing = time_cell(trial, Registry([Path(p) for p in plugins]), Path(cache), seconds=seconds)
    write_json(Path(out), {"cell": trial.cell, "seed": trial.seed, **asdict(timing), "hardware": hardware()})


def _time_cells(
    grid: Sequence[TrialSpec], folder: RunFolder, experiment: Experiment, cache: Path, console: Console
) -> None:
    """The serial timing pass: one cell after the other, in one process, with nothing else of ours running."""
    cells: dict[str, TrialSpec] = {}
    registry = Registry(experiment.plugin)
    for spec in grid:
        if is_tabular(spec, registry):
            continue  # nothing is stepped
        row = folder.row(spec.id)
        timed = folder.timing_path(spec.cell).exists() or (row and row["measured"].get("timing"))
        if row and row["status"] == "ok" and not timed:
            cells.setdefault(spec.cell, spec)
    if not cells:
        return
    seconds = TIMING_SECONDS.get(experiment.preset, DEFAULT_TIMING_SECONDS)
    console.print(
        f"timing {len(cells)} cells against the static mixture, alone on the machine, {seconds:.0f} s each "
        "(skip with --no-timing)", markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip
    worker_environment(experiment.threads)
    pool = ProcessPool(max_workers=1, context=multiprocessing.get_context("spawn"), initializer=prepare_worker)
    try:
        for cell, spec in cells.items():
            arguments = [spec.as_json(), str(cache), [str(p) for p in experiment.plugin], seconds]
            future = pool.schedule(_time_job, args=[*arguments, str(folder.timing_path(cell))], timeout=TIMING_LIMIT)
            try:
                future.result()
            except Exception as error:  # whatever a timing does, the rows stand
                line = " ".join(str(error).split()) or type(error).__name__
                console.print(f"  timing of {cell} failed: {line}", markup=False, highlight=False, soft_wrap=True)
    except BaseException:
        pool.stop()
        raise
    finally:
        pool.close()
        pool.join()
