"""The picture of quality against overhead, and of the other cuts below it."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from harness.leaderboard.groups import split
from harness.leaderboard.quality_picture import draw_quality, quality_picture
from tests.harness import rows_factory as factory


def drawn(rows):
    (group,) = split(rows)
    picture = quality_picture(group)
    assert picture is not None
    figure = draw_quality(picture.data)
    FigureCanvasAgg(figure).draw()
    return figure


def labels_of(axes):
    return [tick.get_text() for tick in axes.get_yticklabels()]


CROWD = [
    *factory.series("uniform", [2.0, 2.1]),
    *factory.series("natural", [2.2, 2.3]),
    *[row for i in range(9) for row in factory.series(f"method_{i}", [2.0 + 0.001 * i, 2.1], counted=3.1)],
]
CUT = [
    *factory.series("uniform", [2.4, 2.5], partition="kmeans", regrouping=1.33),
    *factory.series("rnb", [2.2, 2.3], partition="kmeans", regrouping=1.33, counted=0.004),
    *factory.series("rnb", [2.6, 2.7], partition="climb", regrouping=0.02),
]


def test_labels_alone_are_one_panel():
    figure = drawn(CROWD)
    (axes,) = figure.axes
    assert axes.get_xlabel().startswith("FLOPs")
    assert not any("other cuts" in text.get_text() for text in figure.texts)


def test_other_cuts_are_rows_below_the_best_of_a_cut_first_with_what_they_cost():
    above, below = drawn([*CROWD, *CUT]).axes
    assert labels_of(below) == ["climb / rnb, 2.0 %", "kmeans / rnb, 133 %", "kmeans / uniform, 133 %"]
    assert below.yaxis_inverted(), "the first row is on top"
    assert above.get_title(loc="left") == "original"
    lines = {round(float(line.get_xdata()[0]), 6) for line in below.get_lines() if line.get_linestyle() == "--"}
    assert lines == {2.05, 2.25}, "uniform and natural on the original domains"


def test_a_score_where_higher_is_better_ranks_the_other_way():
    rows = [*CROWD, *CUT]
    for row in rows:
        row["metrics"]["bits_per_byte"]["higher_is_better"] = True
    try:
        _, below = drawn(rows).axes
        assert labels_of(below)[1:] == ["kmeans / uniform, 133 %", "kmeans / rnb, 133 %"]
    finally:
        for row in rows:
            row["metrics"]["bits_per_byte"]["higher_is_better"] = False


def test_cuts_without_the_labels_are_drawn_too():
    above, below = drawn([row for row in CUT if row["spec"]["mixer"] == "rnb"]).axes
    assert above.get_title(loc="left") == "climb"
    assert labels_of(below) == ["kmeans / rnb, 133 %"]


@pytest.mark.parametrize("rows", [CROWD, [*CROWD, *CUT]])
def test_no_name_covers_another_and_none_leaves_the_picture(rows):
    figure = drawn(rows)
    renderer = figure.canvas.get_renderer()
    boxes = [Text.get_window_extent(text, renderer) for text in figure.axes[0].texts]  # without the thin lines
    assert len(boxes) == 11
    for one, other in combinations(boxes, 2):
        assert not one.overlaps(other)
    for box in boxes:
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.width
    assert np.isfinite([box.y0 for box in boxes]).all()
