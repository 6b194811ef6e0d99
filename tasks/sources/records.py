"""Rows with named fields, from a JSONL file or elsewhere: what readers of tables stand on."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.base import TaskError
from tasks.cache import content_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One row. where: file and line, for messages. split: the one that its publisher put it in, or empty."""

    where: str
    row: Mapping[str, Any]
    split: str = ""


class Records(ABC):
    """A table of rows."""

    @abstractmethod
    def identity(self) -> str:
        """Hash of the contents; quick."""

    @abstractmethod
    def records(self) -> Iterator[Record]:
        """All rows in their published order. Raises :class:`tasks.base.TaskError`."""

    @abstractmethod
    def provenance(self) -> dict[str, Any]:
        """Where the rows came from, as JSON-able data."""


class JsonLines(Records):
    """A ``.jsonl`` or ``.jsonl.gz`` file: one JSON object a line; blank lines are left out."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def identity(self) -> str:
        """Hash of the file as it lies on disk."""
        return content_key("jsonl", hashlib.sha256(read_bytes(self._path)).hexdigest())

    def records(self) -> Iterator[Record]:
        """One record a line. A bad line is a :class:`TaskError` that names file and line."""
        yield from json_lines(self._path)

    def provenance(self) -> dict[str, Any]:
        """The file's name."""
        return {"source": "jsonl", "name": self._path.name}


def read_bytes(path: Path) -> bytes:
    """A file's bytes; raises :class:`TaskError` with the system's reason."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise TaskError(f"cannot read {path}: {error.strerror}") from None


def json_lines(path: Path) -> Iterator[Record]:
    """The objects of a JSONL file, gzipped if its name says so."""
    raw = read_bytes(path)
    if path.suffix == ".gz":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise TaskError(f"{path} is not a whole gzip file ({error}); compress it again") from None
    found = False
    for number, line in enumerate(raw.split(b"\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            row = json.loads(line.decode("utf-8-sig"))
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else "not UTF-8 or nested too deeply"
            raise TaskError(f"{where}: not a JSON object on one line ({reason})") from None
        if not isinstance(row, dict):
            raise TaskError(f"{where}: a {type(row).__name__}, expected an object with named fields")
        found = True
        yield Record(where=where, row=row)
    if not found:
        raise TaskError(f"{path} holds no lines; every line is an object with named fields")


def text_of(record: Record, field: str, setting: str = "", *, empty: bool = False) -> str:
    """A text field of a row; missing, no text or (unless ``empty``) blank, it is a :class:`TaskError`."""
    value = record.row.get(field)
    if empty and value is None:
        return ""
    if not isinstance(value, str) or not (empty or value.strip()):
        problem = "is empty or no text" if field in record.row else "is missing"
        remedy = f"; choose the field with {setting}=" if setting else ""
        raise TaskError(f"{record.where}: field {field!r} {problem}{remedy}")
    return value.encode("utf-8", errors="replace").decode()  # lone surrogates cannot be encoded
