"""Accuracy under a shift against accuracy without one, both as logits, with the reference family's line."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy import special

from harness.leaderboard.pictures import Picture
from harness.leaderboard.robustness import Robustness
from harness.leaderboard.style import COLOURS, INK, MARKERS, MUTED, quiet
from harness.leaderboard.wording import short_names

_LOW = (0.001, 0.002, 0.003, 0.005, 0.007, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4)
TICKS = (*_LOW, 0.5, *(1 - tick for tick in reversed(_LOW)))
LONGEST = 40  # characters of a list of domains on an axis


def robustness_picture(found: Robustness) -> Picture:
    """A point a row, a colour and a marker a mixer; hollow ones are of the family."""
    labels = list(dict.fromkeys(point.mixer for point in found.points))
    names = short_names(labels)
    data = {
        "title": f"{found.title}: effective robustness",
        "subtitle": f"{found.metric}; line of {found.line.points} rows (hollow): slope {found.line.slope:.3f}, "
        f"intercept {found.line.intercept:.3f}" + ("" if found.line.r2 is None else f", R² {found.line.r2:.2f}"),
        "x_label": f"in distribution: {_listed(found.inside)} (%, logit scale)",
        "y_label": f"shifted: {_listed(found.shifted)} (%, logit scale)",
        "slope": found.line.slope,
        "intercept": found.line.intercept,
        "mixers": [names[label] for label in labels],
        "points": [
            {"mixer": labels.index(p.mixer), "x": p.x, "y": p.y, "family": p.family, "steps": p.steps, "seed": p.seed}
            for p in found.points
        ],
    }
    return Picture(data=data, draw=draw)


def _listed(names: tuple[str, ...]) -> str:
    text = ", ".join(names)
    return text if len(text) <= LONGEST else f"{len(names)} domains"


def draw(data: dict[str, Any]) -> Figure:
    """The scatter, the line from the lowest to the highest point, and a legend beside it."""
    figure = Figure(figsize=(8.6, 5.4))
    axes = figure.add_axes((0.1, 0.12, 0.6, 0.74))
    for index, name in enumerate(data["mixers"]):
        members = [point for point in data["points"] if point["mixer"] == index]
        colour = COLOURS[index % len(COLOURS)]
        axes.plot(
            special.logit([point["x"] for point in members]),
            special.logit([point["y"] for point in members]),
            MARKERS[(index // len(COLOURS) + index) % len(MARKERS)],
            color=colour,
            markerfacecolor="white" if members[0]["family"] else colour,
            markersize=6,
            label=name,
        )
    ends = special.logit([f(point["x"] for point in data["points"]) for f in (min, max)])
    axes.plot(ends, data["intercept"] + data["slope"] * ends, color=MUTED, linewidth=1, zorder=1)
    for axis, label, key in ((axes.xaxis, data["x_label"], "x"), (axes.yaxis, data["y_label"], "y")):
        _ticks(axis, [point[key] for point in data["points"]])
        axis.set_label_text(label, color=INK, fontsize=9)
    quiet(axes)
    axes.margins(0.06)
    figure.text(0.1, 0.945, data["title"], fontsize=12, fontweight="bold", color=INK)
    figure.text(0.1, 0.905, data["subtitle"], fontsize=8, color=MUTED)
    figure.legend(loc="upper left", bbox_to_anchor=(0.71, 0.87), frameon=False, fontsize=8)
    return figure


def _ticks(axis: Any, values: list[float]) -> None:
    """Round percentages on a logit scale that hold all values."""
    low = max((tick for tick in TICKS if tick <= min(values)), default=TICKS[0])
    high = min((tick for tick in TICKS if tick >= max(values)), default=TICKS[-1])
    shown = [tick for tick in TICKS if low <= tick <= high]
    axis.set_ticks(np.asarray(special.logit(shown)), labels=[f"{100 * tick:g}" for tick in shown])
