"""The formats that the instruct task reads: where each lies, what its reader can be told, and how it is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tasks.base import Requirement, TaskError
from tasks.hugging_face import endpoint
from tasks.instruct_settings import InstructConfig
from tasks.sources import dolly, hub, natural_instructions
from tasks.sources.hub import Hub
from tasks.sources.hub_instructions import HubInstructions
from tasks.sources.instructions import Table
from tasks.sources.natural_instructions import NaturalInstructions
from tasks.sources.pairs import PairSource
from tasks.sources.records import JsonLines, Records
from tasks.sources.traces import SUFFIXES, Traces

_JSONL = (".jsonl", ".jsonl.gz")
_SPLIT = {"domain", "portions", "portion"}  # what all readers can be told
_FIELDS = {"instruction_field", "input_field", "answer_field", "origin_field"}
_PROMPT = {"definition", "input_characters"}  # a preset may shorten prompts; formats that cannot leave theirs whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One format.

    title: what it is. place: where it is looked for where no path is given. hub: the data set that is fetched where
    nothing lies there. remedy: one line, where to get it and where to put it. words: what names of data sets on the
    hub have in common. suffixes: of its files. folder: whether it may be a folder. settings: what of the config its
    reader takes, besides path and format. open: config and place -> reader.
    """

    title: str
    place: str
    remedy: str
    settings: frozenset[str]
    open: Callable[[InstructConfig, str], PairSource]
    hub: str = ""
    words: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = _JSONL
    folder: bool = False


def _records(where: str, place: str) -> Records:
    return Hub(where, place=place) if where.startswith(hub.PREFIX) else JsonLines(Path(where))


def _open_dolly(config: InstructConfig, where: str) -> PairSource:
    return dolly.Dolly(
        _records(where, dolly.PLACE),
        domain=config.domain or "category",
        input_characters=config.input_characters,
        portions=config.portions,
        portion=config.portion,
    )


def _open_natural_instructions(config: InstructConfig, where: str) -> PairSource:
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


def _open_hub_instructions(config: InstructConfig, where: str) -> PairSource:
    return HubInstructions(
        _records(where, natural_instructions.PLACE),
        domain=config.domain,
        held_out=config.held_out,
        tasks=config.tasks,
        input_characters=config.input_characters,
        portions=config.portions,
        portion=config.portion,
    )


def _open_traces(config: InstructConfig, where: str) -> PairSource:
    given = {"question": config.instruction_field, "answer": config.answer_field}
    left_open = {"question": "instruction", "answer": "output"}  # the config's defaults, which are no columns of traces
    return Traces(
        Hub(where, place=FORMATS["traces"].place) if where.startswith(hub.PREFIX) else Path(where),
        fields={role: name for role, name in given.items() if name != left_open[role]} | {"domain": config.domain},
        settings={"question": "instruction_field", "answer": "answer_field", "domain": "domain"},
        portions=config.portions,
        portion=config.portion,
    )


def _open_table(config: InstructConfig, where: str) -> PairSource:
    return Table(
        _records(where, FORMATS["jsonl"].place),
        instruction_field=config.instruction_field,
        input_field=config.input_field,
        answer_field=config.answer_field,
        domain_field=config.domain or "domain",
        origin_field=config.origin_field,
        input_characters=config.input_characters,
        portions=config.portions,
        portion=config.portion,
    )


FORMATS: Mapping[str, Format] = {
    "dolly": Format(
        title="Dolly",
        place=dolly.PLACE,
        hub=dolly.HUB,
        remedy=f"download {dolly.FILE} of data set {dolly.HUB.removeprefix(hub.PREFIX)} to {dolly.PLACE}, "
        'or pass instruct[path=FILE], or pip install -e ".[hub]" to have it fetched',
        words=("dolly",),
        settings=frozenset({*_SPLIT, "input_characters"}),
        open=_open_dolly,
    ),
    "natural-instructions": Format(
        title="Natural Instructions",
        place=natural_instructions.PLACE,
        remedy=f"git clone --depth 1 https://github.com/{natural_instructions.REPOSITORY} "
        f"{natural_instructions.PLACE}, or pass instruct[path=FOLDER]",
        suffixes=(),
        folder=True,
        settings=frozenset({*_SPLIT, *_PROMPT, "held_out", "tasks", "weigh"}),
        open=_open_natural_instructions,
    ),
    "hub-instructions": Format(
        title="a copy of Natural Instructions on the hub",
        place=natural_instructions.PLACE,
        remedy="pass instruct[path=hub:owner/name]",
        words=("natural-instructions",),
        settings=frozenset({*_SPLIT, "input_characters", "held_out", "tasks"}),
        open=_open_hub_instructions,
    ),
    "traces": Format(
        title="traces",
        place="data/s1",
        hub="hub:simplescaling/data_ablation_full59K",
        remedy="put the .parquet files of data set simplescaling/data_ablation_full59K, or .jsonl files with question, "
        'reasoning, answer and domain, into data/s1, or pass instruct[path=FOLDER], or pip install -e ".[hub]" to '
        "have them fetched",
        words=("/s1k", "full59k"),
        suffixes=SUFFIXES,
        folder=True,
        settings=frozenset({*_SPLIT, "instruction_field", "answer_field"}),
        open=_open_traces,
    ),
    "jsonl": Format(
        title="a table of named fields",
        place="data/instructions.jsonl",
        remedy="pass instruct[path=FILE.jsonl] with instruction, input, output and domain on every line",
        settings=frozenset({*_SPLIT, *_FIELDS, "input_characters"}),
        open=_open_table,
    ),
}


