"""Files of a run folder. Every file is written whole, under another name, and moved into place.

DIR/experiment.yaml        the last experiment that ran here
DIR/rows/<id>.json         one finished trial, written once
DIR/timing/<cell>.json     one timing, joined to its rows when they are read
DIR/work/<id>/             checkpoint, heartbeat and traceback of a trial
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from harness.errors import UserError


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary file and move it to ``path``; a kill leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, data: Any, *, indent: int | None = 1) -> None:
    """Write JSON atomically, with sorted keys; refuses NaN, which is not JSON."""
    text = json.dumps(data, indent=indent, sort_keys=True, allow_nan=False) + "\n"
    write_text(path, text)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    write_atomically(path, write)


class RunFolder:
    """One run folder; see the module's docstring for its files."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def row_path(self, trial: str) -> Path:
        """Where a trial's row is, or will be."""
        return self.root / "rows" / f"{trial}.json"

    def timing_path(self, cell: str) -> Path:
        """Where a cell's timing is, or will be."""
        return self.root / "timing" / f"{cell}.json"

    def work(self, trial: str) -> Path:
        """The folder of a trial's passing files."""
        return self.root / "work" / trial

    def row(self, trial: str) -> dict[str, Any] | None:
        """A finished trial's row, ``None`` where it has none."""
        path = self.row_path(trial)
        return read_json(path) if path.exists() else None

    def status(self, trial: str) -> str | None:
        """The status of a finished trial, ``None`` where it has no row."""
        row = self.row(trial)
        if row is not None and "status" not in row:
            raise UserError(f"{self.row_path(trial)}: holds no row (it has no status); delete it to redo the trial")
        return None if row is None else str(row["status"])

    def write_row(self, row: dict[str, Any]) -> None:
        """Write a trial's row and drop its checkpoint; a traceback stays."""
        write_json(self.row_path(row["id"]), row)
        work = self.work(row["id"])
        if row["status"] == "ok":
            shutil.rmtree(work, ignore_errors=True)
        else:
            for name in ("checkpoint.pt", "heartbeat.json"):
                (work / name).unlink(missing_ok=True)

    def checkpoint(self, trial: str) -> Path:
        """Where a trial's checkpoint is, or will be."""
        return self.work(trial) / "checkpoint.pt"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for one run; raises :class:`UserError` where another process holds it."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            (self.root / "lock").touch()
        except OSError as error:
            raise UserError(f"--out {self.root}: cannot be written to ({error.strerror})") from None
        with held(self.root / "lock") as mine:
            if not mine:
                raise UserError(f"{self.root}: another run is at work here; wait for it or use another --out")
            yield


@contextmanager
def held(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold a file against other processes; yields ``False`` where one of them has it and is not waited for.

    The system releases it when its process ends, in whatever way. Where files cannot be locked, as on some network
    file systems, everyone gets it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        mine = True
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            mine = False
        except OSError:
            pass
        yield mine


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint (tensors and plain data only)."""
    write_atomically(path, lambda temporary: torch.save(state, temporary))


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """A checkpoint; ``None`` where there is none or where it cannot be read (the run then starts over).

    Loads with ``weights_only=True``: a file that holds anything but tensors and plain data is not executed.
    """
    if not path.exists():
        return None
    try:
        return load_weights(path)
    except Exception as error:
        path.replace(path.with_suffix(".unreadable"))
        line = " ".join(str(error).split())[:200]
        write_text(path.with_suffix(".why"), f"{type(error).__name__}: {line}\n")
        return None


def load_weights(path: Path) -> dict[str, Any]:
    """Tensors and plain data from a file; nothing in it is executed."""
    return dict(torch.load(path, map_location="cpu", weights_only=True))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; raises :class:`UserError` in one line."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        why = " ".join(str(error).split())
        raise UserError(f"{path}: not a readable JSON file ({why}); delete it to redo") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a JSON object; delete it to redo")
    return data
