"""The estimate for the whole grid."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from harness.heartbeat import Heartbeat, _is_zombie
from harness.progress import GridProgress, duration
from harness.store import RunFolder


def _row(seconds: float) -> dict:
    metrics = {"loss": {"primary": True, "target": 1.0}}
    return {"status": "ok", "reason": "", "metrics": metrics, "measured": {"seconds": seconds}}


def test_slow_and_fast_tasks_are_estimated_apart(toy_specs, tmp_path):
    specs = toy_specs(tasks="toy,toy[size=80]", seeds="3")
    slow = [spec for spec in specs if spec.task.label != "toy"]
    fast = [spec for spec in specs if spec.task.label == "toy"]
    folder = RunFolder(tmp_path / "run")
    out = io.StringIO()
    progress = GridProgress(Console(file=out), folder, specs, done=4, workers=2)
    assert progress.left() is None
    progress.finish(fast[0], _row(10))
    assert progress.left() == pytest.approx(5 * 10 / 2), "all are taken for what is known"
    progress.finish(slow[0], _row(100))
    assert progress.left() == pytest.approx((2 * 10 + 2 * 100) / 2)
    Heartbeat(folder.work(slow[1].id) / "heartbeat.json")(15, 30)
    assert progress.left([slow[1]]) == pytest.approx((2 * 10 + 1.5 * 100) / 2)
    assert "[6/10]" in out.getvalue()
    for spec in [*fast[1:], *slow[1:]]:
        progress.finish(spec, _row(10))
    assert progress.left() == 0


def test_durations_read_well():
    assert [duration(s) for s in (45, 600, 4800, 6000)] == ["45 s", "10 min", "80 min", "1 h 40 min"]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_parent_that_ended_and_was_not_fetched_counts_as_gone():
    """In a container whose first process never fetches ends, the parent's number stays in use."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    deadline = time.monotonic() + 30
    while not _is_zombie(child.pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert _is_zombie(child.pid)
    assert not _is_zombie(os.getpid())
    child.wait()
    assert not _is_zombie(child.pid)
