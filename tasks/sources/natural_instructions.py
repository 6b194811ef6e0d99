"""Natural Instructions: tasks with a definition and many examples (Mishra et al. 2022, Wang et al. 2022)."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tasks.base import TaskError
from tasks.cache import content_key
from tasks.sources.documents import stable_rank
from tasks.sources.instructions import divide, ending, prompt, thin
from tasks.sources.pairs import Pair, PairSource
from tasks.sources.passages import passages
from tasks.sources.records import json_lines, read_bytes, text_of

PLACE = "data/natural-instructions"
REPOSITORY = "allenai/natural-instructions"
OFFICIAL_TESTS = 100  # the first examples of a test task, by the benchmark's own rule (splits/README.md)

HeldOut = Literal["examples", "tasks"]
Definition = Literal["full", "short", "none"]
Weigh = Literal["examples", "tasks"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Skill:
    """One task: name, definition, its labels by kind (``category``, ``source``, ``task``), inputs and first outputs.

    held_out: whether it is one of the benchmark's test tasks.
    """

    name: str
    definition: str
    labels: Mapping[str, str]
    examples: Sequence[tuple[str, str]] = ()
    held_out: bool = False


class NaturalInstructions(PairSource):
    """A copy of either release, one domain a category, source or task.

    Release 2: the repository, with ``tasks/taskNNN_name.json`` and ``splits/default/``. Release 1, as a sample:
    ``tasks.json`` and one JSONL file a task. Of several accepted outputs the first is learnt; examples without one
    are left out.

    held_out ``examples``: pairs of the training tasks are split by passage, across tasks. ``tasks``: all pairs of
    the training tasks are for training; of each test task the benchmark's own 100 test examples are for testing and
    the next 100 for validation (half and half where there are fewer), so that training and target domains may have
    nothing in common. tasks: how many training tasks, chosen by a hash of their names; 0: all. weigh: what the
    target shares count: evaluation examples, or tasks, each of which then weighs the same, as in the benchmark's
    own averages.
    """

    def __init__(
        self,
        path: Path,
        *,
        domain: str = "",
        held_out: HeldOut = "examples",
        tasks: int = 0,
        definition: Definition = "full",
        input_characters: int = 0,
        weigh: Weigh = "examples",
        portions: Sequence[float],
        portion: float = 1.0,
    ) -> None:
        self._path = path
        self._first = (path / "tasks.json").is_file()
        if not self._first and not (path / "tasks").is_dir():
            raise TaskError(
                f"{path} is no copy of Natural Instructions: expected tasks/taskNNN_name.json and "
                f"splits/default/train_tasks.txt, as in a clone of {REPOSITORY}"
            )
        kinds = ("source", "task") if self._first else ("category", "source", "task")
        self._kind = domain or kinds[0]
        if self._kind not in kinds:
            raise TaskError(f"domain={domain}: this release of Natural Instructions has {' and '.join(kinds)}")
        if self._first and held_out == "tasks":
            raise TaskError(f"held_out=tasks needs the task lists of {REPOSITORY}, which {path} lacks")
        self._held_out = held_out
        self._limit = tasks
        self._definition: Definition = definition
        self._input_characters = input_characters
        self._weigh = weigh
        self._portions = tuple(portions)
        self._portion = portion
        self._left_out = 0

    @property
    def target(self) -> Mapping[str, float] | None:  # type: ignore[override]
        """Equal weight for every evaluated task where that is wished, else the shares of the evaluation data."""
        if self._weigh == "examples":
            return None
        judged = [skill for skill in self._skills(examples=False) if skill.held_out or self._held_out == "examples"]
        counts = Counter(skill.labels[self._kind] for skill in judged)
        return {domain: count / len(judged) for domain, count in sorted(counts.items())}

    def _files(self) -> list[tuple[Path, bool]]:
        """The files of the chosen tasks, and whether each is a test task."""
        if self._first:
            names = [self._path / entry["file"] for entry in self._contents()]
            return [(path, False) for path in self._choose(names)]
        chosen = [(path, False) for path in self._choose(self._listed("train"))]
        return chosen + [(path, True) for path in self._listed("test")] if self._held_out == "tasks" else chosen

    def _choose(self, paths: Sequence[Path]) -> list[Path]:
        if not self._limit:
            return list(paths)
        return sorted(sorted(paths, key=lambda path: stable_rank(_name(path)))[: self._limit])

    def _listed(self, split: str) -> list[Path]:
        """Files of the default split's tasks, in alphabetical order."""
        file = self._path / "splits" / "default" / f"{split}_tasks.txt"
        try:
            names = sorted(set(read_bytes(file).decode().split()))
        except UnicodeDecodeError:
            raise TaskError(f"{file} is no UTF-8 text; take the file from {REPOSITORY}") from None
        if not names:
            raise TaskError(f"{file} names no tasks; take the file from {REPOSITORY}")
        paths = [self._path / "tasks" / f"{name}.json" for name in names]
        missing = [path.name for path in paths if not path.is_file()]
        if missing:
            raise TaskError(f"{self._path / 'tasks'} lacks {missing[0]}, which {file} names; take all of {REPOSITORY}")
        return paths

    def _contents(self) -> list[dict[str, Any]]:
        """The entries of the first release's ``tasks.json``."""
        file = self._path / "tasks.json"
        entries = _json(read_bytes(file), file).get("tasks")
        wanted = ("task", "source", "file", "definition")
        if not isinstance(entries, list) or not all(
            isinstance(entry, dict) and all(isinstance(entry.get(name), str) for name in wanted) for entry in entries
        ):
            raise TaskError(f"{file}: expected a list `tasks` of objects with {', '.join(wanted)}")
        return entries

    def identity(self) -> str:
        """Hash of the files and of every setting that decides which pairs come of them."""
        total = hashlib.sha256()
        for path, held_out in self._files():
            total.update(f"{path.name} {held_out} {hashlib.sha256(read_bytes(path)).hexdigest()}\n".encode())
        if self._first:
            total.update(read_bytes(self._path / "tasks.json"))
        settings = (self._kind, self._held_out, self._definition, self._input_characters)
        return content_key("natural-instructions", 2, total.hexdigest(), settings, self._portions, self._portion)

    def _skills(self, *, examples: bool) -> Iterator[Skill]:
        """The chosen tasks one by one: all of them together may not fit into memory twice."""
        if self._first:
            entries = {self._path / entry["file"]: entry for entry in self._contents()}
            for path, _ in self._files():
                entry = entries[path]
                rows = [
                    (text_of(record, "input", empty=True), text_of(record, "target", empty=True))
                    for record in (json_lines(path) if examples else ())
                ]
                labels = {"task": entry["task"], "source": _source(entry["source"])}
                yield Skill(name=entry["task"], definition=entry["definition"], labels=labels, examples=rows)
        else:
            for path, held_out in self._files():
                yield _skill(path, held_out, examples=examples)

    def pairs(self) -> list[Pair]:
        """The pairs of all chosen tasks, task by task in alphabetical order, test tasks last."""
        # Where the splits are the benchmark's, nothing is drawn by origin, and millions of inputs are not searched.
        drawn = self._held_out == "examples"
        by_task: list[list[Pair]] = []
        inputs: list[list[str]] = []
        self._left_out = 0
        for skill in self._skills(examples=True):
            kept = [(text, output) for text, output in skill.examples if output.strip()]
            self._left_out += len(skill.examples) - len(kept)
            if not kept:
                raise TaskError(f"task {skill.name} in {self._path} has no example with an output; take it out")
            definition = _shortened(skill.definition, self._definition)
            pairs = [
                Pair(
                    domain=skill.labels[self._kind],
                    origin=skill.name,
                    prompt=prompt(definition, ending(text, self._input_characters)),
                    answer=output.strip(),
                    split="" if drawn or skill.held_out else "train",
                )
                for text, output in kept
            ]
            if drawn:
                by_task.append(pairs)
                inputs.append([text for text, _ in kept])
            else:
                by_task.append(_tested(pairs) if skill.held_out else thin(pairs, self._portion))
        if not drawn:
            return [pair for pairs in by_task for pair in pairs]
        found: list[Pair] = []
        for pairs, origins in zip(by_task, passages(inputs), strict=True):
            named = [replace(pair, origin=origin) for pair, origin in zip(pairs, origins, strict=True)]
            found += thin(named, self._portion)
        return divide(found, self._portions)

    def provenance(self) -> dict[str, Any]:
        """Which release and tasks were read, and how."""
        files = self._files()
        held_out = sum(held_out for _, held_out in files)
        return {
            "source": "natural-instructions",
            "release": 1 if self._first else 2,
            "tasks": len(files) - held_out,
            "test_tasks": held_out,
            "domain": self._kind,
            "definition": self._definition,
            "without_output": self._left_out,
        }


