"""Reasoning traces in the manner of s1K: questions, trajectories of thought and answers, as JSONL or parquet."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.base import SPLITS, TaskError
from tasks.cache import content_key
from tasks.sources.gsm8k import lines_of
from tasks.sources.pairs import Pair
from tasks.sources.verified import MARK, VerifiedSource, final_answer, same_answer

# Column names that are tried in this order where a field is left open. The first of each are those of s1K
# (Muennighoff et al. 2025, arXiv:2501.19393) and s1K-1.1.
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
    """Rows with a question, a trajectory, an answer and a domain; from one file, or all such files of a folder.

    What is learnt is the trajectory (of several, the first), then ``#### `` and the answer. An answer is verified by
    what follows the mark; where that holds a ``boxed`` expression, by this. A row whose field ``split`` says train,
    validation or test stays there; otherwise rows are split by question. A row without a trajectory or with an empty
    one has the answer alone.
    fields: ``question``, ``reasoning``, ``answer``, ``domain`` -> column; those left out are guessed.
    """

    def __init__(
        self, path: Path, *, fields: Mapping[str, str] | None = None, target: Mapping[str, float] | None = None
    ) -> None:
        self._fields = {role: name for role, name in (fields or {}).items() if name}
        self.target = target
        found = sorted(path.iterdir()) if path.is_dir() else [path]
        self._files = [file for file in found if file.name.endswith(SUFFIXES)]
        if not self._files:
            raise TaskError(f"{path} holds no traces; give .jsonl, .jsonl.gz or .parquet files")

    def identity(self) -> str:
        """Hash of the files as they lie on disk, and of the columns named."""
        try:
            digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in self._files]
        except OSError as error:
            raise TaskError(f"cannot read {error.filename}: {error.strerror}") from None
        return content_key("traces", 1, self._fields, digests)

    def pairs(self) -> list[Pair]:
        """One pair a row, in the order of the files' names and rows."""
        pairs = []
        for file in self._files:
            rows = _parquet(file) if file.suffix == ".parquet" else lines_of(file)
            columns = self._columns(file, rows[0][1])
            pairs += [_pair(where, row, columns) for where, row in rows]
        return pairs

    def _columns(self, file: Path, row: Mapping[str, Any]) -> dict[str, str]:
        columns = {}
        for role, guesses in GUESSES.items():
            named = self._fields.get(role)
            name = named or next((guess for guess in guesses if guess in row), None)
            if name is not None and (name in row or named is None):
                columns[role] = name
            elif named is not None or role != "reasoning":
                there = ", ".join(sorted(row))
                raise TaskError(f"{file}: no column {named or role!r} among {there}; name it with {role}_field")
        return columns

    def verify(self, pair: Pair, answer: str) -> float:
        """1 where the final answer is the right one, else 0."""
        return float(MARK in answer and same_answer(final_answer(answer), final_answer(pair.answer)))

    def provenance(self) -> dict[str, Any]:
        """The names of the files and of the columns that were named."""
        return {"source": "traces", "files": [file.name for file in self._files], "fields": self._fields}


def _pair(where: str, row: Mapping[str, Any], columns: Mapping[str, str]) -> Pair:
    texts = {role: _text(row.get(name)) for role, name in columns.items()}
    for role in ("question", "answer", "domain"):
        if not texts[role]:
            raise TaskError(f"{where}: field {columns[role]!r} is missing or empty; choose another with {role}_field")
    thought = texts.get("reasoning", "")
    split = _text(row.get("split")).lower()
    return Pair(
        domain=texts["domain"],
        origin=hashlib.sha256(texts["question"].encode()).hexdigest()[:16],
        prompt=texts["question"],
        answer=f"{thought}\n{MARK} {texts['answer']}" if thought else f"{MARK} {texts['answer']}",
        split=split if split in SPLITS else "",
    )


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


def _parquet(file: Path) -> list[tuple[str, dict[str, Any]]]:
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise TaskError(f"{file} needs pyarrow, which is not installed: pip install pyarrow") from None
    try:
        rows = parquet.read_table(file).to_pylist()
    except Exception as error:  # the library has an error class of its own for every kind of damage
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TaskError(f"{file} is not a whole parquet file ({reason}); fetch it again") from None
    if not rows:
        raise TaskError(f"{file} holds no rows")
    return [(f"{file}, row {number}", row) for number, row in enumerate(rows, start=1)]
