"""What a task needs besides the package: data, a model, another package. Import it from :mod:`tasks.base`."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.network import answers


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """Something that a task needs and that may be missing: data, a model, a package.

    what: its name. found: where it lies, or an empty string where it is not there. remedy: one line that says how to
    get it and where to put it. source: the address (``https://host``) from which ``load`` or ``build_model`` gets it by
    themselves where that answers; empty where it must be put in place.
    """

    what: str
    found: str
    remedy: str
    source: str = ""

    @property
    def fetchable(self) -> bool:
        """Whether it is fetched by itself where there is a network."""
        return bool(self.source)

    def within_reach(self) -> bool:
        """Whether it is here, or its source answers from here; may take seconds."""
        return bool(self.found) or (self.fetchable and answers(self.source))
