"""What the README says works as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.conformance import check
from harness.experiment import read_experiment, trials
from harness.leaderboard.overview import overview
from harness.registry import Registry
from harness.store import RunFolder
from harness.trial import run_trial
from tests.harness.conftest import FILES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_mixer_of_the_readme_is_twenty_odd_lines_and_runs(tmp_path: Path):
    block = re.search(r"```python\n(# my_mixer.py.*?)```", README, re.DOTALL)
    assert block
    file = tmp_path / "my_mixer.py"
    file.write_text(block[1])
    assert len([line for line in block[1].splitlines() if line.strip()]) <= 25
    registry = Registry([*FILES, file])
    flags = {"tasks": "toy", "mixers": "chaser[heat=3]", "seeds": "1", "device": "cpu"}
    (spec,) = trials(read_experiment(None, flags), registry)
    row = run_trial(spec, registry, RunFolder(tmp_path / "run"), tmp_path, lambda step, steps: None)
    assert row["status"] == "ok", row["reason"]
    assert row["mixture"]["requested"][-1][1] != row["mixture"]["requested"][0][1]
    (report,) = check(file)
    assert not report.failures, report.text


def test_every_file_that_the_documents_link_to_exists():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_make_and_the_demo_are_named():
    assert "make demo" in README
    assert "make test" in README
    assert read_experiment(ROOT / "demo.yaml", {}).preset == "demo"


PAGES = {
    "mixers.md": (
        *("text-nano", "reasoning-nano", "multimodal-nano", "natural-instructions-nano"),
        "multimodal-nano-total",
    ),
    "tasks.md": ("tabular-mixinglaws-70m", "tabular-regmix-1m"),
}


@pytest.mark.parametrize("page", PAGES)
def test_the_overview_of_a_page_follows_from_the_leaderboards(page: str):
    folders = [ROOT / "leaderboards" / name for name in PAGES[page]]
    text = (ROOT / "docs" / page).read_text()
    assert all(name in text for name in PAGES[page]), "the page says of which boards"
    assert overview(folders, "natural") in text, f"run the command that stands above the table in docs/{page}"
