"""What every reader of text is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.sources.documents import Document
from tasks.sources.split import split_origins


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
        return split_origins(documents)

    @abstractmethod
    def provenance(self) -> dict[str, Any]:
        """Where the text came from, as JSON-able data."""
