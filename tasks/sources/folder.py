"""A user's folder: each subfolder is a domain, each text file in it an origin."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.base import TaskError
from tasks.cache import content_key
from tasks.sources.base import Source
from tasks.sources.documents import Document, take_portion
from tasks.sources.packages import digest

ENOUGH = 10  # files from which on a domain's files are left whole
SECTIONS = 20


class Folder(Source):
    """Domains are the immediate subfolders; files below them, at any depth, are read as UTF-8.

    Files and folders whose name starts with a dot are left out, and so are files that are not text; the number of the
    latter is in the provenance. Where a domain has fewer than ten files, each is cut at blank lines (line ends, if
    there are none) into about twenty sections, which then count as origins: otherwise one large file could not be in
    three splits.
    """

    def __init__(self, path: Path, *, target: Mapping[str, float] | None = None, portion: float = 1.0) -> None:
        self._path = path
        self._portion = portion
        self.target = target
        self._skipped = 0
        self._cut: set[str] = set()
        if not path.is_dir():
            raise TaskError(f"{path} is not a folder; give a folder with one subfolder a domain, or a .jsonl file")

    def _files(self) -> list[tuple[str, Path]]:
        found = []
        for path in self._path.rglob("*"):
            name = path.relative_to(self._path)
            if len(name.parts) > 1 and not any(part.startswith(".") for part in name.parts) and path.is_file():
                found.append((name.as_posix(), path))
        if not found:
            raise TaskError(f"{self._path} holds no files in subfolders; put the texts of each domain in its own one")
        return sorted(found)

    def identity(self) -> str:
        """Hash of all files' names and contents."""
        return content_key(
            "folder", 1, self._portion, digest(self._files(), "make it readable, or move it out of the corpus")
        )

    def documents(self) -> list[Document]:
        """One document a file, or several sections of it."""
        by_domain: dict[str, list[tuple[str, str]]] = {}
        self._skipped = 0
        self._cut.clear()
        for name, path in self._files():
            text = _decode(path.read_bytes())
            if text is None:
                self._skipped += 1
            elif text.strip():
                by_domain.setdefault(name.split("/")[0], []).append((name, text))
        if not by_domain:
            raise TaskError(f"no file under {self._path} is UTF-8 text; convert them to UTF-8")
        documents = []
        for domain, members in sorted(by_domain.items()):
            for name, text in members:
                parts = [text] if len(members) >= ENOUGH else _sections(text)
                if len(parts) > 1:
                    self._cut.add(domain)
                for position, part in enumerate(parts):
                    origin = name if len(parts) == 1 else f"{name}#{position:02d}"
                    documents.append(Document(domain=domain, origin=origin, text=part))
        return take_portion(documents, self._portion)

    def provenance(self) -> dict[str, Any]:
        """The folder's name, how many of its files were not text, and which domains were cut into sections."""
        return {
            "source": "folder",
            "name": self._path.resolve().name,
            "not_text": self._skipped,
            "cut_into_sections": sorted(self._cut),
        }


def _decode(raw: bytes) -> str | None:
    if b"\0" in raw:
        return None
    try:
        return raw.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError:
        return None


def _sections(text: str) -> list[str]:
    """About twenty runs of whole paragraphs (whole lines, where there are few paragraphs) of similar length."""
    separator = "\n\n" if text.count("\n\n") >= SECTIONS else "\n"
    length = max(len(text) // SECTIONS, 1)
    parts: list[str] = []
    run: list[str] = []
    size = 0
    for piece in text.split(separator):
        run.append(piece)
        size += len(piece)
        if size >= length:
            parts.append(separator.join(run))
            run, size = [], 0
    parts += [separator.join(run)] if run else []
    return [part for part in parts if part.strip()]
