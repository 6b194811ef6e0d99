"""Documents, each with a domain and an origin, and how some of them are taken."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One text. ``origin`` names what it was cut from; documents of one origin always share a split."""

    domain: str
    origin: str
    text: str


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
