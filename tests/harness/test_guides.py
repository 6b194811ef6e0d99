"""The examples of the guides work as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from harness.experiment import read_experiment, trials
from harness.prepare import prepare
from harness.registry import Registry
from harness.store import RunFolder
from harness.trial import run_trial

PAGE = (Path(__file__).parents[2] / "docs" / "add-a-task.md").read_text(encoding="utf-8")


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
