"""GSM8K (Cobbe et al. 2021, arXiv:2110.14168): grade-school word problems with worked solutions, as published."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.base import TaskError
from tasks.cache import content_key
from tasks.sources.pairs import Pair
from tasks.sources.records import digest, json_lines
from tasks.sources.verified import MARK, VerifiedSource, final_answer, same_answer

SPLIT_FILES = {"train": ("train.jsonl", "train.jsonl.gz"), "test": ("test.jsonl", "test.jsonl.gz")}
MOST_STEPS = 6
_CALCULATOR = re.compile(r"<<[^<>]*>>")


class Gsm8k(VerifiedSource):
    """A folder with the official ``train.jsonl`` and ``test.jsonl`` (plain or ``.gz``), or one such file.

    Lines are objects with ``question`` and ``answer``. The answer to learn is the worked solution with its final
    ``#### number``; the calculator's ``<<48/2=24>>`` marks are taken out. The data name no domain, so a problem's
    domain is the number of steps of its solution, the lines before the final number: ``2 steps`` (or fewer) to
    ``6 steps`` (or more). A folder's test file is the test split; a single file is split by line.
    An answer is verified by its final number alone.
    """

    def __init__(self, path: Path, *, target: Mapping[str, float] | None = None) -> None:
        self._path = path
        self.target = target
        if path.is_dir():
            self._files = {
                split: next((path / name for name in names if (path / name).is_file()), None)
                for split, names in SPLIT_FILES.items()
            }
            missing = [split for split, file in self._files.items() if file is None]
            if missing:
                raise TaskError(f"{path} lacks {missing[0]}.jsonl (or {missing[0]}.jsonl.gz); GSM8K comes as two files")
        else:
            self._files = {"": path}

    def identity(self) -> str:
        """Hash of the files as they lie on disk."""
        digests = {split: digest(file) for split, file in self._files.items() if file}
        return content_key("gsm8k", 1, digests)

    def pairs(self) -> list[Pair]:
        """One pair a line, in the order of the files, training first."""
        return [pair for split, file in self._files.items() if file for pair in _read(file, split)]

    def verify(self, pair: Pair, answer: str) -> float:
        """1 where the number after the last ``####`` is the right one, else 0."""
        return float(MARK in answer and same_answer(final_answer(answer), final_answer(pair.answer)))

    def provenance(self) -> dict[str, Any]:
        """The names of the files."""
        return {"source": "gsm8k", "files": [file.name for file in self._files.values() if file]}


def is_gsm8k(path: Path) -> bool:
    """Whether a folder holds files named as GSM8K's, with its fields and final mark on the first line."""
    names = [path / name for name in SPLIT_FILES["train"]] if path.is_dir() else [path]
    for file in names:
        if file.is_file() and file.name.endswith((".jsonl", ".jsonl.gz")):
            try:
                first = next(json_lines(file)).row
            except TaskError:
                return False
            return "question" in first and f"\n{MARK} " in str(first.get("answer"))
    return False


def domain_of(solution: str) -> str:
    """``2 steps`` to ``6 steps``: lines before the final number, the ends taking in what lies beyond them."""
    steps = sum(1 for line in solution.rpartition(MARK)[0].splitlines() if line.strip())
    return f"{min(max(steps, 2), MOST_STEPS)} steps"


def _read(file: Path, split: str) -> list[Pair]:
    pairs = []
    for record in json_lines(file):
        where, entry = record.where, record.row
        for name in ("question", "answer"):
            if not isinstance(entry.get(name), str) or not entry[name].strip():
                raise TaskError(f"{where}: field {name!r} is missing, empty or no string; is this GSM8K?")
        solution = _CALCULATOR.sub("", entry["answer"]).encode("utf-8", errors="replace").decode().strip()
        if f"{MARK} " not in solution:
            raise TaskError(f"{where}: the answer has no final '{MARK} number'; is this GSM8K?")
        question = entry["question"].encode("utf-8", errors="replace").decode().strip()
        origin = f"{split or 'line'} {where.rpartition(':')[2]}"
        pairs.append(Pair(domain=domain_of(solution), origin=origin, prompt=question, answer=solution, split=split))
    return pairs
