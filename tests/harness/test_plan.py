"""Dry runs, missing needs and built-in experiments."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness import builtin
from harness.cli import main
from harness.experiment import read_experiment
from tests.harness.conftest import PLUGINS

FAR = str(PLUGINS / "far_task.py")


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MIXOFF_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(main, ["run", "--plugin", FAR, "--device", "cpu", *words])


@pytest.fixture
def listening() -> Iterator[str]:
    """An address that answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_dry_run_says_what_would_run_and_runs_nothing(call, tmp_path, listening):
    result = call(
        "--tasks", f"far[need=model,source={listening}]", "--mixers", "uniform,rnb", "--seeds", "3", "--dry-run"
    )
    assert result.exit_code == 0, result.output
    assert "6 trials, 0 already done" in result.output
    assert "1 task x 1 partition x 2 mixers x 3 seeds" in result.output
    assert "30 steps, batch of 4, AdamW at 0.01, cosine schedule" in result.output
    states = {line.split()[1]: line for line in result.output.splitlines() if line.strip().startswith("needs")}
    assert "symbols" in states["found"] or "data" in states["found"]
    assert "to be fetched" in result.output
    assert "settings  need=model, source=" in result.output
    assert not (tmp_path / "runs").exists()


def test_something_missing_ends_a_dry_run_with_code_2(call):
    result = call("--tasks", "far[need=data]", "--dry-run")
    assert result.exit_code == 2
    assert "MISSING" in result.stdout
    assert "put it at data/far" in result.stdout
    assert result.stderr == "error: something that this run needs is missing, see above\n"


def test_what_cannot_be_fetched_from_here_is_missing(call, monkeypatch):
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    result = call("--tasks", "far[need=model]", "--dry-run")
    assert result.exit_code == 2
    assert "MISSING" in result.stdout
    assert "https://127.0.0.1:9 does not answer; set model=" in result.stdout


def test_a_run_with_something_missing_does_not_start(call, tmp_path):
    result = call("--tasks", "far[need=data]", "--out", "out")
    assert result.exit_code == 2
    assert result.stderr == "error: far at demo needs data: put it at data/far\n"
    assert not (tmp_path / "out").exists()


def test_every_built_in_experiment_is_valid_and_says_what_it_is():
    found = builtin.experiments()
    for name, path in found.items():
        assert read_experiment(path, {}).preset, name
        assert builtin.summary(path), f"{name} starts with a comment that says what it is"


def test_an_unknown_experiment_is_one_line(call):
    result = call("paper/dolli")
    assert result.exit_code == 2
    assert "no such file and no built-in experiment" in result.stderr
    assert result.stderr.count("\n") == 1
