from __future__ import annotations

import json
import random
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from tasks.sources.packages import PINS
from tasks.text import Text
from tasks.text_settings import TextConfig

WORDS = {
    "sea": ["wave", "tide", "salt", "harbour", "sail", "anchor", "gull", "storm", "current", "reef", "keel", "mast"],
    "law": ["court", "judge", "statute", "appeal", "ruling", "brief", "clause", "tort", "motion", "counsel", "oath"],
}


def sentences(domain: str, seed: int, count: int) -> str:
    rng = random.Random(f"{domain}{seed}")
    return "\n".join(" ".join(rng.choices(WORDS[domain], k=9)) + "." for _ in range(count))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two domains of twelve short files."""
    root = tmp_path / "corpus"
    for domain in WORDS:
        (root / domain).mkdir(parents=True)
        for number in range(12):
            (root / domain / f"{number:02d}.txt").write_text(sentences(domain, number, 30), encoding="utf-8")
    return root


@pytest.fixture
def make_text(tmp_path: Path) -> Callable[..., Text]:
    """Tiny text tasks that share one cache folder."""

    def make(path: Path | str, **settings: object) -> Text:
        tiny = {"vocabulary": 300, "context": 16, "width": 16, "layers": 1, "heads": 2, "test_windows": 20}
        config = Text.configure(Text.presets["nano"], {"path": str(path), **tiny, **settings})
        assert isinstance(config, TextConfig)
        return Text(config, Text.presets["nano"], tmp_path / "cache")

    return make


def write_jsonl(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def packages_missing() -> bool:
    for name in PINS:
        try:
            version(name)
        except PackageNotFoundError:
            return True
    return False


needs_packages = pytest.mark.skipif(packages_missing(), reason="the data packages of the demo extra are not installed")
