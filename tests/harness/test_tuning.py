"""Tuning: the same tries everywhere, on validation and other seeds; and what comes out of it runs."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from harness import tuning
from harness.cli import main
from harness.experiment import build_config, read_experiment
from harness.inline import parse_choice
from harness.leaderboard.publish import publish
from harness.leaderboard.rows import RowsError, read_rows
from harness.registry import Registry
from harness.tuning import tries_of
from mixers.base import Choices, MixerError, Span
from tests.harness.conftest import FILES

MIXERS = sorted(Registry(()).all("mixers"))


@pytest.mark.parametrize("name", MIXERS)
def test_every_built_in_space_holds_valid_settings_of_the_same_price(name: str):
    registry = Registry(())
    plugin = registry.get("mixers", name)
    fields = {field.name for field in dataclasses.fields(plugin.cls.Config)}
    assert set(plugin.cls.search_space) <= fields
    tried = tries_of(registry, parse_choice(name), 8)
    assert tried[0].params == {}, "the first try is the mixer as it was named"
    finite = [len(d.values) for d in plugin.cls.search_space.values() if isinstance(d, Choices)]
    settings = math.prod(finite) if len(finite) == len(plugin.cls.search_space) else 8
    assert len(tried) == min(8, settings), "all there are, where the space is small"
    for choice in tried:
        made = plugin.cls(build_config(plugin, choice.params))
        for dial in ("rounds", "every", "proxy_share", "proxy_size", "graph_share"):
            assert getattr(made.config, dial, None) == getattr(plugin.cls().config, dial, None)


def test_tries_are_the_same_on_every_machine_and_leave_alone_what_the_user_set():
    registry = Registry(())
    first = tries_of(registry, parse_choice("doremi[smoothing=0.01]"), 8)
    assert first == tries_of(registry, parse_choice("doremi[smoothing=0.01]"), 8)
    assert {choice.params["smoothing"] for choice in first} == {0.01}
    assert len({choice.params.get("step_size") for choice in first}) == 8


def test_spans_and_choices_reach_their_ends():
    assert Span(low=1.0, high=100.0, log=True).at(0.5) == 10.0
    assert Span(low=1, high=5, whole=True).at(0.999) == 5
    assert Span(low=0.0, high=1.0).at(0.12345) == 0.123
    assert [Choices(values=("a", "b")).at(x) for x in (0.0, 0.49, 0.5, 0.99)] == ["a", "a", "b", "b"]
    for bad in (lambda: Span(low=1, high=1), lambda: Span(low=0, high=1, log=True), lambda: Choices(values=(1,))):
        with pytest.raises(MixerError):
            bad()


def run(tmp_path: Path, *flags: str):
    plugins = [word for file in FILES for word in ("--plugin", str(file))]
    words = ["tune", "--tasks", "toy", "--device", "cpu", "--workers", "1", "--out", str(tmp_path / "tune"), *plugins]
    return CliRunner().invoke(main, [*words, *flags], env={"MIXOFF_CACHE": str(tmp_path / "cache")})


@pytest.mark.slow
def test_tune_tries_chooses_by_validation_and_writes_an_experiment(tmp_path: Path):
    done = run(tmp_path, "--mixers", "unimax,uniform", "--tries", "3", "--seeds", "1000,1001")
    assert done.exit_code == 0, done.output
    rows = read_rows([tmp_path / "tune"])
    assert len(rows) == (3 + 1) * 2
    assert {row["spec"]["judge"] for row in rows} == {"validation"}
    assert {row["spec"]["seed"] for row in rows} == {1000, 1001}
    means: dict[str, list[float]] = {}
    for row in rows:
        metric = next(m for m in row["metrics"].values() if m["primary"])
        assert not metric["higher_is_better"]
        means.setdefault(row["spec"]["mixer_label"], []).append(metric["target"])
    best = min((label for label in means if label.startswith("unimax")), key=lambda label: sum(means[label]))
    written = yaml.safe_load((tmp_path / "tune" / "tuned.yaml").read_text())
    assert written["mixers"] == [best, "uniform"]
    assert written["seeds"] == 5
    assert read_experiment(tmp_path / "tune" / "tuned.yaml", {}).mixers == (best, "uniform")
    with pytest.raises(RowsError, match="judged on validation"):
        publish(rows, tmp_path / "boards", "toy")


def test_a_try_is_judged_on_validation_and_is_another_trial(toy_specs, registry, tmp_path: Path):
    from dataclasses import replace

    from harness.spec import TrialSpec
    from harness.store import RunFolder
    from harness.trial import run_trial

    (test,) = toy_specs()
    validation = replace(test, judge="validation")
    assert test.id != validation.id
    assert TrialSpec.from_row(validation.as_row()) == validation
    (tmp_path / "cache").mkdir()
    rows = [
        run_trial(spec, registry, RunFolder(tmp_path / "run"), tmp_path / "cache", lambda step, steps: None)
        for spec in (test, validation)
    ]
    assert rows[0]["mixture"] == rows[1]["mixture"]
    assert json.dumps(rows[0]["metrics"]) != json.dumps(rows[1]["metrics"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--mixers", "uniform", "--seeds", "2"], "tune on others, such as 1000"),
        (["--mixers", "uniform", "--partitions", "original,random"], "one task under one partition at a time"),
        (["--mixers", "nosuch"], "nosuch"),
    ],
)
def test_bad_tunings_are_one_line_and_code_2(tmp_path: Path, flags: list[str], message: str):
    done = run(tmp_path, *flags)
    assert done.exit_code == 2
    assert message in done.output
    assert not (tmp_path / "tune").exists()


def test_equal_scores_go_to_the_earlier_try_and_failures_are_never_chosen():
    ranked = tuning._ranked("m", ["a", "b", "c"], {"a": float("nan"), "b": 2.0, "c": 2.0}, False)
    assert [t.chosen for t in ranked] == [False, True, False]
