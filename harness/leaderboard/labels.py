"""Names beside the points of a picture, none over another."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

NEAR, FAR = 3, 40  # how many heights of a name it may be moved up or down
COLUMNS = 12  # and how often to the side
_LEADER = {"arrowstyle": "-", "linewidth": 0.6, "alpha": 0.7, "shrinkA": 0, "shrinkB": 3}


def name_points(axes: Axes, points: list[dict[str, Any]], colour: str) -> None:
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

    right: where the picture ends. side: 1 goes on to the right, -1 to the left. Where nothing near is free, farther up
    and down.
    """
    for reach in (NEAR, FAR):
        for column in range(COLUMNS):
            left = x + side * column * 35
            if not 0 <= left <= right - width:
                break
            for step in range(2 * reach + 1):
                for sign in (1, -1):
                    centre = y + sign * step * height / 2
                    inside = limits[0] + height / 2 <= centre <= limits[1] - height / 2
                    if inside and not _covered(left, centre, width, height, placed):
                        return left, centre
    return x, y


def _covered(x: float, y: float, width: float, height: float, placed: list[tuple[float, float, float, float]]) -> bool:
    return any(
        x < other_x + other_width and other_x < x + width and abs(y - other_y) < (height + other_height) / 2
        for other_x, other_y, other_width, other_height in placed
    )
