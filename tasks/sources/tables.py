"""Tables of training runs that others made: per run a mixture, a size of model, losses, a cost."""

from __future__ import annotations

import csv
import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from tasks.base import FloatArray, IntArray, Size, TaskError
from tasks.cache import content_key

ROUNDING = 0.005  # sums of proportions that were rounded to three digits
LOOSE = 0.02  # how far a sum may be from one
_COUNT = re.compile(r"^(\d+(?:\.\d+)?)\s*([kmbt]?)$", re.IGNORECASE)
_POWERS = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One run as a file holds it. where: file and line. shares: by domain, as written. losses: by target, NaN where
    empty. cost: FLOPs, NaN where the file has none."""

    run: str
    where: str
    shares: Mapping[str, float]
    losses: Mapping[str, float]
    size: str
    split: str = ""
    cost: float = math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Published runs.

    domains: the m training domains. targets: the n names that losses are reported on, a list of their own. sizes:
    ascending in parameters. size: [r] index into them. mixtures: [r, m], sum to one. losses: [r, n], NaN where empty.
    costs: [r] FLOPs of each run. splits, runs: [r] names, of no influence. cost_rule: what a cost is, in words. notes:
    what was done to the data.
    """

    domains: tuple[str, ...]
    targets: tuple[str, ...]
    sizes: tuple[Size, ...]
    size: IntArray
    mixtures: FloatArray
    losses: FloatArray
    costs: FloatArray
    splits: tuple[str, ...]
    runs: tuple[str, ...]
    cost_rule: str
    notes: tuple[str, ...] = ()

    def fingerprint(self) -> str:
        """Hash of everything that an outcome depends on."""
        arrays = [self.size, self.mixtures, self.losses, self.costs]
        digest = hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()
        sizes = [[size.name, size.parameters, size.tokens] for size in self.sizes]
        return f"sha256:{content_key('table', 1, self.domains, self.targets, sizes, digest)}"

    def cost(self, size: int) -> float:
        """FLOPs of one run at a size: the mean over its rows."""
        return float(self.costs[self.size == size].mean())


def count_of(text: str) -> float:
    """``60m`` as 6e7; 0 where the text is no number of parameters."""
    found = _COUNT.match(text.strip())
    return float(found[1]) * _POWERS[found[2].lower()] if found else 0.0


def table_of(
    entries: Sequence[Entry],
    *,
    parameters: Mapping[str, float] | None = None,
    tokens: float | Mapping[str, float] | None = None,
    known_tokens: Mapping[str, float] | None = None,
    notes: Sequence[str] = (),
) -> Table:
    """The table that these runs make; :class:`TaskError` in one line where a run or a size is not as it should be.

    Domains and targets stand in the order of the first entry. parameters: by size, where its name does not say.
    tokens: of one run, for all sizes or by size; known_tokens: what the reader knows of its sizes, where the user says
    nothing.
    """
    domains, targets = tuple(entries[0].shares), tuple(entries[0].losses)
    for entry in entries:
        for what, ours, first in (("domains", entry.shares, domains), ("losses", entry.losses, targets)):
            if differing := sorted(set(ours) ^ set(first)):
                raise TaskError(
                    f"{entry.where}: its {what} differ from those of {entries[0].where} in {differing[0]!r}; files of "
                    "one table name the same ones"
                )
    shares = np.array([[entry.shares[name] for name in domains] for entry in entries], dtype=np.float64)
    sums = shares.sum(axis=1)
    for entry, row, total in zip(entries, shares, sums, strict=True):
        if not np.all(np.isfinite(row)) or row.min() < 0:
            raise TaskError(f"{entry.where}: run {entry.run} has a proportion that is negative or no number; mend it")
        if abs(total - 1) > LOOSE:
            raise TaskError(
                f"{entry.where}: the proportions of run {entry.run} sum to {total:.4g}; they must sum to 1 (within "
                f"{LOOSE:.0%} they are normalised): mend the row or leave it out"
            )
    loose = [i for i in np.argsort(-np.abs(sums - 1), kind="stable") if abs(sums[i] - 1) > ROUNDING]
    noted = [f"{len(loose)} runs normalised, the farthest off {entries[i].run} with {sums[i]:.4f}" for i in loose[:1]]
    names = tuple(dict.fromkeys(entry.size for entry in entries))
    sizes = _sizes(names, parameters or {}, tokens, known_tokens or {})
    order = {size.name: i for i, size in enumerate(sizes)}
    size = np.array([order[entry.size] for entry in entries], dtype=np.int64)
    costs, rule = _costs(entries, sizes, size)
    return Table(
        domains=domains,
        targets=targets,
        sizes=sizes,
        size=size,
        mixtures=shares / sums[:, None],
        losses=np.array([[entry.losses[name] for name in targets] for entry in entries], dtype=np.float64),
        costs=costs,
        splits=tuple(entry.split for entry in entries),
        runs=tuple(entry.run for entry in entries),
        cost_rule=rule,
        notes=(*notes, *noted),
    )