def _name(path: Path) -> str:
    return path.name.partition(".")[0]


def _source(name: str) -> str:
    """A source's name; the first release spells that of its three stray tasks in three ways."""
    return "misc" if name.lower().startswith("misc") else name


def _shortened(definition: str, wanted: Definition) -> str:
    """The definition, its own prompt (release 1) or first sentence, or nothing."""
    if wanted == "full":
        return definition
    if wanted == "none":
        return ""
    _, found, asked = definition.rpartition("Prompt:")
    return asked.strip() if found else re.split(r"(?<=[.?!])\s", definition.strip(), maxsplit=1)[0]


def _tested(pairs: Sequence[Pair]) -> list[Pair]:
    """A test task's official test examples, and as many after them for validation."""
    count = min(OFFICIAL_TESTS, (len(pairs) + 1) // 2)
    return [
        Pair(domain=pair.domain, origin=pair.origin, prompt=pair.prompt, answer=pair.answer, split=split)
        for pair, split in zip(pairs, ["test"] * count + ["validation"] * count, strict=False)
    ]


def _json(raw: bytes, file: Path) -> dict[str, Any]:
    try:
        loaded = json.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise TaskError(f"{file} is no JSON ({' '.join(str(error).split())}); take the file from its origin") from None
    if not isinstance(loaded, dict):
        raise TaskError(f"{file}: a {type(loaded).__name__}, expected an object")
    return loaded


def _first_text(entry: Mapping[str, Any], field: str, file: Path) -> str:
    """A field that the second release writes as a list of texts, older files as one text."""
    value = entry.get(field)
    value = value[0] if isinstance(value, list) and value else value
    if not isinstance(value, str) or not value.strip():
        raise TaskError(f"{file}: field {field!r} is missing or no text; take the file from {REPOSITORY}")
    return value.strip()


def _skill(path: Path, held_out: bool, *, examples: bool) -> Skill:
    """One task of the second release."""
    entry = _json(read_bytes(path), path)
    name = _name(path)
    rows: list[tuple[str, str]] = []
    instances = entry.get("Instances")
    if not isinstance(instances, list):
        raise TaskError(f"{path}: field 'Instances' is missing or no list; take the file from {REPOSITORY}")
    for number, instance in enumerate(instances if examples else ()):
        text = instance.get("input") if isinstance(instance, dict) else None
        output = instance.get("output") if isinstance(instance, dict) else None
        outputs = [output] if isinstance(output, str) else output
        if not isinstance(text, str) or not isinstance(outputs, list):
            raise TaskError(f"{path}: instance {number} needs an input and an output; take the file from {REPOSITORY}")
        rows.append((text, next((one for one in outputs if isinstance(one, str) and one.strip()), "")))
    return Skill(
        name=name,
        definition=_first_text(entry, "Definition", path),
        labels={
            "task": name,
            "category": _first_text(entry, "Categories", path),
            "source": _first_text(entry, "Source", path),
        },
        examples=rows,
        held_out=held_out,
    )
