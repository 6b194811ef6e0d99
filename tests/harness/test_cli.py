"""The command's surface: help, lists, errors in one line with exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli import main
from tests.harness.conftest import PLUGINS


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MIXOFF_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def invoke(*words: str):
        return CliRunner().invoke(main, list(words))

    return invoke


def test_every_command_has_a_help_text_with_an_example(call):
    for name, command in main.commands.items():
        assert command.help, name
        assert f"harness {name}" in command.help, name
        assert call(name, "--help").exit_code == 0


def test_a_reference_is_listed_as_one(call):
    listed = {line.split()[0]: line for line in call("list", "mixers").output.splitlines() if line.strip()}
    assert "(reference) The static mixture" in listed["best_static"]
    assert "(reference)" not in listed["regmix"]
    assert call("info", "best_static").output.startswith("best_static (a reference and no method, from tree)")


def test_lists_show_name_origin_and_summary(call):
    result = call("list", "mixers", "--plugin", str(PLUGINS / "odd_mixers.py"), "--plugin", str(PLUGINS / "broken.py"))
    assert result.exit_code == 0
    assert "rnb" in result.output
    assert f"file {PLUGINS / 'odd_mixers.py'}" in result.output
    assert "does not import: ModuleNotFoundError" in result.output
    for what in ("tasks", "regroupers", "presets"):
        assert call("list", what).exit_code == 0
    assert "nano" in call("list", "presets").output


def test_info_shows_what_inherited_parameters_mean(call):
    output = call("info", "mixing_laws").output
    assert "kl: weight of the divergence" in output
    assert "match_repetition: see" in output, "a field of the config that it extends"


def test_info_shows_source_and_parameters(call):
    output = call("info", "rnb").output
    assert "2505.00358" in output
    assert "lam" in output
    assert "3.0" in output


@pytest.mark.parametrize(
    "words",
    [
        ("info", "rnbb"),
        ("run", "nowhere.yaml"),
        ("run", "--mixers", "rnb[lam=3"),
        ("run", "--mixers", "rnb[lam=-1]"),
        ("run", "--preset", "huge"),
        ("run", "--seeds", "x"),
        ("run", "--steps", "0"),
        ("run", "--plugin", "nowhere.py"),
        ("run", "--tasks", "text[path=nowhere]"),
        ("run", "--tasks", "reasoning[path=nowhere]"),
        ("run", "--tasks", "reasoning[format=gsm8k]"),
        ("run", "--tasks", "reasoning[path=nowhere]", "--dry-run"),
        ("run", "--tasks", "multimodal[path=nowhere]"),
        ("run", "--tasks", "instruct[path=nowhere]", "--preset", "nano"),
        ("run", "paper/dolly"),
        ("run", "--device", "tpu"),
        ("rows", "nowhere"),
        ("export", "nowhere"),
        ("compare", "nowhere"),
        ("leaderboard", "nowhere"),
        ("leaderboard",),
        ("list", "mixers", "--plugin", "nowhere.py"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(call, tmp_path: Path, words):
    result = call(*words)
    assert result.exit_code == 2, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    assert not (tmp_path / "runs" / "last" / "rows").exists()


def test_an_unknown_flag_is_exit_code_2(call):
    result = call("run", "--mixer", "uniform")
    assert result.exit_code == 2
    assert "--mixers" in result.stderr


def test_the_cache_says_where_and_how_large_and_is_cleared(call, tmp_path: Path):
    call("cache")
    folder = tmp_path / "cache" / "corpora"
    folder.mkdir(parents=True)
    (folder / "x.npz").write_bytes(b"0" * 2_000_000)
    assert "2.0 MB" in call("cache").output
    assert call("cache", "--clear").exit_code == 0
    assert not folder.exists()


def test_clearing_refuses_a_folder_that_is_no_cache(call, tmp_path: Path):
    from harness.caches import clear
    from harness.errors import UserError

    (tmp_path / "precious").mkdir()
    with pytest.raises(UserError, match="does not look like"):
        clear(tmp_path)
    assert (tmp_path / "precious").exists()


def test_doctor_reports(call):
    output = call("doctor").output
    assert "torch" in output
    assert "caches in" in output
