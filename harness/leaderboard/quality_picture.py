"""Quality against overhead: is a method worth what it costs? And the same quality on other cuts of the data."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from harness.leaderboard import notes, wording
from harness.leaderboard.groups import Group
from harness.leaderboard.labels import name_points
from harness.leaderboard.pictures import Picture
from harness.leaderboard.standings import BASELINES, standing
from harness.leaderboard.style import COLOURS, INK, MUTED, quiet

# Below this many per cent the axis is linear, so that zero has a place.
LINEAR = 0.01
# Inches.
WIDTH, LEFT, RIGHT, HEAD, BELOW, ROW = 8.6, 0.86, 0.26, 0.85, 0.62, 0.185
NAMES = 3.0  # room for the names of the lower panel


def quality_picture(group: Group) -> Picture | None:
    """The picture of one group; ``None`` where nothing has a score."""
    result = standing(group)
    if result is None:
        return None
    names = wording.short_names([line.cell[1] for line in result.lines])
    points = [
        {
            "partition": line.cell[0],
            "mixer": line.cell[1],
            "name": names[line.cell[1]],
            "x": 100 * line.price.total,
            "y": line.score.mean,
            "half": line.score.half,
        }
        for line in result.lines
    ]
    data = {
        "title": f"{group.title}: quality against overhead",
        "subtitle": notes.facts(group)[0],
        "y_label": f"{result.unit or result.metric} on test, target shares "
        f"({'higher' if result.higher_is_better else 'lower'} is better)",
        "higher_is_better": result.higher_is_better,
        "partitions": group.partitions,
        "points": points,
    }
    return Picture(data=data, draw=draw_quality)


def draw_quality(data: dict[str, Any]) -> Figure:
    """Above, the first partition: score over counted overhead. Below, the others: one line a partition and mixer."""
    first, *others = data["partitions"]
    points = [point for point in data["points"] if point["partition"] == first]
    rows = [row for partition in others for row in _ranked(data, partition)]
    above = max(3.2, 1.1 + 0.17 * len(points)) if points else 0.0
    below = ROW * (len(rows) + len(others)) + BELOW + 0.35 if rows else 0.0
    height = HEAD + above + BELOW + below
    figure = Figure(figsize=(WIDTH, height))
    figure.text(LEFT / WIDTH, 1 - 0.3 / height, data["title"], fontsize=12, fontweight="bold", color=INK)
    what = f"{data['subtitle']}; bars: 95 % interval; hollow: baselines"
    figure.text(LEFT / WIDTH, 1 - 0.52 / height, what, fontsize=8, color=MUTED)
    if points:
        box = (LEFT / WIDTH, 1 - (HEAD + above) / height, 1 - (LEFT + RIGHT) / WIDTH, above / height)
        _draw_overhead(figure.add_axes(box), points, data, others)
    if rows:
        tall = (below - BELOW - 0.35) / height
        what = f"other cuts, per cent as above; dashed: baselines on {first}"
        figure.text(0.02, tall + (BELOW + 0.08) / height, what, fontsize=8, color=INK)
        box = (NAMES / WIDTH, BELOW / height, 1 - (NAMES + RIGHT) / WIDTH, tall)
        _draw_others(figure.add_axes(box), rows, points, data)
    return figure


def _ranked(data: dict[str, Any], partition: str) -> list[dict[str, Any]]:
    """A partition's points, the best first."""
    points = [point for point in data["points"] if point["partition"] == partition]
    return sorted(points, key=lambda point: point["y"], reverse=data["higher_is_better"])


def _draw_overhead(axes: Axes, points: list[dict[str, Any]], data: dict[str, Any], others: list[str]) -> None:
    for point in points:
        _mark(axes, point, (point["x"], point["y"]), COLOURS[0], vertical=True)
    quiet(axes)
    _percents(axes, max(point["x"] for point in points))
    axes.margins(y=0.08)
    axes.set_ylabel(data["y_label"], color=INK)
    axes.set_xlabel("FLOPs of mixing and regrouping, % of training (counted)", color=INK)
    if others:
        axes.set_title(points[0]["partition"], loc="left", fontsize=9, color=INK)
    name_points(axes, points, COLOURS[0])


def _mark(axes: Axes, point: dict[str, Any], place: tuple[float, float], colour: str, *, vertical: bool) -> None:
    axes.errorbar(
        *place,
        **{"yerr" if vertical else "xerr": point["half"]},
        fmt="o",
        color=colour,
        markersize=6 if vertical else 5,
        markerfacecolor="white" if point["mixer"] in BASELINES else colour,
        elinewidth=1,
        capsize=2,
    )


def _percents(axes: Axes, largest: float) -> None:
    """A symmetric-log axis from zero with plain numbers, and room for names on the right."""
    axes.set_xscale("symlog", linthresh=LINEAR, linscale=0.6)
    top = max(10 * LINEAR, largest)
    axes.set_xlim(-LINEAR / 4, top * 6)
    ticks = [0.0]
    while not ticks[-1] or ticks[-1] < top:
        ticks.append(LINEAR if not ticks[-1] else ticks[-1] * 10)
    axes.set_xticks(ticks)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _draw_others(axes: Axes, rows: list[dict[str, Any]], points: list[dict[str, Any]], data: dict[str, Any]) -> None:
    """Rows by partition, a gap between two; dashed: the baselines of the first partition."""
    partitions = list(dict.fromkeys(row["partition"] for row in rows))
    places = [i + partitions.index(row["partition"]) for i, row in enumerate(rows)]
    for row, place in zip(rows, places, strict=True):
        colour = COLOURS[(1 + partitions.index(row["partition"])) % len(COLOURS)]
        _mark(axes, row, (row["y"], place), colour, vertical=False)
    quiet(axes)
    axes.grid(False, axis="y")
    axes.set_ylim(places[-1] + 1, -1)
    axes.set_yticks(places, [f"{row['partition']} / {row['name']}, {_percent(row['x'])}" for row in rows], color=INK)
    axes.set_xlabel(data["y_label"], color=INK)
    for point in points:
        if point["mixer"] in BASELINES:
            axes.axvline(point["y"], color=MUTED, linewidth=0.8, linestyle="--", zorder=0)
            axes.annotate(
                point["name"],
                (point["y"], 1),
                xycoords=("data", "axes fraction"),
                xytext=(0, 3),
                textcoords="offset points",
                rotation=30,
                fontsize=7,
                color=MUTED,
            )


def _percent(value: float) -> str:
    return f"{value:.0f} %" if value >= 10 else f"{value:.1f} %"
