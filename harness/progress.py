"""Progress over the whole grid, with an estimate; plain lines where the output is no terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn

from harness.heartbeat import read_heartbeat
from harness.spec import TrialSpec
from harness.store import RunFolder


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``1 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def _kind(spec: TrialSpec) -> str:
    return f"{spec.task.label} {spec.preset}"


class GridProgress:
    """Shows how far a grid is: the trials that are ``missing``, after ``done`` that earlier runs finished."""

    def __init__(
        self, console: Console, folder: RunFolder, missing: Sequence[TrialSpec], done: int, workers: int
    ) -> None:
        self.console, self.folder, self.workers = console, folder, max(1, workers)
        self.total, self.done, self.finished_here = len(missing) + done, done, 0
        self.begin = time.monotonic()
        self._open = {spec.id: _kind(spec) for spec in missing}
        self._seconds: dict[str, list[float]] = {}
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TaskProgressColumn(),
                TextColumn("{task.fields[left]}"), console=console, transient=True,
            )  # fmt: skip
            self._task = self._bar.add_task("trials", total=self.total, completed=done, left="")

    def __enter__(self) -> GridProgress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def left(self, running: Sequence[TrialSpec] = ()) -> float | None:
        """Estimated seconds to the end of the grid; ``None`` before anything is known.

        Trials of one task and preset take about as long as each other; of a task of which none has ended nothing is
        known, and the mean of the others stands in.
        """
        shares = {spec.id: read_heartbeat(self.folder.work(spec.id) / "heartbeat.json") for spec in running}
        known = [seconds for taken in self._seconds.values() for seconds in taken]
        if known:
            mean = sum(known) / len(known)
        elif sum(shares.values()) > 0.02 * len(shares):
            mean = (time.monotonic() - self.begin) * len(shares) / sum(shares.values())
        else:
            return None
        each = {kind: sum(taken) / len(taken) for kind, taken in self._seconds.items()}
        left = sum(each.get(kind, mean) * (1.0 - shares.get(name, 0.0)) for name, kind in self._open.items())
        return left / min(self.workers, max(1, len(self._open)))

    def poll(self, running: list[TrialSpec]) -> None:
        """Refresh the bar from the heartbeats of the trials under way."""
        if self._bar is None:
            return
        shares = sum(read_heartbeat(self.folder.work(spec.id) / "heartbeat.json") for spec in running)
        left = self.left(running)
        text = "" if left is None else f"about {duration(left)} left"
        self._bar.update(self._task, completed=self.done + self.finished_here + shares, left=text)

    def finish(self, spec: TrialSpec, row: dict[str, Any]) -> None:
        """One line for a finished trial."""
        self.finished_here += 1
        self._open.pop(spec.id, None)
        seconds = row["measured"]["seconds"]
        if seconds:
            self._seconds.setdefault(_kind(spec), []).append(seconds)
        result = f"{row['status']}: {row['reason']}"
        if row["status"] == "ok":
            name, metric = next((name, m) for name, m in row["metrics"].items() if m["primary"])
            result = f"{name} {metric['target']:.4f} in {duration(seconds)}"
        left = self.left()
        tail = f" · about {duration(left)} left" if left else ""
        where = f"{_kind(spec)} · {spec.partition.label} · {spec.mixer.label} · seed {spec.seed}"
        self.say(f"[{self.done + self.finished_here}/{self.total}] {where} · {result}{tail}")

    def say(self, text: str) -> None:
        """A line above the bar, or just a line."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)
