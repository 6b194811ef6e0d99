"""What the pictures have in common."""

from __future__ import annotations

from matplotlib.axes import Axes

INK, MUTED, GRID = "#1f2328", "#59636e", "#d8dee4"
# Okabe and Ito's colours, told apart with any colour vision; curves differ in the marker as well.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#8c564b")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def quiet(axes: Axes) -> None:
    """Lines that stay behind the data."""
    axes.grid(True, color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GRID)