def _sizes(
    names: Sequence[str],
    parameters: Mapping[str, float],
    tokens: float | Mapping[str, float] | None,
    known: Mapping[str, float],
) -> tuple[Size, ...]:
    """Sizes in ascending order of their parameters."""
    for setting, given in (("parameters", parameters), ("tokens", tokens if isinstance(tokens, Mapping) else {})):
        unknown = sorted(set(given) - set(names))
        if unknown:
            raise TaskError(f"{setting} names size {unknown[0]!r}, which the table lacks; it has {', '.join(names)}")
    found = []
    for name in names:
        count = parameters.get(name, count_of(name))
        if count <= 0 and len(names) > 1:
            raise TaskError(f"size {name!r} says no number of parameters; give it as parameters={{{name}: 1e6, ...}}")
        own = tokens.get(name, 0.0) if isinstance(tokens, Mapping) else tokens
        found.append(Size(name=name, parameters=count, tokens=own if own else known.get(name, 0.0)))
    found.sort(key=lambda size: (size.parameters, size.name))
    for one, other in pairwise(found):
        if one.parameters == other.parameters:
            raise TaskError(
                f"sizes {one.name!r} and {other.name!r} have {one.parameters:.4g} parameters both, by which runs "
                "are ordered; write one name, or tell them apart with parameters={...}"
            )
    return tuple(found)


def _costs(entries: Sequence[Entry], sizes: Sequence[Size], size: IntArray) -> tuple[FloatArray, str]:
    """[r] FLOPs of each run, and what they are."""
    written = np.array([entry.cost for entry in entries], dtype=np.float64)
    if np.all(np.isfinite(written)):
        return written, "FLOPs as in the table's column cost"
    if np.any(np.isfinite(written)):
        lacking = entries[int(np.flatnonzero(~np.isfinite(written))[0])]
        raise TaskError(f"{lacking.where}: run {lacking.run} has no cost, others have; fill the column or drop it")
    if all(one.parameters and one.tokens for one in sizes):
        return np.array([6 * sizes[i].parameters * sizes[i].tokens for i in size]), "6 N D"
    if all(one.parameters for one in sizes):
        return np.array(
            [6 * sizes[i].parameters for i in size]
        ), "6 N: tokens are not known, runs count as equally long"
    return np.ones(len(entries)), "runs counted: neither parameters nor tokens are known"


def lines(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """(file and line, cells by column) of a CSV file with a header; blank lines are left out.

    The cells of the header are stripped of blanks and differ. Raises :class:`TaskError`.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise TaskError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise TaskError(f"{path} is not UTF-8 text; save it as CSV in UTF-8") from None
    reader = csv.reader(text.splitlines())
    try:
        header = [cell.strip() for cell in next(reader, [])]
        twice = sorted({name for name in header if header.count(name) > 1})
        if len(header) < 2 or twice:
            what = f"has column {twice[0]!r} twice" if twice else "has no header with columns, separated by commas"
            raise TaskError(f"{path}:1: {what}; mend the first line")
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            where = f"{path}:{reader.line_num}"
            if len(cells) != len(header):
                raise TaskError(f"{where}: {len(cells)} cells, the header has {len(header)}; mend the line")
            yield where, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise TaskError(f"{path}:{reader.line_num}: not a CSV line ({error}); mend it") from None


def number(cells: Mapping[str, str], column: str, where: str, *, empty: bool = False) -> float:
    """A finite number from a cell; NaN for an empty one where ``empty`` allows that."""
    text = cells[column].strip()
    if empty and text.lower() in ("", "nan"):
        return math.nan
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        hint = "write a number, or leave it empty" if empty else "write a number"
        raise TaskError(f"{where}: column {column!r} holds {text!r}; {hint}")
    return value


def named(cells: Sequence[str], prefix: str, suffix: str = "") -> dict[str, str]:
    """Column -> name of the columns that begin and end so."""
    return {
        column: column[len(prefix) : len(column) - len(suffix)]
        for column in cells
        if column.startswith(prefix) and column.endswith(suffix) and len(column) > len(prefix) + len(suffix)
    }
