"""Tables for a terminal: the end of a run, and a comparison with a baseline of one's own choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness import stats
from harness.errors import nearest
from harness.leaderboard import cautions, curves, notes, tables, wording
from harness.leaderboard.aggregates import by_seed
from harness.leaderboard.groups import CellKey, Group, split
from harness.leaderboard.rows import Row, RowsError
from harness.leaderboard.standings import (
    BASELINES,
    Standing,
    corrected,
    representatives,
    scored_cells,
    standing,
)


def terminal_table(rows: Sequence[Row]) -> str:
    """A compact table per group for the console."""
    groups = split(rows)
    parts = [line for line in (notes.why_several(groups), *cautions.of_all(groups)) if line]
    for group in groups:
        result = standing(group)
        lines = [f"{group.title}: {notes.facts(group)[0]}", *cautions.of_group(group)]
        if result is None:
            lines.append("no trial has a score")
        else:
            lines += ["", _compact(result), "", *notes.verdicts(result)]
            lines.append(
                "±: 95 % t-interval over seeds; Δ paired by seed, p by paired t-test (Holm); rows that share a "
                "letter are not separable."
            )
            lines += _bought(group)
        parts.append("\n".join([*lines, *notes.problems(group)]).rstrip())
    return "\n\n".join(parts) if parts else "no rows"


def _compact(result: Standing) -> str:
    header = ["group", "partition", "mixer", "n", tables.metric_heading(result), *(f"Δ {name}" for name in BASELINES)]
    header += ["FLOPs %", "host s", "step %"]
    n = tables.decimals(result)
    rows = []
    for line in result.lines:
        cells = [line.letters, *line.shown, str(line.score.n), wording.estimate(line.score, n)]
        cells += [tables.difference(line.baselines.get(name), line, n) for name in BASELINES]
        step = wording.percent(line.price.step, sign=True)
        rows.append([*cells, wording.percent(line.price.counted), wording.seconds(line.price.host_seconds), step])
    return wording.plain_table(header, rows, tables.TEXT)


def _bought(group: Group) -> list[str]:
    """What searches gain with more runs and what these cost, where rows differ in their number; a blank line around."""
    found = curves.curves_of(group)
    return ["", "\n\n".join(curves.tables(found, wording.plain_table)), ""] if found else []


def compare(rows: Sequence[Row], baseline: str) -> str:
    """Every row against one baseline, paired by seed, in target, macro and wins.

    baseline: a mixer's label, taken on each row's own partition, or ``partition/mixer`` for one row against all.
    """
    groups = split(rows)
    known = sorted({name for group in groups for cell in group.cells for name in (cell[1], notes.name(cell))})
    if baseline not in known:
        raise RowsError(f"no rows of a baseline {baseline!r}{nearest(baseline, known)}")
    return "\n\n".join([*cautions.of_all(groups), *(_comparison(group, baseline) for group in groups)]) or "no rows"


def _comparison(group: Group, baseline: str) -> str:
    """One group's table."""
    heading = f"{group.title}: {notes.facts(group)[0]}"
    result = standing(group)
    pairs = _pairs(group, baseline) if result else {}
    if result is None or not pairs:
        return f"{heading}\nno finished trial can be compared with {baseline}"
    cells = scored_cells(group)
    columns = {
        aggregate: {c: by_seed(cells[c], result.metric, aggregate) for c in cells} for aggregate in ("target", "macro")
    }
    target = {pair: r for pair in pairs if (r := stats.paired(*(columns["target"][cell] for cell in pair)))}
    yardsticks = {line.cell for line in result.lines if line.reference}
    tested = {pair: made for pair, made in target.items() if pair[0] not in yardsticks}
    adjusted, tests = corrected(tested, representatives(columns["target"]))
    n = tables.decimals(result)
    body = []
    for line in result.lines:
        pair = next((pair for pair in target if pair[0] == line.cell), None)
        if pair is None:
            continue
        ours, theirs = (columns["target"][cell] for cell in pair)
        macro = stats.paired(*(columns["macro"][cell] for cell in pair))
        assert macro is not None
        p = adjusted.get(frozenset(pair))
        wins = sum(result.better(ours[seed] - theirs[seed]) for seed in target[pair].seeds)
        outcome = (
            "reference"
            if line.reference
            else "identical"
            if target[pair].identical
            else "not separable"
            if p is None or p >= stats.ALPHA
            else "better"
            if result.better(target[pair].difference.mean)
            else "worse"
        )
        spread = target[pair].difference.sd
        least = None if not spread else stats.smallest_detectable(len(target[pair].seeds), spread, tests)
        body.append(
            [
                *line.shown,
                notes.name(pair[1]),
                wording.paired(target[pair], n),
                wording.probability(p),
                outcome,
                f"{wins}/{len(target[pair].seeds)}",
                wording.paired(macro, n),
                wording.number(least, n),
            ]
        )
    header = ["partition", "mixer", "baseline", f"Δ {tables.metric_heading(result)}", "p", "verdict", "wins"]
    header += ["Δ macro", "detectable"]
    table = wording.plain_table(header, body, (*tables.TEXT, "baseline", "verdict"))
    foot = (
        f"Δ: row - baseline over shared seeds, ± half of a 95 % t-interval; p: paired t-test, Holm over {tests} tests; "
        "wins: seeds in which the row is better; detectable: smallest true difference found with probability 0.8."
    )
    remarks = [*cautions.of_group(group), *cautions.of_table(result), *notes.problems(group)]
    return "\n".join([heading, "", table, "", foot, *_bought(group), *remarks]).rstrip()


def _pairs(group: Group, baseline: str) -> Mapping[tuple[CellKey, CellKey], None]:
    """(row, its baseline) for every scored row that has one."""
    cells = scored_cells(group)
    pairs: dict[tuple[CellKey, CellKey], None] = {}
    for cell in cells:
        for other in cells:
            if other != cell and (notes.name(other) == baseline or (other[0] == cell[0] and other[1] == baseline)):
                pairs[cell, other] = None
    return pairs
