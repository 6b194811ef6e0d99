"""Reasoning traces in the manner of s1K: questions, trajectories of thought and answers, as JSONL or parquet."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tasks.base import SPLITS, TaskError
from tasks.cache import content_key
from tasks.sources.instructions import divide, thin
from tasks.sources.pairs import Pair
from tasks.sources.records import JsonLines, Parquet, Record, Records
from tasks.sources.split import PORTIONS
from tasks.sources.verified import MARK, VerifiedSource, final_answer, same_answer

# Column names that are tried in this order where a field is left open: those of s1K and S1-59K (Muennighoff et al.
# 2025, arXiv:2501.19393), of s1K-1.1, which has two models' traces, and common ones.
GUESSES = {
    "question": ("question", "problem", "prompt"),
    "reasoning": (
        "deepseek_thinking_trajectory",
        "thinking_trajectories",
        "thinking_trajectory",
        "gemini_thinking_trajectory",
        "reasoning",
        "thinking",
        "trajectory",
    ),
    "answer": ("answer", "solution", "deepseek_attempt", "attempt", "gemini_attempt"),
    "domain": ("domain", "cot_type", "source_type", "subject", "category"),
}
SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")


class Traces(VerifiedSource):
    """Rows with a question, a trajectory, an answer and a domain; one file, all such files below a folder, or a table.

    What is learnt is the trajectory (of several, the first), then ``#### `` and the answer. An answer is verified by
    what follows the mark; where that holds a ``boxed`` expression, by this. A row without a trajectory or with an empty
    one has the answer alone; a row without an answer is left out. A row whose field ``split`` says train, validation
    or test stays there; other rows are split by question, in these portions of every domain. A domain of fewer than
    three questions that no other domain has cannot be in three splits: it is trained on and not judged.

    fields: ``question``, ``reasoning``, ``answer``, ``domain`` -> column; those left out are guessed. settings: the
    same -> what the user calls the choice of this column, for messages.
    """

    def __init__(
        self,
        rows: Path | Records,
        *,
        fields: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
        target: Mapping[str, float] | None = None,
        portions: Sequence[float] = tuple(PORTIONS.values()),
        portion: float = 1.0,
    ) -> None:
        self._fields = {role: name for role, name in (fields or {}).items() if name}
        self._settings = {role: f"{role}_field" for role in GUESSES} | dict(settings or {})
        self.target = target
        self._portions = tuple(portions)
        self._portion = portion
        self._tables = [rows] if isinstance(rows, Records) else _tables(rows)
        self._without_answer = 0
        self._train_only: dict[str, int] = {}

    def identity(self) -> str:
        """Hash of the rows, of the columns named and of the split."""
        tables = [table.identity() for table in self._tables]
        return content_key("traces", 2, self._fields, tables, self._portions, self._portion)

    def pairs(self) -> list[Pair]:
        """One pair a row that has an answer, in the order of the files' names and rows."""
        found: list[Pair] = []
        self._without_answer = 0
        for table in self._tables:
            columns = self._columns(table)
            for record in table.records({*columns.values(), "split"}):
                pair = self._pair(record, columns)
                if pair is None:
                    self._without_answer += 1
                else:
                    found.append(pair)
        if not found:
            raise TaskError(f"{self._tables[0].name}: no row has an answer; choose {self._settings['answer']}")
        kept = thin(found, self._portion)
        small = _small(kept)
        self._train_only = {domain: sum(pair.domain == domain for pair in kept) for domain in small}
        fixed = {pair.origin for pair in kept if pair.domain in small and not pair.split}
        kept = [replace(pair, split="train") if pair.origin in fixed and not pair.split else pair for pair in kept]
        return divide(kept, self._portions)

    def _columns(self, table: Records) -> dict[str, str]:
        columns = {}
        there = table.names()
        for role, guesses in GUESSES.items():
            named = self._fields.get(role)
            name = named or next((guess for guess in guesses if guess in there), None)
            if name is not None and name in there:
                columns[role] = name
            elif named is not None or role != "reasoning":
                names, setting = ", ".join(sorted(there)), self._settings[role]
                raise TaskError(f"{table.name}: no column {named or role!r} among {names}; name it with {setting}")
        return columns

    def _pair(self, record: Record, columns: Mapping[str, str]) -> Pair | None:
        texts = {role: _text(record.row.get(name)) for role, name in columns.items()}
        for role in ("question", "domain"):
            if not texts[role]:
                problem = f"field {columns[role]!r} is missing or empty"
                raise TaskError(f"{record.where}: {problem}; choose another with {self._settings[role]}")
        if not texts["answer"]:
            return None
        split = record.split or _text(record.row.get("split")).lower()
        return Pair(
            domain=texts["domain"],
            origin=hashlib.sha256(texts["question"].encode()).hexdigest()[:16],
            prompt=texts["question"],
            answer=_worked(texts.get("reasoning", ""), texts["answer"]),
            split=split if split in SPLITS else "",
        )

    def verify(self, pair: Pair, answer: str) -> float:
        """1 where the final answer is the right one, else 0."""
        return float(MARK in answer and same_answer(final_answer(answer), final_answer(pair.answer)))

    def provenance(self) -> dict[str, Any]:
        """Which tables were read, the columns named, rows without an answer, and what domains are not judged."""
        tables = [table.provenance() for table in self._tables]
        return {
            "source": "traces",
            "files": [table["name"] for table in tables],
            "fields": self._fields,
            "split": list(self._portions),
            "without_answer": self._without_answer,
            "train_only": self._train_only,
        }


def _tables(path: Path) -> list[Records]:
    """The files of a folder, of whatever depth: a copy of a data set keeps them in ``data/``."""
    found = sorted(path.rglob("*")) if path.is_dir() else [path]
    hidden = {".cache", ".git"}  # where the tools that fetch data sets keep their notes
    seen = [file for file in found if not hidden & set(file.relative_to(path).parts)]
    files = [file for file in seen if file.name.endswith(SUFFIXES)]
    if not files:
        raise TaskError(f"{path} holds no traces; give .jsonl, .jsonl.gz or .parquet files")
    return [Parquet(file) if file.suffix == ".parquet" else JsonLines(file) for file in files]


def _small(pairs: Sequence[Pair]) -> list[str]:
    """Domains with fewer than three undecided questions of their own, where any of its questions is undecided."""
    domains: dict[str, set[str]] = {}  # question -> its domains
    for pair in pairs:
        if not pair.split:
            domains.setdefault(pair.origin, set()).add(pair.domain)
    own = {domain: 0 for among in domains.values() for domain in among}
    for among in domains.values():
        if len(among) == 1:
            own[next(iter(among))] += 1
    return sorted(domain for domain, count in own.items() if count < len(SPLITS))


def _worked(thought: str, reference: str) -> str:
    """Trajectory, mark and answer. The mark comes once: in the reference it is a heading, or the solution's own."""
    head, marked, final = reference.rpartition(MARK)
    if marked and final.strip() and "\n" not in final.strip() and "\\boxed" not in reference:
        thought, reference = "\n".join(part for part in (thought, head.strip()) if part), final.strip()
    reference = re.sub(f"{MARK}#*[ \t]*", "", reference).strip()
    return f"{thought}\n{MARK} {reference}" if thought else f"{MARK} {reference}"


def _text(value: Any) -> str:
    """A cell as text: of a list the first, of other things their JSON, of nothing an empty string."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        value = value[0] if value else None
    if value is None:
        return ""
    if not isinstance(value, str):
        value = json.dumps(value, default=str)
    return value.encode("utf-8", errors="replace").decode().strip()
