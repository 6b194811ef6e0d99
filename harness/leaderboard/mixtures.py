"""Mixture over time: what every mixer drew from, panel by panel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from harness.leaderboard import wording
from harness.leaderboard.groups import Group
from harness.leaderboard.pictures import Picture
from harness.leaderboard.rows import Row, cut_of, is_scored
from harness.leaderboard.style import INK, MUTED

# A panel shows at most this many domains; the rest is one band.
SHOWN = 12
COLUMNS = 6
OTHER = "other"
# Twelve hues that neighbours keep apart, and grey for what is left over.
COLOURS = (
    "#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2", "#edc948",
    "#b07aa1", "#9c755f", "#ff9da7", "#86bcb6", "#d4a6c8", "#8cd17d",
)  # fmt: skip
GREY = "#c8ccd0"

FloatArray = npt.NDArray[np.float64]


def mixture_picture(group: Group) -> Picture | None:
    """The mixtures of one group; ``None`` where no trial has one."""
    blocks = [block for partition in group.partitions if (block := _block(group, partition))]
    if not blocks:
        return None
    data = {
        "title": f"{group.title}: mixture over time",
        "steps": group.spec["steps"],
        "blocks": blocks,
    }
    return Picture(data=data, draw=draw_mixtures)


def _block(group: Group, partition: str) -> dict[str, Any] | None:
    """Panels of one partition: for every mixer the steps at which the mixture changes, and the weights from there."""
    cells = {
        mixer: rows
        for mixer in group.mixers
        if (rows := [r for _, r in sorted(group.cells.get((partition, mixer), {}).items()) if is_scored(r)])
    }
    if not cells:
        return None
    everything = [row for rows in cells.values() for row in rows]
    comparable = len({cut_of(row) for row in everything}) == 1
    first = min(everything, key=lambda row: row["spec"]["seed"])
    # Weights over different domains cannot be averaged.
    if not comparable:
        cells = {mixer: [r for r in rows if cut_of(r) == cut_of(first)] for mixer, rows in cells.items()}
        cells = {mixer: rows for mixer, rows in cells.items() if rows}
    names = list(first["domains"]["train"])
    tracks = {mixer: _track(rows) for mixer, rows in cells.items()}
    order = _largest([weights for _, weights in tracks.values()], len(names))
    panels = []
    titles = wording.short_names(list(tracks))
    for mixer, (steps, weights) in tracks.items():
        shown = weights[:, order]
        if len(order) < len(names):
            shown = np.column_stack([shown, 1 - shown.sum(1)])
        panel = {"mixer": titles[mixer], "steps": steps, "weights": np.clip(shown, 0, 1).tolist()}
        ends = [row["budget"]["steps"] for row in cells[mixer] if "budget" in row]
        panels.append(panel | ({"end": max(ends)} if ends else {}))
    seeds = sorted({row["spec"]["seed"] for rows in cells.values() for row in rows})
    return {
        "partition": partition,
        "domains": [names[i] for i in order] + ([OTHER] if len(order) < len(names) else []),
        "seeds": f"mean of {len(seeds)} seeds" if comparable and len(seeds) > 1 else f"seed {seeds[0]}",
        "panels": panels,
    }


def _track(rows: Sequence[Row]) -> tuple[list[int], FloatArray]:
    """Steps [T] at which any seed changes its mixture, and the mean weights [T, m] in force from there."""
    steps = sorted({int(step) for row in rows for step, _ in row["mixture"]["requested"]})
    mean = np.mean([_in_force(row["mixture"]["requested"], steps) for row in rows], axis=0)
    return steps, np.asarray(mean, dtype=np.float64)


def _in_force(requested: Sequence[Any], steps: Sequence[int]) -> FloatArray:
    """[T, m] the mixture in force at each of these steps."""
    starts = [int(step) for step, _ in requested]
    last = np.searchsorted(starts, steps, side="right") - 1
    return np.asarray([requested[max(0, int(i))][1] for i in last], dtype=np.float64)


def _largest(weights: Sequence[FloatArray], m: int) -> list[int]:
    """Indices of the domains to show, in their own order: all, or those that reach the greatest weight somewhere."""
    if m <= SHOWN:
        return list(range(m))
    peak = np.max([w.max(0) for w in weights], axis=0)
    return sorted(np.argsort(-peak, kind="stable")[: SHOWN - 1].tolist())


def draw_mixtures(data: dict[str, Any]) -> Figure:
    """Stacked weights over steps: a block of panels and a legend per partition."""
    blocks = data["blocks"]
    most = max(len(block["panels"]) for block in blocks)
    columns = math.ceil(most / math.ceil(most / COLUMNS))
    heights = [max(math.ceil(len(b["panels"]) / columns) * 1.75, 0.19 * len(b["domains"])) + 0.5 for b in blocks]
    longest = max(len(name) for block in blocks for name in block["domains"])
    width, height = 0.62 + 1.75 * columns + 0.25 + 0.075 * max(8, longest), 0.7 + sum(heights)
    figure = Figure(figsize=(width, height))
    figure.text(0.62 / width, 1 - 0.34 / height, data["title"], fontsize=12, fontweight="bold", color=INK, va="center")
    top = height - 0.7
    for block, space in zip(blocks, heights, strict=True):
        _draw_block(figure, block, data["steps"], columns, top)
        top -= space
    return figure


def _draw_block(figure: Figure, block: dict[str, Any], steps: int, columns: int, top: float) -> None:
    """One partition's panels, from ``top`` inches downwards."""
    width, height = figure.get_size_inches()
    named = len(block["domains"]) - (block["domains"][-1] == OTHER)
    colours = [*COLOURS[:named], GREY][: len(block["domains"])]
    heading = f"{block['partition']}  ({block['seeds']})"
    figure.text(0.62 / width, top / height, heading, fontsize=10, color=INK, va="center")
    for i, panel in enumerate(block["panels"]):
        row, column = divmod(i, columns)
        left, bottom = 0.62 + 1.75 * column, top - 0.42 - 1.2 - 1.75 * row
        axes = figure.add_axes((left / width, bottom / height, 1.5 / width, 1.2 / height))
        edges = [*panel["steps"], panel.get("end", steps)]
        weights = np.asarray(panel["weights"])
        axes.stackplot(edges, np.vstack([weights, weights[-1:]]).T, step="post", colors=colours, linewidth=0)
        _dress(axes, panel["mixer"], steps, first=column == 0)
    handles = [Patch(color=c, label=n) for c, n in zip(colours, block["domains"], strict=True)]
    figure.legend(
        handles=handles[::-1],
        loc="upper left",
        bbox_to_anchor=((0.62 + 1.75 * columns - 0.1) / width, (top - 0.3) / height),
        frameon=False,
        fontsize=7.5,
        labelspacing=0.3,
        handlelength=1.0,
        handleheight=0.9,
    )


def _dress(axes: Axes, mixer: str, steps: int, *, first: bool) -> None:
    axes.set_title(mixer, fontsize=8.5, color=INK, pad=3, loc="left")
    axes.set_xlim(0, steps)
    axes.set_ylim(0, 1)
    axes.set_xticks([0, steps / 2, steps], ["0", "steps", f"{steps:,}"])
    left, _, right = axes.get_xticklabels()
    left.set_horizontalalignment("left")
    right.set_horizontalalignment("right")
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"] if first else ["", "", ""])
    if first:
        axes.set_ylabel("weight", fontsize=8, color=MUTED)
    axes.tick_params(colors=MUTED, labelsize=7.5, length=2)
    for spine in axes.spines.values():
        spine.set_visible(False)
