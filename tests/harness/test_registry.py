from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from harness import registry as registry_module
from harness.errors import UserError
from harness.registry import Registry

PLUGINS = Path(__file__).parent.parent / "plugins"


def test_the_tree_is_found():
    registry = Registry()
    assert {"uniform", "natural", "target", "unimax", "rnb"} <= set(registry.all("mixers"))
    assert {"original", "kmeans", "random", "sae"} <= set(registry.all("regroupers"))
    assert "text" in registry.all("tasks")
    assert all(plugin.cls is not None for kind in registry_module.KINDS for plugin in registry.all(kind).values())


def test_listing_mixers_imports_no_task():
    code = "import sys; from harness.registry import Registry; Registry().all('mixers'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_file_brings_its_plugins_with_their_origin():
    registry = Registry([PLUGINS / "odd_mixers.py"])
    plugin = registry.get("mixers", "memory")
    assert plugin.origin == f"file {PLUGINS / 'odd_mixers.py'}"
    assert "sha256:" in plugin.source
    assert "_Even" not in registry.all("mixers"), "helper classes without a name are no plugins"


def test_a_file_that_does_not_import_stays_listed_with_its_error():
    registry = Registry([PLUGINS / "broken.py"])
    assert "ModuleNotFoundError" in registry.all("mixers")["broken"].error
    with pytest.raises(UserError, match="a_package_that_does_not_exist"):
        registry.get("mixers", "broken")
    assert registry.get("mixers", "rnb"), "the others still work"


def test_a_missing_file_is_a_user_error():
    with pytest.raises(UserError, match="no such file"):
        Registry([Path("nowhere.py")]).all("mixers")


def test_entry_points_of_other_packages(monkeypatch: pytest.MonkeyPatch):
    points = {
        "mixoff.mixers": [
            EntryPoint("uniform", "mixers.uniform:Uniform", "mixoff.mixers"),
            EntryPoint("lost", "no_such_package:Lost", "mixoff.mixers"),
            EntryPoint("number", "math:pi", "mixoff.mixers"),
        ]
    }
    monkeypatch.setattr(registry_module, "entry_points", lambda group: points.get(group, []))
    found = Registry().all("mixers")
    assert found["uniform"].origin.startswith("package")
    assert "ModuleNotFoundError" in found["lost"].error
    assert "no Mixer class" in found["number"].error


def test_a_later_find_wins(tmp_path: Path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from mixers.base import Mixer\n"
        "class Uniform(Mixer):\n"
        "    '''Mine.'''\n"
        "    name = 'uniform'\n"
        "    def start(self, problem, lab):\n"
        "        return problem.mixture(problem.train_shares)\n"
    )
    assert Registry([file]).get("mixers", "uniform").summary == "Mine."
    source = Registry([file]).get("mixers", "uniform").source
    file.write_text(file.read_text() + "\n# changed\n")
    assert Registry([file]).get("mixers", "uniform").source != source, "the contents are part of a trial's identity"
