"""``harness export``: the mixture of a finished trial, for a trainer of one's own; :mod:`harness.forms` writes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import UserError
from harness.forms import FORMS, Chosen, Point
from harness.leaderboard.rows import Row, cut_of, primary_name, read_rows
from harness.selection import Wanted, label, one_cell, one_row
from harness.store import write_text


def export(path: Path, which: str, form: str, *, mean: bool, out: Path | None, **wanted: Any) -> str:
    """What the command prints: the mixture, or a line that says where it was written, whole or not at all.

    which: ``final``, ``average`` or ``schedule``. form: one of ``FORMS``. mean: of all seeds of a cell. wanted: the
    fields of :class:`Wanted`. Raises :class:`UserError` in one line.
    """
    text = mixture_text(path, Wanted(**wanted), which, form, mean=mean)
    if out is None:
        return text
    try:
        write_text(out, text)
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written ({error.strerror})") from None
    return f"wrote {out}\n"


def mixture_text(path: Path, wanted: Wanted, which: str = "final", form: str = "json", *, mean: bool = False) -> str:
    """The mixture of the row, or of the mean over the rows, that ``wanted`` picks in ``path``."""
    if which == "schedule" and form != "json":
        raise UserError(
            f"--which schedule: {form} takes one mixture; write the schedule with --format json, "
            "or one mixture with --which final or average"
        )
    rows, where = read_rows([path]), str(path)
    picked = one_cell(rows, wanted, where) if mean else [one_row(rows, wanted, where)]
    finished = [row for row in picked if row["status"] == "ok"]
    if not finished:
        row = picked[0]
        raise UserError(f"row {row['id']} ended with status {row['status']} ({row['reason']}): it has no mixture")
    chosen = _chosen(finished, which)
    if mean:
        note = f"mean of seeds {', '.join(map(str, chosen.provenance['seeds']))}"
        failed = [str(row["spec"]["seed"]) for row in picked if row["status"] != "ok"]
        note += f"; without seeds {', '.join(failed)}, which did not finish" if failed else ""
        chosen = replace(chosen, notes=(*chosen.notes, note))
    return FORMS[form](chosen)


def blend(points: Sequence[Point], amounts: Sequence[float]) -> Point:
    """The mixture that draws from each point by its amount.

    weights: mean of the weights, by amount. loss_weights: mean over the examples so drawn from the domain, that is by
    amount x weight, so that weight x loss weight is averaged too; one where a point has none or nothing is drawn.
    """
    if len(points) == 1:
        return points[0]
    by = np.asarray(amounts, dtype=np.float64)[:, None] / float(np.sum(amounts))
    weights = np.array([point.weights for point in points])
    drawn = (by * weights).sum(axis=0)
    if all(point.loss_weights is None for point in points):
        return Point(weights=drawn, loss_weights=None)
    losses = np.array([np.ones_like(drawn) if p.loss_weights is None else p.loss_weights for p in points])
    total = (by * weights * losses).sum(axis=0)
    return Point(weights=drawn, loss_weights=np.divide(total, drawn, out=np.ones_like(drawn), where=drawn > 0))


def _chosen(rows: Sequence[Row], which: str) -> Chosen:
    """The mixture or schedule of one finished row, or of the mean over several of one cell."""
    first = rows[0]
    schedule = _mean_schedule(rows)
    steps, last = int(first["spec"]["steps"]), schedule[-1][0]
    count = f"one of {len(schedule)} mixtures" if len(schedule) > 1 else "the only mixture"
    if which == "final":
        points = schedule[-1:]
        meaning = f"the last mixture asked for, in force from step {last} to the end, step {steps} ({count})"
    elif which == "average":
        edges = [*(step for step, _ in schedule), steps]
        points = [(0, blend([point for _, point in schedule], np.diff(edges).tolist()))]
        meaning = f"mean over the {steps} steps: each of {len(schedule)} mixtures counts by the steps it was in force"
    else:
        points = schedule
        meaning = f"each mixture is in force from its step (0 is the first) until the next, the last to step {steps}"
    notes = []
    if first["spec"]["partition"] != "original":
        notes.append(
            f"the domains are groups made by {label(first, 'partition')} for seed {first['spec']['seed']}, not data "
            "sets: docs/export.md says how to get the group of every training example"
        )
    if (first.get("mixer_report") or {}).get("served_models"):
        notes.append(
            "the row is an ensemble's: the weights are what all its models together drew, and no one model was trained "
            "on this mixture (mixer_report.members)"
        )
    if which == "average" and points[0][1].loss_weights is not None:
        notes.append("loss weights are averaged over the examples drawn: by steps x weight of the domain")
    return Chosen(
        which=which,
        domains=tuple(first["domains"]["train"]),
        points=tuple(points),
        train_shares=list(first["domains"].get("train_shares") or ()),
        meaning=meaning,
        notes=tuple(notes),
        provenance=_provenance(rows),
    )


def _mean_schedule(rows: Sequence[Row]) -> list[tuple[int, Point]]:
    """The schedule of one row; of several, the mean at each step, where their domains and steps agree."""
    if len({row["fingerprint"] for row in rows}) > 1:
        raise UserError("--mean: the seeds were trained on different data (fingerprint); choose one with --seed")
    if len({cut_of(row) for row in rows}) > 1:
        raise UserError("--mean: each seed has groups of its own, whose weights have no mean; choose one with --seed")
    schedules = [_schedule(row) for row in rows]
    if len({tuple(step for step, _ in schedule) for schedule in schedules}) > 1:
        raise UserError("--mean: the seeds change their mixtures at different steps; choose one with --seed")
    equal = [1.0] * len(rows)
    return [(at[0][0], blend([point for _, point in at], equal)) for at in zip(*schedules, strict=True)]


def _schedule(row: Row) -> list[tuple[int, Point]]:
    """(first step, mixture) in order. A row lists loss weights at the steps whose mixture has them."""
    m = len(row["domains"]["train"])
    losses = {int(step): values for step, values in row["mixture"].get("loss_weights") or ()}
    schedule = []
    for step, weights in row["mixture"]["requested"]:
        point = Point(weights=np.array(weights), loss_weights=np.array(losses[step]) if step in losses else None)
        if point.weights.shape != (m,) or (point.loss_weights is not None and point.loss_weights.shape != (m,)):
            raise UserError(f"row {row['id']}: its mixture at step {step} is not one weight for each training domain")
        schedule.append((int(step), point))
    return schedule


def _provenance(rows: Sequence[Row]) -> dict[str, Any]:
    """Where the mixture comes from: the trials, what they are made of, what they scored."""
    first = rows[0]
    spec, name = first["spec"], primary_name(first)
    metric = first["metrics"][name]
    commits = list(dict.fromkeys((row.get("provenance") or {}).get("commit") for row in rows))
    return {
        "rows": [row["id"] for row in rows],
        **{key: spec.get(key) for role in ("task", "partition", "mixer") for key in (role, f"{role}_config")},
        **{f"{role}_label": label(first, role) for role in ("partition", "mixer")},
        **{key: spec[key] for key in ("preset", "steps", "batch_size")},
        "seeds": [row["spec"]["seed"] for row in rows],
        "protocol": first["protocol"],
        "commit": commits[0] if len(commits) == 1 else commits,
        "uncommitted_changes": any((row.get("provenance") or {}).get("dirty") for row in rows),
        "fingerprint": first["fingerprint"],
        "metric": {
            "name": name,
            "unit": metric.get("unit"),
            "higher_is_better": metric["higher_is_better"],
            "test": float(np.mean([row["metrics"][name]["target"] for row in rows])),
        },
    }
