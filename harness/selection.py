"""Picking rows by what they say of themselves, for commands that want one trial or one cell."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.errors import UserError, nearest
from harness.leaderboard.rows import Row

ROLES = ("task", "partition", "mixer")
_SHOWN = 12  # values that a message lists before it breaks off


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which rows are asked for; ``None`` matches every row.

    task, partition, mixer: the label as the tables show it (``rnb[lam=10]``) or, where no label is equal, the name.
    """

    id: str | None = None
    task: str | None = None
    partition: str | None = None
    mixer: str | None = None
    seed: int | None = None


def one_row(rows: Sequence[Row], wanted: Wanted, where: str) -> Row:
    """The only row that matches; :class:`UserError` where none does, or several, naming what tells them apart."""
    found = matching(rows, wanted, where)
    if len(found) == 1:
        return found[0]
    hint = " (or --mean for the mean over the seeds)" if len({_cell(row) for row in found}) == 1 else ""
    raise UserError(f"{where}: {len(found)} rows match; choose by {_apart(found)}{hint}")


def one_cell(rows: Sequence[Row], wanted: Wanted, where: str) -> list[Row]:
    """The rows of the only cell that matches, by seed: one task, partition, mixer and budget, all its seeds.

    An id stands for the cell of its row.
    """
    if wanted.seed is not None:
        raise UserError("--mean is over all seeds of a cell: leave --seed out, or --mean")
    found = matching(rows, wanted, where)
    cells = {_cell(row): row for row in found}
    if len(cells) > 1:
        apart = _apart(list(cells.values()), seeds=False)
        raise UserError(f"{where}: rows of {len(cells)} cells match and --mean is over one; choose by {apart}")
    (cell,) = cells
    return sorted((row for row in rows if _cell(row) == cell), key=lambda row: int(row["spec"]["seed"]))


def matching(rows: Sequence[Row], wanted: Wanted, where: str) -> list[Row]:
    """All rows that match, at least one; :class:`UserError` with the nearest valid value where none does."""
    if not rows:
        raise UserError(f"{where}: holds no row yet")
    found = list(rows)
    if wanted.id is not None:
        ids = [row["id"] for row in found]
        found = [row for row in found if row["id"] == wanted.id]
        if not found:
            close = difflib.get_close_matches(wanted.id, ids, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]}? " if close else ""
            raise UserError(f"{where}: no row has the id {wanted.id!r} ({hint}`harness rows --format csv` lists ids)")
    for role in ROLES:
        value = getattr(wanted, role)
        if value is not None:
            labels = {label(row, role) for row in found}
            names = {row["spec"][role] for row in found}
            if value not in labels | names:
                raise UserError(f"{where}: no row that matches has --{role} {value}{nearest(value, labels)}")
            by_label = [row for row in found if label(row, role) == value]
            found = by_label or [row for row in found if row["spec"][role] == value]
    if wanted.seed is not None:
        seeds = sorted({row["spec"]["seed"] for row in found})
        found = [row for row in found if row["spec"]["seed"] == wanted.seed]
        if not found:
            raise UserError(f"{where}: no row that matches has --seed {wanted.seed} (there are {_listed(seeds)})")
    return found


def label(row: Row, role: str) -> str:
    """A row's task, partition or mixer as the user wrote it."""
    spec = row["spec"]
    return str(spec.get(f"{role}_label", spec[role]))


def _cell(row: Row) -> str:
    return str(row.get("cell", row["id"]))


def _apart(rows: Sequence[Row], *, seeds: bool = True) -> str:
    """The options that tell these rows apart, with the values they can take."""
    traits = {f"--{role}": [label(row, role) for row in rows] for role in ROLES}
    if seeds:
        traits["--seed"] = [row["spec"]["seed"] for row in rows]
    options = [f"{flag} {_listed(sorted(set(values)))}" for flag, values in traits.items() if len(set(values)) > 1]
    if len(set(zip(*traits.values(), strict=True))) < len(rows):
        options.append(f"--id {_listed(sorted(row['id'] for row in rows))}")
    return ", ".join(options)


def _listed(values: Iterable[object]) -> str:
    texts = [str(value) for value in values]
    return " | ".join(texts[:_SHOWN]) + (f" | ... ({len(texts)} in all)" if len(texts) > _SHOWN else "")
