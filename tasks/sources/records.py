"""Rows with named fields, from a JSONL file or elsewhere: what readers of tables stand on."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
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
    """A table of rows. ``name``: what messages about the whole of it call it."""

    name: str

    @abstractmethod
    def identity(self) -> str:
        """Hash of the contents; quick."""

    @abstractmethod
    def records(self, fields: Collection[str] | None = None) -> Iterator[Record]:
        """All rows in their published order, with at least these fields of them, where they have them.

        Raises :class:`tasks.base.TaskError`.
        """

    @abstractmethod
    def provenance(self) -> dict[str, Any]:
        """Where the rows came from, as JSON-able data."""

    def names(self) -> list[str]:
        """The fields of the first row."""
        return list(next(self.records()).row)


class JsonLines(Records):
    """A ``.jsonl`` or ``.jsonl.gz`` file: one JSON object a line; blank lines are left out."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = str(path)

    def identity(self) -> str:
        """Hash of the file as it lies on disk."""
        return content_key("jsonl", digest(self._path))

    def records(self, fields: Collection[str] | None = None) -> Iterator[Record]:
        """One record a line. A bad line is a :class:`TaskError` that names file and line."""
        yield from json_lines(self._path)

    def provenance(self) -> dict[str, Any]:
        """The file's name."""
        return {"source": "jsonl", "name": self._path.name}


class Parquet(Records):
    """A ``.parquet`` file, of which only the fields asked for are read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = str(path)

    def identity(self) -> str:
        """Hash of the file as it lies on disk."""
        return content_key("parquet", digest(self._path))

    def names(self) -> list[str]:
        """The table's columns."""
        return list(self._open().schema_arrow.names)

    def records(self, fields: Collection[str] | None = None) -> Iterator[Record]:
        """One record a row; a damaged file is a :class:`TaskError`."""
        file = self._open()
        if not file.metadata.num_rows:
            raise TaskError(f"{self._path} holds no rows")
        columns = [name for name in file.schema_arrow.names if fields is None or name in fields]
        batches = file.iter_batches(batch_size=1024, columns=columns)
        number = 0
        while True:
            try:
                rows = next(batches).to_pylist()
            except StopIteration:
                return
            except Exception as error:
                raise self._damaged(error) from None
            for row in rows:
                number += 1
                yield Record(where=f"{self._path}, row {number}", row=row)

    def provenance(self) -> dict[str, Any]:
        """The file's name."""
        return {"source": "parquet", "name": self._path.name}

    def _open(self) -> Any:
        try:
            import pyarrow.parquet as parquet
        except ImportError:
            raise TaskError(f"{self._path} needs pyarrow, which is not installed: pip install pyarrow") from None
        try:
            return parquet.ParquetFile(self._path)
        except Exception as error:
            raise self._damaged(error) from None

    def _damaged(self, error: Exception) -> TaskError:
        """The library has an error class of its own for every kind of damage."""
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return TaskError(f"{self._path} is not a whole parquet file ({reason}); fetch it again")


def read_bytes(path: Path) -> bytes:
    """A file's bytes; raises :class:`TaskError` with the system's reason."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise TaskError(f"cannot read {path}: {error.strerror}") from None


def digest(path: Path) -> str:
    """SHA-256 of a file, which need not fit into memory."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise TaskError(f"cannot read {path}: {error.strerror}") from None


def json_lines(path: Path) -> Iterator[Record]:
    """The objects of a JSONL file, gzipped if its name says so, read line by line."""
    found = False
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            row = json.loads(line.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            reason = (
                error.msg
                if isinstance(error, json.JSONDecodeError)
                else "not UTF-8, nested too deeply, or a number too long"
            )
            raise TaskError(f"{where}: not a JSON object on one line ({reason})") from None
        if not isinstance(row, dict):
            raise TaskError(f"{where}: a {type(row).__name__}, expected an object with named fields")
        found = True
        yield Record(where=where, row=row)
    if not found:
        raise TaskError(f"{path} holds no lines; every line is an object with named fields")


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield from file
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise TaskError(f"{path} is not a whole gzip file ({error}); compress it again") from None
    except OSError as error:
        raise TaskError(f"cannot read {path}: {error.strerror}") from None


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
