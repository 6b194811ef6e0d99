"""What every reader of text gives: documents, each with a domain and an origin."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One text. ``origin`` names what it was cut from; documents of one origin always share a split."""

    domain: str
    origin: str
    text: str


class Source(ABC):
    """A reader of documents. ``target`` maps domain to target share; ``None`` means the train shares."""

    target: Mapping[str, float] | None = None
    untested: frozenset[str] = frozenset()  # domains that have no text in the test split

    @abstractmethod
    def identity(self) -> str:
        """Hash of the raw contents and of whatever else decides what :meth:`documents` returns; quick."""

    @abstractmethod
    def documents(self) -> list[Document]:
        """All documents in an order that depends on the contents alone. Raises :class:`tasks.base.TaskError`."""

    def split(self, documents: Sequence[Document]) -> dict[str, str]:
        """Origin -> split, of documents without duplicates. Raises :class:`tasks.base.TaskError`."""
        from tasks.sources.split import split_origins

        return split_origins(documents)

    @abstractmethod
    def provenance(self) -> dict[str, Any]:
        """Where the text came from, as JSON-able data."""


def stable_rank(text: str) -> str:
    """A key that sorts strings in an arbitrary order, the same on every machine and in every process."""
    return hashlib.sha256(text.encode()).hexdigest()


def take_origins(documents: Iterable[Document], limit: float) -> list[Document]:
    """Whole origins of one domain in stable random order until ``limit`` bytes are reached; sorted by origin."""
    groups: dict[str, list[Document]] = {}
    for document in documents:
        groups.setdefault(document.origin, []).append(document)
    chosen: set[str] = set()
    size = 0
    for origin in sorted(groups, key=stable_rank):
        if size >= limit:
            break
        chosen.add(origin)
        size += sum(len(document.text.encode()) for document in groups[origin])
    return [document for origin in sorted(chosen) for document in groups[origin]]


def take_portion(documents: Sequence[Document], portion: float) -> list[Document]:
    """The given share of every domain's bytes, by whole origins; domains in alphabetical order."""
    by_domain: dict[str, list[Document]] = {}
    for document in documents:
        by_domain.setdefault(document.domain, []).append(document)
    kept: list[Document] = []
    for domain in sorted(by_domain):
        members = by_domain[domain]
        total = sum(len(document.text.encode()) for document in members)
        kept += take_origins(members, portion * total) if portion < 1 else members
    return kept
