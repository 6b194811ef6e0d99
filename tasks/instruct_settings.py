"""What can be set in the instruct task: its config, its presets, and the reader that they name."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from tasks.answers_settings import AnswerConfig
from tasks.base import Preset, Recipe, Requirement, TaskError
from tasks.paper_presets import PAPER_DOLLY, PAPER_NATURAL_INSTRUCTIONS, PAPER_NATURAL_INSTRUCTIONS_OOD, PAPER_S1
from tasks.sources import dolly, hub, natural_instructions
from tasks.sources.hub import Hub
from tasks.sources.instructions import Table
from tasks.sources.natural_instructions import Definition, HeldOut, NaturalInstructions, Weigh
from tasks.sources.pairs import PairSource
from tasks.sources.records import JsonLines, Records, json_lines
from tasks.sources.traces import Traces

Format = Literal["auto", "dolly", "natural-instructions", "traces", "jsonl"]


TRACES_PLACE = "data/s1"


@dataclass(frozen=True, slots=True, kw_only=True)
class InstructConfig(AnswerConfig):
    """Data and model of the instruct task; what is not named here is as in :class:`tasks.answers.AnswerConfig`.

    path: ``databricks-dolly-15k.jsonl`` or its folder, a clone of allenai/natural-instructions, a sample of its first
    release, any ``.jsonl``/``.jsonl.gz`` file, or ``hub:owner/name``. Empty: the place where the format's data is
    looked for, ``data/dolly/databricks-dolly-15k.jsonl`` (else the hub), ``data/natural-instructions`` or ``data/s1``.
    format: ``dolly``, ``natural-instructions``, ``traces`` (questions, trajectories of thought and answers, in the
    columns of s1K), ``jsonl`` (named fields, by default Alpaca's), or ``auto``: by layout.
    domain: what a domain is. Natural Instructions: ``category`` (release 2), ``source`` (release 1's default) or
    ``task``; else a field's name, by default ``category`` in Dolly and ``domain`` in other files.
    held_out: ``examples`` of the training tasks, or ``tasks``, the benchmark's own test tasks.
    tasks: training tasks of Natural Instructions; 0: all. definition: the tasks' ``full`` definitions, ``short`` ones
    (release 1's own prompt, release 2's first sentence) or ``none``. input_characters: an input's last ones that are
    kept; 0: all.
    weigh: what the target shares of Natural Instructions count: evaluation ``examples`` or ``tasks``.
    portions: of train, validation and test, where the data does not say. portion: share of the examples to use.
    instruction_field, input_field, answer_field, origin_field: fields of a JSONL line; the input may be missing, and
    lines of one origin share a split (lines of one input, where there is no origin).
    """

    path: str = ""
    format: Format = "auto"
    domain: str = ""
    held_out: HeldOut = "examples"
    tasks: int = 0
    definition: Definition = "full"
    input_characters: int = 0
    weigh: Weigh = "examples"
    portions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    portion: float = 1.0
    instruction_field: str = "instruction"
    input_field: str = "input"
    answer_field: str = "output"
    origin_field: str = "origin"
    vocabulary: int = 2048
    context: int = 128

    def __post_init__(self) -> None:
        AnswerConfig.__post_init__(self)
        if not 0 < self.portion <= 1:
            raise TaskError(f"portion={self.portion} must be in (0, 1]")
        if min(self.portions) <= 0 or not math.isclose(sum(self.portions), 1, abs_tol=1e-6):
            raise TaskError(f"portions={list(self.portions)} must be three positive numbers that sum to 1")
        for name in ("tasks", "input_characters"):
            if getattr(self, name) < 0:
                raise TaskError(f"{name}={getattr(self, name)} must not be negative")
        if self.weigh == "tasks" and self.target:
            raise TaskError("weigh=tasks and target= both say what the target is; give one of them")


PRESETS: tuple[Preset, ...] = (
    Preset(
        name="nano",
        recipe=Recipe(steps=350, batch_size=16, learning_rate=4e-3),
        # A prompt that does not fit loses its beginning, which says what to do. So the inputs lose theirs before: on
        # the sample of Natural Instructions 6 % of the prompts are shortened still, most of them in three tasks whose
        # answers alone nearly fill the context. (120 characters: 10 %; without a limit: 55 %.)
        settings={
            "definition": "short",
            "input_characters": 80,
            "context": 96,
            "validation_examples": 50,
            "test_examples": 100,
        },
        summary="a built decoder of about 1.1 M parameters for data of your own; about a minute a trial on one core",
    ),
    PAPER_DOLLY,
    PAPER_NATURAL_INSTRUCTIONS,
    PAPER_NATURAL_INSTRUCTIONS_OOD,
    PAPER_S1,
)


def open_source(config: InstructConfig) -> PairSource:
    """The reader that a config names; nothing is read yet but first lines. Raises :class:`TaskError`."""
    where, kind = _located(config)
    if kind == "natural-instructions" and not where.startswith(hub.PREFIX):
        return NaturalInstructions(
            Path(where),
            domain=config.domain,
            held_out=config.held_out,
            tasks=config.tasks,
            definition=config.definition,
            input_characters=config.input_characters,
            weigh=config.weigh,
            portions=config.portions,
            portion=config.portion,
        )
    for name, default in (("held_out", "examples"), ("tasks", 0), ("weigh", "examples")):
        if getattr(config, name) != default:
            raise TaskError(f"{name}={getattr(config, name)} is for a clone of {natural_instructions.REPOSITORY}")
    if kind == "dolly":
        domain = config.domain or "category"
        place = dolly.PLACE
        return dolly.Dolly(_records(where, place), domain=domain, portions=config.portions, portion=config.portion)
    if kind == "traces":
        return Traces(Path(where), fields={"domain": config.domain})
    if kind == "natural-instructions":
        return _hub_instructions(config, where)
    return Table(
        _records(where, "data/instructions.jsonl"),
        instruction_field=config.instruction_field,
        input_field=config.input_field,
        answer_field=config.answer_field,
        domain_field=config.domain or "domain",
        origin_field=config.origin_field,
        portions=config.portions,
        portion=config.portion,
    )


def _hub_instructions(config: InstructConfig, where: str) -> Table:
    """Copies on the hub have one row an output and no categories; their columns are those of Tk-Instruct's."""
    if config.domain not in ("", "task"):
        raise TaskError(
            f"domain={config.domain}: copies of Natural Instructions on the hub have no {config.domain}; "
            f"use domain=task, or clone {natural_instructions.REPOSITORY} to {natural_instructions.PLACE}"
        )
    return Table(
        _records(where, natural_instructions.PLACE),
        instruction_field="definition",
        input_field="inputs",
        answer_field="targets",
        domain_field="task_name",
        portions=config.portions,
        portion=config.portion,
    )


def _records(where: str, place: str) -> Records:
    return Hub(where, place=place) if where.startswith(hub.PREFIX) else JsonLines(Path(where))


def _located(config: InstructConfig) -> tuple[str, Format]:
    """Where the data lies, and its format. Raises :class:`TaskError` where there is none."""
    if not config.path:
        return _default_place(config.format)
    if config.path.startswith(hub.PREFIX):
        name = config.path.lower()
        guess: Format = (
            "dolly" if "dolly" in name else "natural-instructions" if "natural-instructions" in name else "jsonl"
        )
        return config.path, guess if config.format == "auto" else config.format
    path = Path(config.path).expanduser()
    if not path.exists():
        raise TaskError(f"path={config.path}: no such file or folder; {remedy(config.format)}")
    if config.format == "traces":
        return str(path), "traces"
    if path.is_dir():
        if (path / dolly.FILE).is_file() and config.format in ("auto", "dolly"):
            return str(path / dolly.FILE), "dolly"
        if config.format in ("auto", "natural-instructions"):
            return str(path), "natural-instructions"  # its reader says what is missing
        raise TaskError(f"path={config.path} is a folder, but format={config.format} is one file; name the file")
    if not path.name.endswith((".jsonl", ".jsonl.gz")) or config.format == "natural-instructions":
        raise TaskError(f"path={config.path}: expected a .jsonl or .jsonl.gz file, or a folder with tasks/")
    if config.format != "auto":
        return str(path), config.format
    return str(path), "dolly" if set(next(json_lines(path)).row) >= dolly.FIELDS else "jsonl"


def _default_place(kind: Format) -> tuple[str, Format]:
    if kind == "dolly" and (Path(dolly.PLACE).is_file() or find_spec("datasets") is not None):
        return dolly.PLACE if Path(dolly.PLACE).is_file() else dolly.HUB, kind
    if kind == "natural-instructions" and Path(natural_instructions.PLACE).is_dir():
        return natural_instructions.PLACE, kind
    if kind == "traces" and Path(TRACES_PLACE).exists():
        return TRACES_PLACE, kind
    raise TaskError(f"{_TITLES[kind]} not found; {remedy(kind)}")


_TITLES: dict[Format, str] = {
    "auto": "instruct brings no data of its own:",
    "dolly": f"{dolly.PLACE}",
    "natural-instructions": f"{natural_instructions.PLACE}",
    "traces": TRACES_PLACE,
    "jsonl": "data",
}


def remedy(kind: Format) -> str:
    """One line: where to get a format's data and where to put it."""
    if kind == "dolly":
        return (
            f"download {dolly.FILE} of data set {dolly.HUB.removeprefix(hub.PREFIX)} to {dolly.PLACE}, "
            "or pass instruct[path=FILE], or pip install 'mixoff[hub]' to have it fetched"
        )
    if kind == "natural-instructions":
        return (
            f"git clone --depth 1 https://github.com/{natural_instructions.REPOSITORY} {natural_instructions.PLACE}, "
            "or pass instruct[path=FOLDER]"
        )
    if kind == "traces":
        return (
            f"put the rows of S1-59K, .jsonl or .parquet files with question, reasoning, answer and domain, into "
            f"{TRACES_PLACE}, or pass instruct[path=FOLDER]"
        )
    return "pass instruct[path=FILE.jsonl] with instruction, input, output and domain on every line"


def data_requirement(config: InstructConfig) -> Requirement:
    """The data, and where it lies; reads no data."""
    try:
        where, kind = _located(config)
    except TaskError:
        where, kind = "", config.format
    found = hub.cached(where) if where.startswith(hub.PREFIX) else where
    places = {"dolly": dolly.PLACE, "natural-instructions": natural_instructions.PLACE, "traces": TRACES_PLACE}
    name = config.path or places.get(kind, "data")
    return Requirement(
        what=f"data {name}",
        found=found,
        remedy=remedy(kind),
        fetchable=where.startswith(hub.PREFIX) and find_spec("datasets") is not None,
    )
