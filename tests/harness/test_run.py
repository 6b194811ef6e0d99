"""``harness run`` end to end: killed, resumed, crashed, hung, timed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.harness.conftest import FILES

pytestmark = pytest.mark.slow


def _command(out: Path, *flags: str) -> list[str]:
    plugins = [word for file in FILES for word in ("--plugin", str(file))]
    return [
        sys.executable,
        "-m",
        "harness",
        "run",
        "--tasks",
        "toy",
        "--device",
        "cpu",
        "--out",
        str(out),
        *plugins,
        *flags,
    ]


def _environment(tmp_path: Path) -> dict[str, str]:
    return os.environ | {"MIXOFF_CACHE": str(tmp_path / "cache"), "MIXOFF_CHECKPOINT_SECONDS": "0"}


def _run(tmp_path: Path, out: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        _command(out, *flags), capture_output=True, text=True, env=_environment(tmp_path), timeout=300, check=False
    )


def _rows(out: Path) -> dict[str, dict]:
    """Rows by id, without what is measured and where it was made."""
    rows = {}
    for file in sorted((out / "rows").glob("*.json")):
        row = json.loads(file.read_text())
        del row["measured"], row["provenance"]
        rows[row["id"]] = row
    return rows


def test_a_killed_run_goes_on_and_gives_the_same_rows_with_other_workers(tmp_path: Path):
    grid = (
        "--mixers",
        "memory[pause=0.25],natural",
        "--partitions",
        "original,kmeans[k=3]",
        "--seeds",
        "2",
        "--no-timing",
    )
    unbroken = tmp_path / "unbroken"
    done = _run(tmp_path, unbroken, *grid, "--workers", "2")
    assert done.returncode == 0, done.stderr
    killed = tmp_path / "killed"
    process = subprocess.Popen(
        _command(killed, *grid, "--workers", "2"),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=_environment(tmp_path), start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list((killed / "work").glob("*memory*/checkpoint.pt")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list((killed / "work").glob("*memory*/checkpoint.pt")), "killed in the middle of a trial"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = {file.name: file.stat().st_mtime_ns for file in (killed / "rows").glob("*.json")}
    assert len(before) < 8
    time.sleep(1.5)  # orphaned workers notice that nobody waits for them
    again = _run(tmp_path, killed, *grid, "--workers", "1")
    assert again.returncode == 0, again.stderr
    after = {file.name: file.stat().st_mtime_ns for file in (killed / "rows").glob("*.json")}
    assert all(after[name] == stamp for name, stamp in before.items()), "finished trials are not run again"
    assert _rows(killed) == _rows(unbroken)
    assert len(after) == 8
    assert not list((killed / "work").iterdir()), "checkpoints of finished trials are gone"


def test_crashes_and_hangs_are_rows_and_the_grid_goes_on(tmp_path: Path):
    out = tmp_path / "run"
    done = _run(tmp_path, out, "--mixers", "dies,hangs,natural", "--seeds", "1", "--time-limit", "12", "--no-timing")
    assert done.returncode == 0, done.stderr
    rows = {row["spec"]["mixer"]: row for row in _rows(out).values()}
    assert rows["natural"]["status"] == "ok"
    assert rows["dies"]["status"] == "crashed"
    assert "SIGSEGV" in rows["dies"]["reason"]
    assert rows["hangs"]["status"] == "timeout"
    assert "--time-limit" in rows["hangs"]["reason"]
    retried = _run(tmp_path, out, "--mixers", "dies,natural", "--seeds", "1", "--no-timing", "--retry")
    assert "2 trials, 1 already done" in retried.stdout


def test_the_timing_pass_leaves_results_untouched(tmp_path: Path):
    out = tmp_path / "run"
    grid = ("--mixers", "uniform,rnb", "--seeds", "1")
    assert _run(tmp_path, out, *grid, "--no-timing").returncode == 0
    files = {file: file.read_bytes() for file in (out / "rows").iterdir()}
    timed = _run(tmp_path, out, *grid)
    assert timed.returncode == 0, timed.stderr
    assert {file: file.read_bytes() for file in (out / "rows").iterdir()} == files
    timings = [json.loads(file.read_text()) for file in (out / "timing").iterdir()]
    assert len(timings) == 2
    for timing in timings:
        assert timing["low"] <= timing["step_overhead"] <= timing["high"]
        assert timing["pairs"] >= 20
    as_json = subprocess.run(
        [sys.executable, "-m", "harness", "rows", str(out), "--format", "jsonl"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    for line in as_json.stdout.splitlines():
        assert json.loads(line)["measured"]["timing"]["pairs"] >= 20


def test_a_published_grid_is_extended_from_its_rows(tmp_path: Path):
    out = tmp_path / "first"
    assert _run(tmp_path, out, "--mixers", "natural", "--seeds", "2", "--no-timing").returncode == 0
    publish = [
        sys.executable,
        "-m",
        "harness",
        "leaderboard",
        str(out),
        "--out",
        str(tmp_path / "boards"),
        "--name",
        "b",
    ]
    subprocess.run(publish, check=True, capture_output=True)
    more = _run(
        tmp_path, tmp_path / "more", "--mixers", "natural,uniform", "--seeds", "2", "--no-timing",
        "--extend", str(tmp_path / "boards" / "b"),
    )  # fmt: skip
    assert more.returncode == 0, more.stderr
    assert "4 trials, 2 already done" in more.stdout
    assert _rows(out).items() <= _rows(tmp_path / "more").items()


def test_two_runs_do_not_share_a_folder(tmp_path: Path):
    import fcntl

    out = tmp_path / "run"
    out.mkdir()
    with (out / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = _run(tmp_path, out, "--mixers", "natural")
    assert done.returncode == 2
    assert "another run is at work" in done.stderr
    assert not (out / "rows").exists(), "nothing half-written"


def _children(parent: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):  # it may have ended meanwhile
            if f"PPid:\t{parent}\n" in status.read_text():
                found.append(int(status.parent.name))
    return found


def _alive(process: int) -> bool:
    with contextlib.suppress(OSError):
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()
    return False


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks processes up in /proc")
def test_workers_end_with_the_run_that_started_them(tmp_path: Path):
    out = tmp_path / "run"
    process = subprocess.Popen(
        _command(out, "--mixers", "hangs,natural", "--seeds", "1", "--no-timing", "--workers", "2"),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=_environment(tmp_path), start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(out.glob("rows/*natural*.json")) and time.monotonic() < deadline:
        time.sleep(0.1)
    workers = _children(process.pid)
    assert len(workers) >= 2
    process.terminate()
    process.wait()
    deadline = time.monotonic() + 10
    while any(map(_alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(_alive, workers)), "nobody hangs on after the run"


def test_a_grid_in_which_every_trial_failed_is_exit_code_1(tmp_path: Path):
    done = _run(tmp_path, tmp_path / "out", "--mixers", "raises", "--seeds", "1", "--no-timing")
    assert done.returncode == 1
    assert "every trial failed; `harness rows" in done.stderr
    done = _run(tmp_path, tmp_path / "out", "--mixers", "raises,uniform", "--seeds", "1", "--no-timing")
    assert done.returncode == 0, "one that ended well is a result"
