"""Runs that two processes want at once are made by one of them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from harness import making
from harness.kept import folder_of
from harness.mixing import MixedTraining
from harness.prepare import prepare
from harness.prepared import Prepared
from harness.proxies import children
from harness.store import held
from mixers.base import Run


@pytest.fixture
def prepared(toy_specs, registry, tmp_path: Path) -> Prepared:
    (spec,) = toy_specs()
    return prepare(spec, registry, tmp_path / "cache")


def orders(prepared: Prepared, count: int) -> list[Run]:
    m = prepared.problem.m
    even = prepared.problem.mixture([1.0 / m] * m)
    return [Run(steps=2 + i, mixture=even) for i in range(count)]


def place(prepared: Prepared, run: Run) -> Path:
    return folder_of(prepared.cache, children.key_of(children.child_of(prepared, run), run))


def test_what_another_process_is_making_comes_last(prepared, monkeypatch):
    first, second, third = orders(prepared, 3)
    trained: list[int] = []
    elsewhere = contextlib.ExitStack()
    real = MixedTraining.run

    def run(self: MixedTraining) -> None:
        trained.append(self.prepared.recipe.steps)
        real(self)
        if len(trained) == 2:
            elsewhere.close()

    monkeypatch.setattr(MixedTraining, "run", run)
    with elsewhere:
        assert elsewhere.enter_context(held(place(prepared, first) / "lock"))
        made = making.obtain_all(prepared, [first, second, third])
    assert trained == [3, 4, 2], "the held one last"
    assert [each.result.steps[-1] for each in made] == [2, 3, 4], "answers in the order of the orders"
    assert not any(each.cached for each in made)


def test_waiting_for_another_process_counts_as_making_the_run(prepared):
    (order,) = orders(prepared, 1)
    made = making.obtain(prepared, order)
    assert made.elsewhere == pytest.approx(0.0, abs=0.05), "made here: all of it is on the clock"
    result = place(prepared, order) / "result.json"
    aside = result.with_name("aside.json")
    result.rename(aside)
    ready = threading.Event()

    def other() -> None:
        with held(result.with_name("lock")):
            ready.set()
            time.sleep(0.4)
            aside.rename(result)

    thread = threading.Thread(target=other)
    thread.start()
    assert ready.wait(10)
    begin = time.perf_counter()
    again = making.obtain(prepared, order)
    waited = time.perf_counter() - begin
    thread.join()
    assert again.cached
    assert again.seconds == made.seconds
    assert waited > 0.2
    assert waited + again.elsewhere == pytest.approx(made.seconds, abs=0.1)


def test_a_lock_ends_with_its_process(tmp_path: Path):
    lock = tmp_path / "a" / "lock"
    code = f"""
import sys, time
from pathlib import Path
from harness.store import held
with held(Path({str(lock)!r})) as mine:
    print(mine, flush=True)
    time.sleep(60)
"""
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": root}
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        with held(lock) as mine:
            assert not mine
        process.kill()
        process.wait()
        with held(lock) as mine:
            assert mine


def test_where_files_cannot_be_locked_everyone_goes_on(tmp_path: Path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("harness.store.fcntl.flock", refuse)
    with held(tmp_path / "lock") as mine, held(tmp_path / "lock", wait=True) as also:
        assert mine
        assert also
