"""Runs that a mixer orders, made by other workers first."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.engines.jobs import JobQueue
from harness.engines.local import run_all
from harness.orders import INLINE, ErrandDone, OrderPolicy, OrdersPending
from harness.store import RunFolder
from harness.trial import run_trial
from tests.harness.conftest import FILES

SKILL_IT = "skill_it[graph_share=0.2,validation_examples=2]"


@pytest.fixture
def attempt(toy_specs, registry, tmp_path: Path):
    """Run a toy trial under an order policy."""
    (tmp_path / "cache").mkdir()

    def run(policy: OrderPolicy, mixer: str = SKILL_IT):
        (spec,) = toy_specs(mixers=mixer)
        folder = RunFolder(tmp_path / "run")
        return run_trial(spec, registry, folder, tmp_path / "cache", lambda step, steps: None, orders=policy)

    return run


def made(tmp_path: Path) -> set[str]:
    return {file.parent.name for file in (tmp_path / "cache" / "runs").glob("*/result.json")}


def plain(row):
    return {key: value for key, value in row.items() if key not in ("measured", "provenance")}


def test_a_trial_that_delegates_names_its_runs_and_each_errand_makes_one(attempt, tmp_path: Path):
    with pytest.raises(OrdersPending) as pending:
        attempt(OrderPolicy(delegate=True))
    keys = pending.value.keys
    assert len(keys) == 4, "one run a domain"
    assert made(tmp_path) == set()
    for count, key in enumerate(keys, start=1):
        with pytest.raises(ErrandDone):
            attempt(OrderPolicy(errand=key))
        assert made(tmp_path) == set(keys[:count])
    row = attempt(OrderPolicy(delegate=True))
    assert row["status"] == "ok"
    assert row["measured"]["reused_runs"] == 4, "the row says that they were not made in it; it pays for them"
    assert made(tmp_path) == set(keys)
    for file in (tmp_path / "cache" / "runs").glob("*/result.json"):
        file.unlink()
    assert plain(attempt(INLINE)) == plain(row)


def test_an_errand_that_is_no_longer_needed_makes_nothing(attempt, tmp_path: Path):
    with pytest.raises(ErrandDone):
        attempt(OrderPolicy(errand="another run"))
    assert made(tmp_path) == set()


def test_a_single_missing_run_is_made_on_the_spot(attempt, tmp_path: Path):
    assert attempt(OrderPolicy(delegate=True), "doremi[proxy_share=0.2]")["status"] == "ok"
    assert len(made(tmp_path)) == 2


def test_the_engine_makes_one_trials_runs_on_all_workers_and_the_row_is_the_same(toy_specs, attempt, tmp_path: Path):
    """Two workers, one trial: the trial waits, is started again, and its heirs find every run."""
    specs = toy_specs(mixers=SKILL_IT)
    rows, seen = [], []
    for workers in (1, 2):
        folder = RunFolder(tmp_path / str(workers))
        polls: list[int] = []
        for spec in run_all(
            specs,
            folder=folder,
            cache=tmp_path / f"cache{workers}",
            plugins=FILES,
            workers=workers,
            on_poll=lambda running, polls=polls: polls.append(len(running)),
            checkpoint_seconds=20.0,
        ):
            rows.append(plain(folder.row(spec.id)))
        seen.append(len(list((tmp_path / f"cache{workers}" / "runs").glob("*/result.json"))))
        assert max(polls) == 1, "the trial is shown once, however many errands run for it"
    assert rows[0] == rows[1]
    assert rows[0]["status"] == "ok", rows[0]["reason"]
    assert seen == [4, 4]


def test_a_run_that_two_trials_wait_for_is_one_errand(toy_specs):
    one, other = toy_specs(mixers=f"{SKILL_IT},skill_it")
    queue = JobQueue([one, other], workers=4)
    assert [queue.next().policy.delegate for _ in range(2)] == [True, True]
    queue.park(one, ["a", "b"])
    queue.park(other, ["b", "c"])
    errands = [queue.next() for _ in range(3)]
    assert [job.policy.errand for job in errands] == ["a", "b", "c"]
    assert queue.threads is None
    for job in errands[:2]:
        queue.errand_ended(job)
    assert queue.next().spec == one
    assert queue.threads is None, "the other still waits for c"
    queue.errand_ended(errands[2])
    assert queue.next().spec == other


def test_runs_that_failed_as_errands_are_left_to_the_trial(toy_specs):
    (spec,) = toy_specs(mixers=SKILL_IT)
    queue = JobQueue([spec], workers=2)
    queue.next()
    queue.park(spec, ["a", "b"])
    for _ in range(2):
        queue.errand_ended(queue.next())
    assert queue.next().policy == OrderPolicy(delegate=True)
    queue.park(spec, ["a"])
    assert queue.next().policy == INLINE


def test_trials_delegate_only_where_workers_would_be_idle(toy_specs):
    queue = JobQueue(toy_specs(mixers=SKILL_IT, seeds="4"), workers=2)
    assert [queue.next().policy.delegate for _ in range(4)] == [False, False, False, True]


def test_a_lost_worker_costs_neither_a_trial_nor_an_errand(toy_specs):
    (spec,) = toy_specs(mixers=SKILL_IT)
    queue = JobQueue([spec], workers=2)
    trial = queue.next()
    queue.put_back(trial)
    assert queue.next() == trial
    queue.park(spec, ["a"])
    errand = queue.next()
    queue.put_back(errand)
    assert queue.next() == errand
