"""A table of one's own: one CSV file, a run a line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tasks.base import TaskError
from tasks.sources.tables import Entry, Table, lines, named, number, table_of

ONLY = "table"  # the size of runs of which no size is said


def read(
    path: Path, *, parameters: Mapping[str, float] | None = None, tokens: float | Mapping[str, float] | None = None
) -> Table:
    """Columns ``w_<domain>`` and ``loss_<target>``, and where wanted ``size``, ``cost``, ``split`` and ``run``.

    Proportions sum to one; a loss may be empty. size: ``60m`` or ``1B``, a name whose number is the model's parameters;
    runs without one are of size ``table``. cost: FLOPs of the run. Other columns are refused, so that a misspelt one is
    not lost.
    """
    entries = []
    for where, cells in lines(path):
        shares, losses = named(list(cells), "w_"), named(list(cells), "loss_")
        if not shares or not losses:
            raise TaskError(f"{path}:1: expected columns w_<domain> and loss_<target>; mend the first line")
        other = sorted(set(cells) - set(shares) - set(losses) - {"size", "cost", "split", "run"})
        if other:
            raise TaskError(
                f"{path}:1: column {other[0]!r} is none of w_<domain>, loss_<target>, size, cost, split, run; "
                "rename it or leave it out"
            )
        cost = number(cells, "cost", where, empty=True) if "cost" in cells else float("nan")
        if cost <= 0:
            raise TaskError(f"{where}: a cost of {cost:g}; write the run's FLOPs, above 0")
        entries.append(
            Entry(
                run=cells.get("run", "").strip() or f"line {where.rpartition(':')[2]}",
                where=where,
                shares={name: number(cells, column, where) for column, name in shares.items()},
                losses={name: number(cells, column, where, empty=True) for column, name in losses.items()},
                size=cells.get("size", "").strip() or ONLY,
                split=cells.get("split", "").strip(),
                cost=cost,
            )
        )
    if not entries:
        raise TaskError(f"{path} holds no runs below its first line; every line is one run")
    return table_of(entries, parameters=parameters, tokens=tokens)
