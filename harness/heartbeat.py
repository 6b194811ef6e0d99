"""How a worker tells the run how far its trial is: a small file that it replaces every second or so.

Files rather than a queue, because a worker can be killed at any moment, also while it holds a queue's lock.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from pathlib import Path

SECONDS_BETWEEN = 1.0


class Heartbeat:
    """Writes (step, steps) now and then."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._last = 0.0

    def __call__(self, step: int, steps: int) -> None:
        """Note that ``step`` of ``steps`` is done; most calls do nothing."""
        now = time.monotonic()
        if now - self._last < SECONDS_BETWEEN:
            return
        self._last = now
        with contextlib.suppress(OSError):  # a full disk costs the estimate, not the trial
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self.path.with_suffix(".tmp")
            temporary.write_text(json.dumps([step, steps]), encoding="utf-8")
            temporary.replace(self.path)


def end_with_parent() -> None:
    """Watch the run that started this process from a thread, and end with it, also in the middle of a long call.

    An orphan would work for nobody, and beside the next run in the same folder.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent and not _is_zombie(parent):
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()


def _is_zombie(pid: int) -> bool:
    """Whether a process has ended and nobody has fetched its end, as in containers whose first process never does."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError, ValueError):
        return False


def read_heartbeat(path: Path) -> float:
    """The share of a trial that is done, 0 where nothing is known."""
    try:
        step, steps = json.loads(path.read_text(encoding="utf-8"))
        return float(step) / float(steps)
    except (OSError, ValueError, ZeroDivisionError):
        return 0.0
