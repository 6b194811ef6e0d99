"""A user's JSONL file, plain or gzipped: one document a line."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.base import TaskError
from tasks.cache import content_key
from tasks.sources.base import Source
from tasks.sources.documents import Document, take_portion


class Jsonl(Source):
    """Every line is an object with a text and a domain; lines that share the optional origin share a split.

    Blank lines are left out. Any other bad line is a :class:`TaskError` that names file and line.
    """

    def __init__(
        self,
        path: Path,
        *,
        text_field: str = "text",
        domain_field: str = "domain",
        origin_field: str = "origin",
        target: Mapping[str, float] | None = None,
        portion: float = 1.0,
    ) -> None:
        self._path = path
        self._fields = (text_field, domain_field, origin_field)
        self._portion = portion
        self.target = target

    def identity(self) -> str:
        """Hash of the file as it lies on disk, and of the field names."""
        return content_key("jsonl", 1, self._portion, self._fields, hashlib.sha256(self._raw()).hexdigest())

    def _raw(self) -> bytes:
        try:
            return self._path.read_bytes()
        except OSError as error:
            raise TaskError(f"cannot read {self._path}: {error.strerror}") from None

    def documents(self) -> list[Document]:
        """One document a line, in the order of the file."""
        raw = self._raw()
        if self._path.suffix == ".gz":
            try:
                raw = gzip.decompress(raw)
            except (OSError, EOFError, zlib.error) as error:
                raise TaskError(f"{self._path} is not a whole gzip file ({error}); compress it again") from None
        documents = []
        for number, line in enumerate(raw.split(b"\n"), start=1):
            if line.strip():
                documents.append(self._document(line, number))
        if not documents:
            raise TaskError(f"{self._path} holds no lines; every line is an object with a text and a domain")
        return take_portion(documents, self._portion)

    def _document(self, line: bytes, number: int) -> Document:
        text_field, domain_field, origin_field = self._fields
        where = f"{self._path}:{number}"
        try:
            entry = json.loads(line.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            reason = (
                error.msg
                if isinstance(error, json.JSONDecodeError)
                else "not UTF-8, nested too deeply, or a number too long"
            )
            raise TaskError(f"{where}: not a JSON object on one line ({reason})") from None
        if not isinstance(entry, dict):
            raise TaskError(f"{where}: a {type(entry).__name__}, expected an object with {text_field!r}")
        for name, setting in ((text_field, "text_field"), (domain_field, "domain_field")):
            value = entry.get(name)
            if not isinstance(value, str) or not value.strip():
                problem = "is empty or no string" if name in entry else "is missing"
                raise TaskError(f"{where}: field {name!r} {problem}; fields are chosen with {setting}")
        origin = entry.get(origin_field)
        if origin is None:
            origin = f"line {number:09d}"
        if not isinstance(origin, str | int):
            raise TaskError(f"{where}: field {origin_field!r} must be a string or a whole number")
        text = entry[text_field].encode("utf-8", errors="replace").decode()  # lone surrogates cannot be encoded
        return Document(domain=entry[domain_field], origin=str(origin), text=text)

    def provenance(self) -> dict[str, Any]:
        """The file's name and the fields that were read."""
        return {"source": "jsonl", "name": self._path.name, "fields": list(self._fields)}
