"""The picture of a search's curves: the metric against the number of runs bought, and against what they cost."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from harness.leaderboard import notes, wording
from harness.leaderboard.curves import Curve, curves_of
from harness.leaderboard.groups import Group
from harness.leaderboard.pictures import Picture
from harness.leaderboard.style import COLOURS, INK, MARKERS, MUTED, quiet

PANELS = (("runs", "runs bought before training"), ("cost", "FLOPs of these runs, in main runs (counted)"))


def curve_picture(group: Group) -> Picture | None:
    """The picture of one group; ``None`` where no mixer was run with two numbers of runs."""
    found = curves_of(group)
    if found is None:
        return None
    several = len({curve.partition for curve in found.curves}) > 1
    names = wording.short_names([curve.name for curve in found.curves])
    points = [point.score.mean for curve in found.curves for point in curve.points]
    data = {
        "title": f"{group.title}: {found.metric} against what was bought",
        "subtitle": notes.facts(group)[0],
        "y_label": f"{found.metric}{f', {found.unit}' if found.unit else ''} on test, target shares "
        f"({'higher' if found.higher_is_better else 'lower'} is better)",
        "log": found.metric == "regret" and min(points) > 0.0,
        "curves": [{"name": _name(names, curve, several), "points": _points(curve)} for curve in found.curves],
        "baselines": [list(each) for each in found.baselines],
    }
    return Picture(data=data, draw=draw_curves)


def _name(names: dict[str, str], curve: Curve, several: bool) -> str:
    return f"{names[curve.name]}, {curve.partition}" if several else names[curve.name]


def _points(curve: Curve) -> list[dict[str, Any]]:
    return [
        {"runs": p.runs, "cost": p.cost, "y": p.score.mean, "half": p.score.half, "outside": p.outside}
        for p in curve.points
    ]


def draw_curves(data: dict[str, Any]) -> Figure:
    """Two panels over one axis; hollow points: most seeds out of support; dashed: baselines that buy nothing."""
    figure = Figure(figsize=(10.4, 5.2))
    left = figure.add_axes((0.075, 0.12, 0.34, 0.71))
    right = figure.add_axes((0.435, 0.12, 0.34, 0.71), sharey=left)
    for axes, (key, label) in zip((left, right), PANELS, strict=True):
        for i, curve in enumerate(data["curves"]):
            _draw(axes, curve, key, i)
        for name, mean in data["baselines"]:
            axes.axhline(mean, color=MUTED, linewidth=1, linestyle="--" if name == "uniform" else ":", label=name)
        _axis(axes, [point[key] for curve in data["curves"] for point in curve["points"]], label)
    if data["log"]:
        left.set_yscale("log")
        left.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    left.set_ylabel(data["y_label"], color=INK)
    right.tick_params(labelleft=False)
    figure.text(0.075, 0.935, data["title"], fontsize=12, fontweight="bold", color=INK)
    figure.text(0.075, 0.89, f"{data['subtitle']}; bars: 95 % interval", fontsize=8, color=MUTED)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper left", bbox_to_anchor=(0.785, 0.84), frameon=False, fontsize=8)
    figure.text(0.785, 0.12, "hollow: most seeds out\nof the table's support", fontsize=8, color=MUTED)
    return figure


def _draw(axes: Axes, curve: dict[str, Any], key: str, i: int) -> None:
    """A line through the means, intervals, and a marker that is hollow out of support."""
    colour, points = COLOURS[i % len(COLOURS)], curve["points"]
    xs, ys = [p[key] for p in points], [p["y"] for p in points]
    axes.plot(xs, ys, color=colour, linewidth=1.3, marker=MARKERS[i % len(MARKERS)], markersize=5, label=curve["name"])
    # An interval that reaches zero or below has no lower end on a logarithmic axis.
    down = [min(p["half"] or 0.0, 0.95 * p["y"]) if p["y"] > 0 else p["half"] or 0.0 for p in points]
    axes.errorbar(xs, ys, yerr=[down, [p["half"] or 0.0 for p in points]], fmt="none", color=colour, elinewidth=0.8)
    hollow = [p for p in points if p["outside"] > 0.5]
    xs, ys = [p[key] for p in hollow], [p["y"] for p in hollow]
    marker = MARKERS[i % len(MARKERS)]
    axes.plot(xs, ys, color=colour, markerfacecolor="white", linestyle="", marker=marker, markersize=5)


def _axis(axes: Axes, values: list[float], label: str) -> None:
    """A logarithmic axis with the values themselves as ticks, as far as there is room, and quiet lines."""
    axes.set_xscale("log")
    ticks: list[float] = []
    for value in sorted(set(values)):
        if not ticks or value >= 1.25 * ticks[-1]:
            ticks.append(value)
    axes.set_xticks(ticks[:: max(1, len(ticks) // 8)])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(label, color=INK)
    quiet(axes)
