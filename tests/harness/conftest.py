from __future__ import annotations

from pathlib import Path

import pytest

from harness.conformance import TOY_TASK
from harness.experiment import read_experiment, trials
from harness.registry import Registry
from harness.spec import TrialSpec
from harness.store import RunFolder
from harness.trial import run_trial

PLUGINS = Path(__file__).parent.parent / "plugins"
FILES = (TOY_TASK, PLUGINS / "odd_mixers.py", PLUGINS / "buyer.py")


@pytest.fixture
def registry() -> Registry:
    return Registry(FILES)


@pytest.fixture
def toy_specs(registry: Registry):
    """Specs of toy trials from flags."""

    def make(**flags) -> list[TrialSpec]:
        base = {"tasks": "toy", "mixers": "uniform", "seeds": "1", "device": "cpu", "plugin": FILES}
        return list(trials(read_experiment(None, base | flags), registry))

    return make


@pytest.fixture
def run_toy(registry: Registry, toy_specs, tmp_path: Path):
    """Run one toy trial in this process and return its row."""

    def run(**flags):
        (spec,) = toy_specs(**flags)
        (tmp_path / "cache").mkdir(exist_ok=True)
        folder = RunFolder(tmp_path / "run")
        return run_trial(spec, registry, folder, tmp_path / "cache", lambda step, steps: None)

    return run
