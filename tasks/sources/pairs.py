"""What every reader of questions and answers gives: pairs, each with a domain and an origin."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.base import Requirement


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A prompt and the answer to learn; the loss falls on the answer alone.

    origin: what the pair was made from; pairs of one origin share a split. split: ``train``, ``validation`` or
    ``test`` where the source says so itself, or empty, and then it is drawn by origin. about: what a verifier needs,
    as JSON-able data; most sources have none.
    """

    domain: str
    origin: str
    prompt: str
    answer: str
    split: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)


class PairSource(ABC):
    """A reader of pairs. ``target`` maps domain to target share; ``None``: shares of the evaluation data."""

    target: Mapping[str, float] | None = None

    def requirements(self) -> Sequence[Requirement]:
        """What this reader needs beyond the package itself, and what of it is there; quick, reads no data."""
        return ()

    @abstractmethod
    def identity(self) -> str:
        """Hash of the raw contents and of whatever else decides what :meth:`pairs` returns; quick."""

    @abstractmethod
    def pairs(self) -> list[Pair]:
        """All pairs in an order that depends on the contents alone. Raises :class:`tasks.base.TaskError`."""

    @abstractmethod
    def provenance(self) -> dict[str, Any]:
        """Where the pairs came from, as JSON-able data."""
