"""How far a search gets with more runs: mixers that were run with several numbers of proxy runs, as curves.

A curve is a mixer on a partition; its points are the rows that differ in the number of runs alone, see :data:`BUDGET`.
Beside such a curve a mixer that was run with one number of runs is one of a single point.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness import stats
from harness.leaderboard import wording
from harness.leaderboard.aggregates import by_seed, price
from harness.leaderboard.groups import CellKey, Group
from harness.leaderboard.rows import Row, primary_name
from harness.leaderboard.standings import BASELINES, baseline_cell, scored_cells

BUDGET = ("proxies", "mixtures")  # names of settings that say how many runs a mixer buys
REGRET = "regret"  # what is shown where rows have it; else the primary metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """runs: bought before training. cost: counted FLOPs, in main runs. outside: share of seeds out of support."""

    runs: float
    cost: float
    score: stats.Estimate
    outside: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Points, one or more, by growing number of runs. name: the mixer's label without the number of runs."""

    partition: str
    name: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """All curves of a table; baselines: (name, mean) of mixers that buy nothing, on the first curve's partition."""

    metric: str
    unit: str
    higher_is_better: bool
    curves: tuple[Curve, ...]
    baselines: tuple[tuple[str, float], ...]


def curves_of(group: Group) -> Curves | None:
    """The curves, best last point first; ``None`` where no mixer was run with two numbers of runs."""
    cells = scored_cells(group)
    families: dict[CellKey, list[list[Row]]] = {}
    for (partition, mixer), rows in cells.items():
        if any(_bought(row) for row in rows):
            families.setdefault((partition, family(mixer)), []).append(rows)
    if all(len({_runs(rows) for rows in members}) == 1 for members in families.values()):
        return None
    first = next(iter(families.values()))[0][0]
    metric = REGRET if REGRET in first["metrics"] else primary_name(first)
    higher = bool(first["metrics"][metric]["higher_is_better"])
    found = [
        Curve(
            partition=partition,
            name=f"{name} (reference)" if members[0][0].get("reference") else name,
            points=tuple(sorted((_point(rows, metric) for rows in members), key=lambda p: p.runs)),
        )
        for (partition, name), members in families.items()
    ]
    found.sort(key=lambda c: (-c.points[-1].score.mean if higher else c.points[-1].score.mean, c.partition, c.name))
    known = {name: baseline_cell(group, found[0].partition, name, cells) for name in BASELINES}
    means = {
        name: stats.mean_interval(list(by_seed(cells[cell], metric).values())).mean
        for name, cell in known.items()
        if cell
    }
    return Curves(
        metric=metric,
        unit=str(first["metrics"][metric].get("unit", "")),
        higher_is_better=higher,
        curves=tuple(found),
        baselines=tuple(means.items()),
    )


def tables(found: Curves, form: Callable[..., str] = wording.markdown_table) -> list[str]:
    """A lead, the metric by number of runs, and the price of those runs: a sentence or, where mixers differ, a table.

    form: how a table is written, see :mod:`harness.leaderboard.wording`.
    """
    numbers = sorted({point.runs for curve in found.curves for point in curve.points})
    n = wording.digits([point.score.mean for curve in found.curves for point in curve.points])
    heads = [f"{number:g} run{'' if number == 1 else 's'}" for number in numbers]
    scores = [[*_names(curve), *(_score(_at(curve, x), n) for x in numbers)] for curve in found.curves]
    scores += [
        [found.curves[0].partition, name, *([wording.number(mean, n)] * len(numbers))] for name, mean in found.baselines
    ]
    parts = [
        f"{found.metric.capitalize()} by number of runs bought before training: rows of the table above, a curve a "
        "line, sorted by its last point.",
        form(["partition", "mixer", *heads], scores, ("partition", "mixer")),
    ]
    if any(point.outside for curve in found.curves for point in curve.points):
        parts.append("`*`: some seeds were judged on mixtures outside the support of the table, `**`: most.")
    each = {round(point.cost / point.runs, 6) for curve in found.curves for point in curve.points}
    if len(each) == 1:
        parts.append(f"A run costs {each.pop():.3g} main runs in FLOPs, whichever mixer orders it.")
        return parts
    costs = [[*_names(curve), *(_cost(_at(curve, x)) for x in numbers)] for curve in found.curves]
    parts += ["What these runs cost in FLOPs, in main runs:"]
    parts += [form(["partition", "mixer", *heads], costs, ("partition", "mixer"))]
    return parts


def family(label: str) -> str:
    """A mixer's label without the number of runs: ``regmix[proxies=54,model=linear]`` -> ``regmix[model=linear]``."""
    name, parameters = wording.parts(label)
    kept = [each for each in parameters if each.split("=")[0].strip() not in BUDGET]
    return f"{name}[{','.join(kept)}]" if kept else name


def _runs(rows: Sequence[Row]) -> float:
    """Mean number of runs bought."""
    return sum(_bought(row) for row in rows) / len(rows)


def _bought(row: Row) -> float:
    """Runs that a trial bought: none, where a regrouper left its mixer one domain."""
    return float(((row["overhead"].get("purchases") or {}).get("runs") or {}).get("calls", 0))


def _point(rows: Sequence[Row], metric: str) -> Point:
    outside = [bool(((row.get("table") or {}).get("support") or {}).get("outside")) for row in rows]
    return Point(
        runs=_runs(rows),
        cost=price(rows).counted or 0.0,
        score=stats.mean_interval(list(by_seed(rows, metric).values())),
        outside=sum(outside) / len(outside),
    )


def _at(curve: Curve, runs: float) -> Point | None:
    return next((point for point in curve.points if point.runs == runs), None)


def _names(curve: Curve) -> list[str]:
    return [curve.partition, curve.name]


def _score(point: Point | None, digits: int) -> str:
    if point is None:
        return wording.DASH
    mark = "" if point.outside == 0 else " *" if point.outside <= 0.5 else " **"
    return wording.estimate(point.score, digits) + mark


def _cost(point: Point | None) -> str:
    return wording.DASH if point is None else f"{point.cost:.3g}"
