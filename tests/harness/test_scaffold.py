"""``harness new mixer``: what it writes works as it stands, and nothing is overwritten."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli import main

ROOT = Path(__file__).parents[2]
CONFIG = ["--no-cache", "--config", str(ROOT / "pyproject.toml")]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(main, list(words))


def test_the_skeleton_and_its_test_pass_as_they_stand(call, tmp_path, monkeypatch):
    made = call("new", "mixer", "warm_start", "--out", "plugins/mine")
    assert made.exit_code == 0, made.output
    assert "harness check plugins/mine/warm_start.py" in made.output
    checked = call("check", "plugins/mine/warm_start.py")
    assert checked.exit_code == 0, checked.output
    assert "warm_start (file plugins/mine/warm_start.py): 13 of 13 checks passed" in checked.output
    monkeypatch.syspath_prepend(tmp_path / "plugins" / "mine")
    test = importlib.import_module("test_warm_start")
    functions = [value for name, value in vars(test).items() if name.startswith("test_")]
    assert len(functions) == 4
    for function in functions:
        function()


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ["pytest", "-q", "-p", "no:cacheprovider", "test_cold_start.py"],
        ["ruff", "check", *CONFIG, "--config", 'lint.isort.known-first-party=["mixers"]', "cold_start.py"],
        ["ruff", "format", "--check", *CONFIG, "."],
    ],
    ids=" ".join,
)
def test_the_skeleton_stands_before_the_tools_too(call, tmp_path, command):
    assert call("new", "mixer", "cold_start").exit_code == 0
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("existing", ["mine.py", "test_mine.py"])
def test_nothing_is_overwritten(call, tmp_path, existing):
    (tmp_path / existing).write_text("precious")
    result = call("new", "mixer", "mine")
    assert result.exit_code == 2
    assert f"{existing} exists" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == [existing]
    assert (tmp_path / existing).read_text() == "precious"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Mine", "lower-case"),
        ("my-mixer", "lower-case"),
        ("2mixers", "lower-case"),
        ("a/b", "lower-case"),
        ("mine.py", "lower-case"),
        ("lambda", "lower-case"),
        ("", "lower-case"),
        ("x" * 300, "lower-case"),
        ("rnb", "a mixer named 'rnb' exists (tree)"),
        ("random", "Python module"),
        ("numpy", "Python module"),
        ("mixers", "Python module"),
        ("observation", "part of mixers.base"),
    ],
)
def test_a_bad_name_is_one_line_and_exit_code_2(call, tmp_path, name, says):
    result = call("new", "mixer", name)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.strip().splitlines()) == 1
    assert says in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_a_file_is_one_line_and_exit_code_2(call, tmp_path):
    (tmp_path / "file").write_text("")
    result = call("new", "mixer", "mine", "--out", "file")
    assert result.exit_code == 2
    assert "not a folder" in result.stderr
