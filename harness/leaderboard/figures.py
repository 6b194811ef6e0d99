"""Quality against overhead: is a method worth what it costs?"""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, NullLocator

from harness.leaderboard import notes, tables, wording
from harness.leaderboard.groups import Group
from harness.leaderboard.pictures import Picture
from harness.leaderboard.standings import BASELINES, standing

INK, MUTED, GRID = "#1f2328", "#59636e", "#d8dee4"
# Okabe and Ito's colours, told apart with any colour vision; partitions differ in the marker as well.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#8c564b")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
# Below this many per cent the axis is linear, so that zero has a place.
LINEAR = 0.01
_LEADER = {"arrowstyle": "-", "linewidth": 0.6, "alpha": 0.7, "shrinkA": 0, "shrinkB": 3}


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
            "letters": line.letters,
        }
        for line in result.lines
    ]
    data = {
        "title": f"{tables.title(group)}: quality against overhead",
        "subtitle": notes.facts(group)[0],
        "y_label": f"{result.unit or result.metric} on test, target shares "
        f"({'higher' if result.higher_is_better else 'lower'} is better)",
        "partitions": group.partitions,
        "points": points,
    }
    return Picture(data=data, draw=draw_quality)


def draw_quality(data: dict[str, Any]) -> Figure:
    """Points with intervals over counted overhead, a colour a partition, labels beside the points."""
    points = data["points"]
    figure = Figure(figsize=(8.6, max(4.6, 1.6 + 0.21 * len(points))))
    axes = figure.add_axes((0.1, 0.13, 0.87, 0.72))
    for point in points:
        style = data["partitions"].index(point["partition"])
        colour = COLOURS[style % len(COLOURS)]
        axes.errorbar(
            point["x"],
            point["y"],
            yerr=point["half"],
            fmt=MARKERS[style % len(MARKERS)],
            color=colour,
            markersize=6,
            markerfacecolor="white" if point["mixer"] in BASELINES else colour,
            elinewidth=1,
            capsize=2,
        )
    _axis(axes, max(point["x"] for point in points))
    axes.set_ylabel(data["y_label"], color=INK)
    axes.set_xlabel("FLOPs of mixing and regrouping, % of training (counted)", color=INK)
    figure.text(0.1, 0.945, data["title"], fontsize=12, fontweight="bold", color=INK)
    figure.text(0.1, 0.905, f"{data['subtitle']}; bars: 95 % interval", fontsize=8, color=MUTED)
    handles = [
        Line2D([], [], color=COLOURS[i % len(COLOURS)], marker=MARKERS[i % len(MARKERS)], linestyle="", label=name)
        for i, name in enumerate(data["partitions"])
    ]
    handles.append(Line2D([], [], color=MUTED, marker="o", markerfacecolor="white", linestyle="", label="baseline"))
    figure.legend(handles=handles, loc="upper left", bbox_to_anchor=(0.092, 0.9), ncols=6, frameon=False, fontsize=8)
    _label(axes, points, data["partitions"])
    return figure


def _axis(axes: Axes, largest: float) -> None:
    """A symmetric-log axis from zero with plain numbers, room for labels on the right, and quiet lines."""
    axes.set_xscale("symlog", linthresh=LINEAR, linscale=0.6)
    top = max(10 * LINEAR, largest)
    axes.set_xlim(-LINEAR / 4, top * 6)
    ticks = [0.0]
    while not ticks[-1] or ticks[-1] < top:
        ticks.append(LINEAR if not ticks[-1] else ticks[-1] * 10)
    axes.set_xticks(ticks)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(True, color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.margins(y=0.08)
    axes.tick_params(colors=MUTED, labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GRID)


def _label(axes: Axes, points: list[dict[str, Any]], partitions: list[str]) -> None:
    """Names to the right of the points; those that would cover each other are pushed apart and get a thin line."""
    figure = axes.figure
    assert isinstance(figure, Figure)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    pixel = figure.dpi / 72
    spots = [axes.transData.transform((point["x"], point["y"])) for point in points]
    marker = 8 * pixel
    placed = [(float(x) - marker / 2, float(y), marker, marker) for x, y in spots]
    low, high = axes.get_window_extent(renderer).intervaly
    right = axes.get_window_extent(renderer).x1
    for point in sorted(points, key=lambda p: (p["x"], p["y"])):
        x, y = axes.transData.transform((point["x"], point["y"]))
        colour = COLOURS[partitions.index(point["partition"]) % len(COLOURS)]
        text = Text(0, 0, point["name"], fontsize=8)
        text.set_figure(figure)
        box = text.get_window_extent(renderer)
        width, height = box.width + 4 * pixel, box.height + 1 * pixel
        leftwards = x + 9 * pixel + width > right
        first = x - 9 * pixel - width if leftwards else x + 9 * pixel
        side = -1 if leftwards else 1
        spot = _free_spot(first, y, width, height, placed, (low, high), right, side)
        placed.append((*spot, width, height))
        offset = ((spot[0] - x) / pixel, (spot[1] - y) / pixel)
        moved = abs(offset[1]) > 3 or abs(spot[0] - first) > 1
        axes.annotate(
            point["name"],
            (point["x"], point["y"]),
            xytext=offset,
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=colour,
            arrowprops=_LEADER | {"color": colour, "relpos": (float(leftwards), 0.5)} if moved else None,
        )


def _free_spot(
    x: float,
    y: float,
    width: float,
    height: float,
    placed: list[tuple[float, float, float, float]],
    limits: tuple[float, float],
    right: float,
    side: int,
) -> tuple[float, float]:
    """The place nearest to (x, y) where a box overlaps none of those placed: up and down first, then to the side.

    right: where the picture ends. side: 1 goes on to the right, -1 to the left.
    """
    for column in range(12):
        left = x + side * column * 35
        if left + width > right:
            break
        for step in range(25):
            for sign in (1, -1):
                centre = y + sign * step * height / 2
                inside = limits[0] + height / 2 <= centre <= limits[1] - height / 2
                if inside and step * height / 2 <= 3 * height and not _covered(left, centre, width, height, placed):
                    return left, centre
    return x, y


def _covered(x: float, y: float, width: float, height: float, placed: list[tuple[float, float, float, float]]) -> bool:
    return any(
        x < other_x + other_width and other_x < x + width and abs(y - other_y) < (height + other_height) / 2
        for other_x, other_y, other_width, other_height in placed
    )