def open_source(config: InstructConfig, preset: Mapping[str, Any]) -> PairSource:
    """The reader that a config names; nothing is read yet but first lines. ``preset``: the settings that it brings.

    Raises :class:`TaskError` where there is no such data, and for a setting that its format has not.
    """
    where, form = _located(config)
    _refuse(config, preset, form)
    return form.open(config, where)


def data_requirement(config: InstructConfig, preset: Mapping[str, Any]) -> Requirement:
    """The data, and where it lies; reads no data. Raises :class:`TaskError` for a setting that its format has not."""
    known = FORMATS.get(config.format, FORMATS["jsonl"])
    try:
        where, form = _located(config)
    except TaskError:
        if config.path:
            raise  # it says what is wrong with that file or folder
        where, form = "", known
    else:
        _refuse(config, preset, form)
    remote = where.startswith(hub.PREFIX)
    return Requirement(
        what=f"data {config.path or ('' if config.format == 'auto' else form.place)}".strip(),
        found=hub.cached(where) if remote else where,
        remedy=form.remedy,
        source=endpoint() if remote and find_spec("datasets") is not None else "",
    )


def _refuse(config: InstructConfig, preset: Mapping[str, Any], form: Format) -> None:
    """Raise :class:`TaskError` for a setting that would change nothing, since the format's reader has no such thing."""
    others = {name for each in FORMATS.values() for name in each.settings} - form.settings
    for item in fields(config):
        value = getattr(config, item.name)
        silent = item.name in _PROMPT and value == preset.get(item.name)
        if item.name in others and value != item.default and not silent:
            having = [each.title for each in FORMATS.values() if item.name in each.settings]
            taken = ", ".join(sorted(form.settings))
            raise TaskError(f"{item.name}={value} is for {' and '.join(having)}; {form.title} takes {taken}")


def _located(config: InstructConfig) -> tuple[str, Format]:
    """Where the data lies, and its format. Raises :class:`TaskError` where there is none."""
    if not config.path:
        return _default(config)
    if config.path.startswith(hub.PREFIX):
        name = config.path.lower()
        guess = next((kind for kind, form in FORMATS.items() if any(word in name for word in form.words)), "jsonl")
        kind = guess if config.format == "auto" else config.format
        return config.path, FORMATS["hub-instructions" if kind == "natural-instructions" else kind]
    path = Path(config.path).expanduser()
    known = FORMATS.get(config.format, FORMATS["jsonl"])
    if not path.exists():
        raise TaskError(f"path={config.path}: no such file or folder; {known.remedy}")
    kind = _guess(path) if config.format == "auto" else config.format
    form = FORMATS[kind]
    if kind == "dolly" and (path / dolly.FILE).is_file():
        path = path / dolly.FILE
    if path.is_dir() and not form.folder:
        raise TaskError(f"path={config.path} is a folder, but format={kind} is one file; name the file")
    if path.is_file() and not path.name.endswith(form.suffixes):
        expected = f"a {' or '.join(form.suffixes)} file" if form.suffixes else "a folder with tasks/"
        raise TaskError(f"path={config.path}: expected {expected} for format={kind}")
    return str(path), form


def _default(config: InstructConfig) -> tuple[str, Format]:
    if config.format == "auto":
        raise TaskError(f"instruct brings no data of its own: {FORMATS['jsonl'].remedy}")
    form = FORMATS[config.format]
    if Path(form.place).exists():
        return form.place, form
    if form.hub and find_spec("datasets") is not None:
        return form.hub, form
    raise TaskError(f"{form.place} not found; {form.remedy}")


def _guess(path: Path) -> str:
    """The format that a file or folder looks like."""
    if path.is_dir():
        return "dolly" if (path / dolly.FILE).is_file() else "natural-instructions"  # whose reader says what is missing
    if path.suffix == ".parquet":
        return "traces"
    return "dolly" if path.name.endswith(_JSONL) and set(JsonLines(path).names()) >= dolly.FIELDS else "jsonl"
