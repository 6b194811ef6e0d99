"""The runs of the Data Mixing Laws repository, as CSV files with a line a run and step."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from tasks.base import TaskError
from tasks.sources.tables import Entry, Table, lines, named, number, table_of

BATCH = 1e6  # tokens in a step; the paper speaks of batches of about a million tokens
_SIZE = re.compile(r"_(\d+(?:\.\d+)?[kmbKMB])\b")


def holds(path: Path) -> bool:
    """Whether a file has the columns ``run`` and ``step`` of such a table."""
    first = next(lines(path), None)
    return first is not None and {"run", "step"} <= set(first[1])


def read(
    path: Path,
    *,
    step: int = 0,
    parameters: Mapping[str, float] | None = None,
    tokens: float | Mapping[str, float] | None = None,
) -> Table:
    """Columns ``run``, ``step``, ``w_<domain>`` and ``loss_<target>``, the latter empty where there is none.

    Data: yegcjs/mixinglaws 8ad3e12, its text tables put into one line per run and step. One step is read, for a run
    here is its end: ``step``, by default the last one of all that the most runs have. Runs without proportions (the
    model that continued pre-training begins with) are left out. The size is the one in the file's name (``3Mix_70M``).
    A run's tokens are its steps times a million, the paper's batch (uncertain: taken from its text).
    """
    rows = [(where, cells) for where, cells in lines(path)]
    if not rows or not {"run", "step"} <= set(rows[0][1]):
        raise TaskError(f"{path}:1: expected columns run, step, w_<domain>, loss_<target>, and a run a line below")
    shares, losses = named(list(rows[0][1]), "w_"), named(list(rows[0][1]), "loss_")
    if not shares or not losses:
        raise TaskError(f"{path}:1: expected columns w_<domain> and loss_<target>; mend the first line")
    bare = {cells["run"] for _, cells in rows if not any(cells[column].strip() for column in shares)}
    mixed = [(where, cells) for where, cells in rows if cells["run"] not in bare]
    if not mixed:
        raise TaskError(f"{path} holds no run with proportions; fill the columns w_<domain>")
    seen: set[tuple[str, int]] = set()
    for where, cells in mixed:
        run, at = cells["run"].strip(), int(number(cells, "step", where))
        if (run, at) in seen:
            raise TaskError(f"{where}: run {run} stands twice at step {at}; drop one of them")
        seen.add((run, at))
    steps = Counter(at for _, at in seen)
    chosen = step or max(steps, key=lambda at: (steps[at], at))
    if chosen not in steps:
        raise TaskError(f"{path} has no run at step {chosen}; there are {', '.join(map(str, sorted(steps)))}")
    named_size = _SIZE.search(path.stem)
    size = named_size[1] if named_size else path.stem
    entries = []
    for where, cells in mixed:
        if int(number(cells, "step", where)) == chosen:
            entries.append(
                Entry(
                    run=cells["run"].strip(),
                    where=where,
                    shares={name: number(cells, column, where) for column, name in shares.items()},
                    losses={name: number(cells, column, where, empty=True) for column, name in losses.items()},
                    size=size,
                )
            )
    runs = {cells["run"] for _, cells in mixed}
    notes = [f"losses at step {chosen}, which {len(entries)} of {len(runs)} runs with proportions have"]
    known = {size: chosen * BATCH}
    return table_of(entries, parameters=parameters, tokens=tokens, known_tokens=known, notes=notes)
