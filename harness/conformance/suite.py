"""Finding the mixers that ``harness check`` is asked about, and running the checks on them."""

from __future__ import annotations

import inspect
import re
import time
import traceback
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.conformance.checks import BrokenError, NotApplicableError, Subject
from harness.conformance.promises import CHECKS, Check
from harness.errors import UserError, nearest
from harness.experiment import read_experiment, trials
from harness.inline import Choice, parse_choice
from harness.prepare import make
from harness.registry import Plugin, Registry, load_file

TOY_TASK = Path(__file__).parent / "toy_task.py"
Outcome = Literal["ok", "FAIL", "skip"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How one check ended. line: what is wrong and how to mend it, or why it was skipped."""

    check: str
    outcome: Outcome
    line: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All results of one mixer."""

    label: str
    origin: str
    results: tuple[Result, ...]
    seconds: float

    @property
    def failures(self) -> tuple[Result, ...]:
        """The checks that failed."""
        return tuple(result for result in self.results if result.outcome == "FAIL")

    @property
    def text(self) -> str:
        """A head line, then a line for every check that failed, and one each for those that were skipped and passed."""
        passed = [result.check for result in self.results if result.outcome == "ok"]
        verdict = f"{len(self.failures)} failed, " if self.failures else ""
        lines = [
            f"{self.label} ({self.origin}): {verdict}{len(passed)} of {len(self.results)} checks passed "
            f"in {self.seconds:.1f} s"
        ]
        lines += [f"  FAIL  {failure.check}: {failure.line}" for failure in self.failures]
        skipped: dict[str, list[str]] = {}
        for result in self.results:
            if result.outcome == "skip":
                skipped.setdefault(result.line, []).append(result.check)
        lines += [f"  skip  {', '.join(checks)}: {why}" for why, checks in skipped.items()]
        if passed:
            lines.append(f"  ok    {', '.join(passed)}")
        return "\n".join(lines)


def check(target: str | Path, files: Sequence[Path] = ()) -> Iterator[Report]:
    """Check a mixer (``rnb``, ``rnb[lam=10]``), all mixers of a file, or all that an installed package brings.

    files: plugins that the target may come from. Raises :class:`UserError` before any check where there is no such
    mixer, or a file or a package does not import.
    """
    registry, choices = _found(str(target), files)
    subjects = [(choice, _subject(registry, choice)) for choice in choices]
    for choice, subject in subjects:
        begin = time.perf_counter()
        results = _run(subject)
        yield Report(
            label=choice.label,
            origin=registry.get("mixers", choice.name).origin,
            results=results,
            seconds=time.perf_counter() - begin,
        )


def _found(target: str, files: Sequence[Path]) -> tuple[Registry, list[Choice]]:
    if target.endswith(".py"):
        registry = Registry([*files, Path(target), TOY_TASK])
        return registry, [Choice(name=plugin.name) for plugin in _of_file(registry, Path(target))]
    if "/" in target and "[" not in target:
        folder = Path(target).is_dir()
        raise UserError(f"{target}: {'is a folder; name its files' if folder else 'is no Python file, NAME.py'}")
    registry = Registry([*files, TOY_TASK])
    choice = parse_choice(target)
    known = registry.all("mixers")
    if choice.name in known:
        return registry, [choice]
    packages = _packages(known.values())
    found = packages.get(_normal(choice.name))
    if not found:
        names = [*known, *packages]
        raise UserError(f"no mixer, file or package with mixers is named {choice.name!r}{nearest(choice.name, names)}")
    if choice.params:
        raise UserError(f"{target}: a package takes no parameters; name one of its mixers")
    return registry, [Choice(name=plugin.name) for plugin in found]


def _of_file(registry: Registry, path: Path) -> list[Plugin]:
    if not path.is_file():
        raise UserError(f"{path}: {'is a folder; name its files' if path.is_dir() else 'no such file'}")
    try:
        load_file(path)
    except (Exception, SystemExit) as error:
        line = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UserError(f"{path} does not import: {line}") from None
    found = [plugin for plugin in registry.all("mixers").values() if plugin.origin == f"file {path}"]
    if not found:
        raise UserError(
            f"{path} holds no mixer: write a subclass of mixers.base.Mixer with a name of its own and a start()"
        )
    return found


def _normal(name: str) -> str:
    """The name of a distribution as installers compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _packages(plugins: Iterable[Plugin]) -> dict[str, list[Plugin]]:
    """Mixers by the distribution that brings them, and by the package that holds them."""
    found: dict[str, list[Plugin]] = {}
    for plugin in plugins:
        if plugin.origin.startswith("package "):
            names = {_normal(plugin.origin.split(" ")[1])}
            if plugin.cls is not None:
                names.add(_normal(plugin.cls.__module__.split(".")[0]))
            for name in names:
                found.setdefault(name, []).append(plugin)
    return found


def _subject(registry: Registry, choice: Choice) -> Subject:
    flags = {"tasks": ["toy"], "mixers": [{choice.name: dict(choice.params)}], "seeds": 1, "device": "cpu"}
    (spec,) = trials(read_experiment(None, flags), registry)
    return Subject(make=lambda: make(registry, "mixers", spec.mixer), spec=spec, registry=registry)


def _run(subject: Subject) -> tuple[Result, ...]:
    results: dict[str, Result] = {}
    for name, item in CHECKS.items():
        blocked = [other for other in item.after if other in results and results[other].outcome == "FAIL"]
        if blocked:
            results[name] = Result(check=name, outcome="skip", line=f"nothing to learn until {blocked[0]} passes")
        else:
            results[name] = _one(item, subject)
    return tuple(results.values())


def _one(item: Check, subject: Subject) -> Result:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a NaN is reported as what it leads to
            item.run(subject)
    except NotApplicableError as reason:
        return Result(check=item.name, outcome="skip", line=str(reason))
    except BrokenError as error:
        line = str(error)
        cause = error.__cause__
        where = _where(cause, subject) if cause is not None else ""
        return Result(check=item.name, outcome="FAIL", line=_one_line(where + line))
    except (Exception, SystemExit) as error:  # a mixer may raise anything
        line = f"{type(error).__name__}: {error}; {item.mend}"
        return Result(check=item.name, outcome="FAIL", line=_one_line(_where(error, subject) + line))
    return Result(check=item.name, outcome="ok")


def _where(error: BaseException, subject: Subject) -> str:
    """``file.py:31: ``, the last line of the mixer's own file that the error passed through, if any."""
    try:
        file = inspect.getfile(type(subject.make()))
    except (TypeError, OSError):
        return ""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f"{Path(file).name}:{lines[-1]}: " if lines else ""


def _one_line(text: str) -> str:
    return " ".join(text.split())
