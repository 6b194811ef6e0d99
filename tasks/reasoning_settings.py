"""What can be set in the reasoning task: its config, its presets, and the source of problems that they name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tasks.base import Preset, Recipe, TaskError
from tasks.language.answers_settings import AnswerConfig
from tasks.sources.gsm8k import Gsm8k, is_gsm8k
from tasks.sources.reasoning_problems import FINGERPRINTS, Problems
from tasks.sources.traces import SUFFIXES, Traces
from tasks.sources.verified import VerifiedSource

# For a path, where not set otherwise: worked solutions are sentences of a hundred tokens and more, not single bytes.
OWN_DATA = {"vocabulary": 2048, "context": 384}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasoningConfig(AnswerConfig):
    """Data and model of the reasoning task; what all tasks on pairs share is in :class:`AnswerConfig`.

    path: GSM8K's folder or a file of it, or a file or folder of reasoning traces; empty for the generated problems.
    format: ``gsm8k``, ``traces``, or empty: whichever the path looks like.
    question_field, reasoning_field, answer_field, domain_field: columns of traces; empty ones are guessed.
    problems: generated training problems of all domains together. level: how hard they are, ``short`` or ``long``.
    verified_examples: test examples a domain whose answers are generated and verified.
    With a path, vocabulary and context are 2048 and 384 unless they are set.
    """

    path: str = ""
    format: Literal["", "gsm8k", "traces"] = ""
    question_field: str = ""
    reasoning_field: str = ""
    answer_field: str = ""
    domain_field: str = ""
    problems: int = 20_000
    level: Literal["short", "long"] = "short"
    verified_examples: int = 16
    context: int = 29
    width: int = 64

    def __post_init__(self) -> None:
        AnswerConfig.__post_init__(self)
        if self.problems < 1000:
            raise TaskError(f"problems={self.problems} must be at least 1000, so that every domain has some")
        if self.verified_examples < 1:
            raise TaskError(f"verified_examples={self.verified_examples} must be at least 1")


PRESETS: tuple[Preset, ...] = (
    Preset(
        name="demo",
        recipe=Recipe(steps=300, batch_size=16, learning_rate=5e-3, warmup=0.05),
        settings={"problems": 8000, "layers": 2, "validation_examples": 50, "test_examples": 100},
        summary="seconds a trial on one core; shows how everything works, too short for conclusions",
    ),
    Preset(
        name="nano",
        # Steps count for more than examples: half as many steps on batches of 32 learn much less, and so do fewer steps
        # of a wider model with two layers.
        recipe=Recipe(steps=2500, batch_size=16, learning_rate=5e-3, warmup=0.05),
        summary="about 0.2 M parameters and 20,000 short problems, met twice; about one minute a trial on one core",
    ),
    Preset(
        name="small",
        recipe=Recipe(steps=3000, batch_size=128, learning_rate=1e-3),
        settings={
            "problems": 100_000,
            "level": "long",
            "context": 128,
            "width": 512,
            "layers": 9,
            "heads": 8,
        },
        summary="about 30 M parameters, problems of the library's own sizes; meant for a GPU",
    ),
)


def open_source(config: ReasoningConfig) -> VerifiedSource:
    """The reader that a config names; nothing is read yet. Raises :class:`TaskError` for a path that is no data."""
    target = config.target or None
    if not config.path:
        if config.format:
            raise TaskError(f"format={config.format} needs path=<file or folder>")
        return Problems(
            problems=config.problems,
            level=config.level,
            validation=config.validation_examples,
            test=config.test_examples,
            target=target,
        )
    path = Path(config.path).expanduser()
    if not path.exists():
        raise TaskError(f"path={config.path}: no such file or folder")
    if path.is_file() and not path.name.endswith(SUFFIXES):
        raise TaskError(f"path={config.path}: expected a folder or a file ending in {', '.join(SUFFIXES)}")
    if config.format == "gsm8k" or (not config.format and is_gsm8k(path)):
        return Gsm8k(path, target=target)
    names = ("question", "reasoning", "answer", "domain")
    return Traces(path, fields={name: getattr(config, f"{name}_field") for name in names}, target=target)


def published(config: ReasoningConfig, preset: Preset) -> str | None:
    """The published fingerprint, where all settings that touch the data are those of the preset; else ``None``."""
    theirs = ReasoningConfig(**preset.settings)
    names = ("path", "target", "problems", "level", "validation_examples", "test_examples", "vocabulary", "context")
    same = all(getattr(config, name) == getattr(theirs, name) for name in (*names, "model"))
    return FINGERPRINTS.get(preset.name) if same else None
