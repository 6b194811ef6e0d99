"""How the runs that a mixer orders come about: inside its trial, or as errands that other workers do first.

A trial that may delegate and meets several runs that are not in the cache ends with :class:`OrdersPending`. The engine
has them made by idle workers, each as an *errand*: the same trial again, which goes as far as the order, makes that
one run, and ends with :class:`ErrandDone`. Then the trial is started anew and finds all of them in the cache. Nothing
but the run's key travels between processes.
"""

from __future__ import annotations

from dataclasses import dataclass

from mixers.base import RunResult


class OrdersPending(BaseException):
    """Not an error: the trial waits for these runs. A ``BaseException``, so that no mixer catches it."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        super().__init__(f"{len(keys)} runs are to be made first")
        self.keys = keys


class ErrandDone(BaseException):
    """Not an error: the run that this errand was for is in the cache, or nobody needs it any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderPolicy:
    """delegate: several missing runs are left to errands. errand: key of the one run that is to be made here."""

    delegate: bool = False
    errand: str = ""


INLINE = OrderPolicy()


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A run's result, the seconds that it took when it was made, and whether a cache answered.

    elsewhere: seconds to add to the clock that ran meanwhile, so that it shows what making the run takes: those of a
    run that was there, less those for which another process was waited for.
    """

    result: RunResult
    seconds: float
    cached: bool
    elsewhere: float
