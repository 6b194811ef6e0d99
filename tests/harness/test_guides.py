"""The examples of the guides work as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from harness.conformance import TOY_TASK, check
from harness.conformance.promises import CHECKS
from harness.experiment import read_experiment, trials
from harness.prepare import prepare
from harness.registry import Registry
from harness.store import RunFolder
from harness.trial import run_trial

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "add-a-task.md").read_text(encoding="utf-8")
MIXER_PAGE = (DOCS / "add-a-mixer.md").read_text(encoding="utf-8")


@pytest.fixture
def digits(tmp_path: Path) -> Registry:
    """The guide's task as a plugin file."""
    block = re.search(r"```python\n(# digits.py.*?)```", PAGE, re.DOTALL)
    assert block
    file = tmp_path / "digits.py"
    file.write_text(block[1])
    return Registry([file])


def _rows(registry: Registry, folder: Path, **flags: str) -> list[dict]:
    base = {"tasks": "digits", "seeds": "1", "device": "cpu", "mixers": "uniform,natural,target,rnb"}
    specs = trials(read_experiment(None, base | flags), registry)
    return [run_trial(spec, registry, RunFolder(folder / "run"), folder, lambda a, b: None) for spec in specs]


def test_the_guides_task_runs_under_every_mixer_and_partition(digits, tmp_path: Path):
    rows = _rows(digits, tmp_path, partitions="original,kmeans[k=10]")
    assert len(rows) == 8
    for row in rows:
        assert row["status"] == "ok", row["reason"]
        accuracy = row["metrics"]["accuracy"]
        assert accuracy["target"] > 0.5 > accuracy["baseline"]["target"]
        assert len(accuracy["by_domain"]) == 10


def test_the_guides_task_is_worth_comparing_mixers_on(digits, tmp_path: Path):
    """Evaluation favours large digits, training small ones: weighting by the target beats the natural shares."""
    rows = _rows(digits, tmp_path, mixers="natural,target", seeds="3")
    score = {
        mixer: np.mean([row["metrics"]["loss"]["target"] for row in rows if row["spec"]["mixer"] == mixer])
        for mixer in ("natural", "target")
    }
    assert score["target"] < score["natural"]


def test_the_guides_task_keeps_what_the_page_says_of_a_task(digits, tmp_path: Path):
    (spec,) = trials(read_experiment(None, {"tasks": "digits", "mixers": "natural", "seeds": "1"}), digits)
    corpus = prepare(spec, digits, tmp_path).corpus
    assert sum(len(labels) for labels in corpus.labels.values()) < 1797
    counts = np.bincount(corpus.labels["train"], minlength=10)
    assert counts[0] > 5 * counts[9] > 0
    assert set(corpus.labels["test"]) == set(range(10))
    assert corpus.target_shares.sum() == pytest.approx(1)


@pytest.fixture
def catch_up(tmp_path: Path) -> Path:
    """The guide's mixer as a plugin file."""
    block = re.search(r"```python\n(# catch_up.py.*?)```", MIXER_PAGE, re.DOTALL)
    assert block
    file = tmp_path / "catch_up.py"
    file.write_text(block[1])
    return file


def test_the_guides_mixer_passes_every_check(catch_up):
    (report,) = check(catch_up)
    assert {result.outcome for result in report.results} == {"ok"}, report.text


def test_the_guides_mixer_pays_for_what_it_looks_at(catch_up, tmp_path: Path):
    rows = _rows(Registry([catch_up, TOY_TASK]), tmp_path, tasks="toy", mixers="catch_up[heat=3]")
    assert rows[0]["status"] == "ok", rows[0]["reason"]
    assert rows[0]["overhead"]["purchases"]["validation losses"]["calls"] == 5
    assert len({tuple(weights) for _, weights in rows[0]["mixture"]["requested"]}) == 5


def test_the_guide_shows_what_a_forgotten_state_is_told(catch_up):
    catch_up.write_text(catch_up.read_text().partition("    def state_dict")[0])
    (report,) = check(catch_up)
    (failure,) = report.failures
    assert f"FAIL  {failure.check}: {failure.line}" in MIXER_PAGE, report.text


def test_the_guide_lists_every_check():
    listed = re.findall(r"^\| `(\w+)` \| (.*) \|$", MIXER_PAGE, re.MULTILINE)
    assert listed == [(item.name, item.what) for item in CHECKS.values()]
