"""What can be set in the text task: its config, its presets, and the source of text that they name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tasks.base import ADDED, Preset, Recipe, Requirement, TaskError
from tasks.sources import packages
from tasks.sources.base import Source
from tasks.sources.embedded import Embedded
from tasks.sources.folder import Folder
from tasks.sources.jsonl import Jsonl
from tasks.sources.published import FINGERPRINTS


@dataclass(frozen=True, slots=True, kw_only=True)
class TextConfig:
    """Data and model of the text task. A preset's settings replace these defaults; a user's settings replace both.

    path: a folder (one subfolder a domain) or a ``.jsonl``/``.jsonl.gz`` file; empty for the embedded corpus.
    text_field, domain_field, origin_field: fields of a JSONL line; lines with one origin share a split.
    target: domain -> target share, summing to one; domains left out get none. Empty: the embedded corpus' own
    target, or the train shares of a user's data.
    portion: share of every domain's text to use, in (0, 1].
    validation_windows, test_windows: most evaluation windows a domain.
    vocabulary: tokens of the BPE. context: tokens a window trains on. width, layers, heads: of the decoder.
    model: a pretrained causal language model by name or local path, with its own tokenizer; empty: build a decoder.
    embedder: what ``auto`` means when windows are embedded: ``auto`` (static if installed, else tfidf), ``static``,
    ``minilm``, ``tfidf`` or ``st:<sentence-transformers model>``.
    synthetic: text of a further domain ``synthetic``, written by a small model that was trained on the training split,
    in bytes as a share of that split's; 0: none. It has no target share and no test text. synthetic_steps: of that
    model's training. synthetic_temperature: of its sampling. See :mod:`tasks.language.synthetic`.
    """

    path: str = ""
    text_field: str = "text"
    domain_field: str = "domain"
    origin_field: str = "origin"
    target: dict[str, float] = field(default_factory=dict)
    portion: float = 1.0
    validation_windows: int = 200
    test_windows: int = 200
    vocabulary: int = 2048
    context: int = 128
    width: int = 128
    layers: int = 3
    heads: int = 4
    model: str = ""
    embedder: str = "auto"
    synthetic: float = field(default=0.0, metadata=ADDED)
    synthetic_steps: int = field(default=300, metadata=ADDED)
    synthetic_temperature: float = field(default=1.0, metadata=ADDED)

    def __post_init__(self) -> None:
        for name in ("synthetic_steps", "validation_windows", "test_windows", "context", "width", "layers", "heads"):
            if getattr(self, name) < 1:
                raise TaskError(f"{name}={getattr(self, name)} must be at least 1")
        if not 0 < self.portion <= 1:
            raise TaskError(f"portion={self.portion} must be in (0, 1]")
        if not 0 <= self.synthetic < math.inf:
            raise TaskError(f"synthetic={self.synthetic} must be finite and at least 0")
        if not 0.001 <= self.synthetic_temperature < math.inf:
            raise TaskError(f"synthetic_temperature={self.synthetic_temperature} must be finite and at least 0.001")


PRESETS: tuple[Preset, ...] = (
    Preset(
        name="demo",
        recipe=Recipe(steps=200, batch_size=8, learning_rate=3e-3),
        settings={
            "portion": 0.25,
            "vocabulary": 1024,
            "width": 96,
            "layers": 2,
            "validation_windows": 50,
            "test_windows": 50,
        },
        summary="seconds a trial on one core; shows how everything works, too short for conclusions",
    ),
    Preset(
        name="nano",
        # The training loss leaves the plateau of token frequencies by step 150. Batches are small because this takes
        # steps: with batches of 32 for a quarter of the steps it did not.
        recipe=Recipe(steps=500, batch_size=8, learning_rate=2e-3),
        summary="about 1.1 M parameters and 0.5 M tokens; between one and two minutes a trial on one core",
    ),
    Preset(
        name="small",
        recipe=Recipe(steps=600, batch_size=32, learning_rate=1e-3),
        settings={
            "vocabulary": 8192,
            "context": 512,
            "width": 512,
            "layers": 7,
            "heads": 8,
            "validation_windows": 50,
            "test_windows": 50,
        },
        summary="about 30 M parameters and 10 M tokens; meant for a GPU",
    ),
)


def open_source(config: TextConfig) -> Source:
    """The reader that a config names; nothing is read yet. Raises :class:`TaskError` for a path that is no corpus."""
    target: Mapping[str, float] | None = config.target or None
    if not config.path:
        source = Embedded(config.portion)
        source.target = target or source.target
        return source
    path = Path(config.path).expanduser()
    if path.is_dir():
        return Folder(path, target=target, portion=config.portion)
    if not path.exists():
        raise TaskError(f"path={config.path}: no such file or folder")
    if not path.name.endswith((".jsonl", ".jsonl.gz")):
        raise TaskError(f"path={config.path}: expected a folder, a .jsonl file or a .jsonl.gz file")
    return Jsonl(
        path,
        text_field=config.text_field,
        domain_field=config.domain_field,
        origin_field=config.origin_field,
        target=target,
        portion=config.portion,
    )


def source_requirements(config: TextConfig) -> list[Requirement]:
    """The packages of the embedded corpus, or the path of a user's data, and what of it is there."""
    if config.path:
        found = config.path if Path(config.path).expanduser().exists() else ""
        return [Requirement(what=f"data {config.path}", found=found, remedy="path= a folder or a .jsonl[.gz] file")]
    return [
        Requirement(what=f"{name} {pin}", found=packages.installed(name), remedy=packages.INSTALL)
        for name, pin in packages.PINS.items()
    ]


def published(config: TextConfig, preset: Preset) -> str | None:
    """The published fingerprint, where all settings that touch the data are those of the preset; else ``None``."""
    theirs = TextConfig(**preset.settings)
    names = ("path", "target", "portion", "validation_windows", "test_windows", "vocabulary", "context", "model")
    same = all(getattr(config, name) == getattr(theirs, name) for name in (*names, "synthetic"))
    return FINGERPRINTS.get(preset.name) if same else None
