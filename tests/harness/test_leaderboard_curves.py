"""The metric against what was bought: which rows make a curve, its table and its picture."""

from __future__ import annotations

import numpy as np
import pytest

from harness.leaderboard.console import compare, terminal_table
from harness.leaderboard.curve_picture import curve_picture
from harness.leaderboard.curves import curves_of, tables
from harness.leaderboard.groups import split
from tests.harness.rows_factory import row


def bought(label, seed, score, runs, *, cost=0.1, outside=False, **spec):
    made = row(label.split("[")[0], seed, score, label=label, counted=cost * runs, **spec)
    made["overhead"]["purchases"] = {"runs": {"calls": runs, "flops": 7e12 * cost * runs}}
    made["table"] = {"support": {"outside": outside}}
    return made


def group(*extra):
    rows = [row("uniform", seed, 2.0) for seed in (0, 1)]
    for seed in (0, 1):
        for runs, score in ((12, 1.8), (24, 1.5), (96, 1.2)):
            rows.append(bought(f"regmix[model=linear,proxies={runs}]", seed, score + 0.1 * seed, runs))
        rows.append(bought("climb[proxies=24]", seed, 1.4, 24))
    (found,) = split([*rows, *extra])
    return found


def test_rows_that_differ_in_the_number_of_runs_make_one_curve_by_growing_number():
    found = curves_of(group())
    curve, _ = found.curves
    assert (curve.name, curve.partition) == ("regmix[model=linear]", "original")
    assert [point.runs for point in curve.points] == [12, 24, 96]
    np.testing.assert_allclose([point.cost for point in curve.points], [1.2, 2.4, 9.6])
    np.testing.assert_allclose([point.score.mean for point in curve.points], [1.85, 1.55, 1.25])
    assert found.baselines == (("uniform", 2.0),)
    assert found.metric == "bits_per_byte"
    assert not found.higher_is_better


def test_other_settings_make_other_curves_best_end_first():
    more = [bought(f"regmix[proxies={runs}]", seed, 1.0, runs) for runs in (12, 24) for seed in (0, 1)]
    assert [curve.name for curve in curves_of(group(*more)).curves] == ["regmix", "regmix[model=linear]", "climb"]


def test_a_mixer_with_one_number_of_runs_is_a_point_beside_a_curve():
    rows = [bought("sft_dmo", seed, 1.3, 69) for seed in (0, 1)]
    found = curves_of(group(*rows))
    assert [(curve.name, len(curve.points)) for curve in found.curves] == [
        ("regmix[model=linear]", 3),
        ("sft_dmo", 1),
        ("climb", 1),
    ]
    line = next(line for line in tables(found)[1].splitlines() if "sft_dmo" in line)
    assert [cell.strip() for cell in line.strip("|").split("|")][2:] == ["—", "—", "1.3000 ± 0.0000", "—"]
    picture = curve_picture(group(*rows))
    assert [point["runs"] for point in picture.data["curves"][1]["points"]] == [69]
    assert picture.png()[:4] == b"\x89PNG"


def test_without_two_numbers_of_runs_there_is_nothing_to_show():
    rows = [bought("climb[proxies=24]", seed, 1.4, 24) for seed in (0, 1)]
    (found,) = split([*rows, row("uniform", 0, 2.0)])
    assert curves_of(found) is None
    assert curve_picture(found) is None


def test_a_seed_that_bought_no_run_counts_as_none_and_breaks_no_table():
    alone = [bought(f"regmix[proxies={runs}]", seed, 1.0, runs) for runs in (12, 24) for seed in (0, 1)]
    for made, purchases in ((alone[2], {}), (alone[1], None)):  # a regrouper's one domain leaves nothing to search
        made["overhead"]["purchases"] = purchases
    curve = next(curve for curve in curves_of(group(*alone)).curves if curve.name == "regmix")
    assert [point.runs for point in curve.points] == [6, 12]


def test_the_table_has_a_column_a_number_of_runs_and_one_price_where_it_is_one():
    text = "\n".join(tables(curves_of(group())))
    assert text.startswith("Bits_per_byte by number of runs bought before training: ")
    head = text.splitlines()[1]
    assert [cell.strip() for cell in head.strip("|").split("|")] == [
        "partition",
        "mixer",
        "12 runs",
        "24 runs",
        "96 runs",
    ]
    assert "A run costs 0.1 main runs" in text
    assert "support" not in text


def test_prices_get_a_table_of_their_own_where_mixers_differ_and_support_is_marked():
    dear = [bought(f"admire[proxies={runs}]", 0, 1.0, runs, cost=0.5, outside=True) for runs in (12, 24)]
    text = "\n".join(tables(curves_of(group(*dear))))
    assert "What these runs cost in FLOPs, in main runs:" in text
    costs = next(line for line in text.split("main runs:")[1].splitlines() if "admire" in line)
    assert [cell.strip() for cell in costs.strip("|").split("|")][2:] == ["6", "12", "—"]
    scores = next(line for line in text.splitlines() if "admire" in line)
    assert scores.count(r"\*\*") == 2


@pytest.mark.parametrize("score", [1.0, -1.0])
def test_the_picture_holds_every_point_and_draws(score):
    more = [bought(f"regmix[proxies={runs}]", seed, score, runs) for runs in (12, 24) for seed in (0, 1)]
    picture = curve_picture(group(*more))
    assert [len(curve["points"]) for curve in picture.data["curves"]] == [2, 3, 1]
    assert picture.data["baselines"] == [["uniform", 2.0]]
    assert picture.png()[:4] == b"\x89PNG"


@pytest.mark.parametrize("shown", [terminal_table, lambda rows: compare(rows, "uniform")], ids=["run", "compare"])
def test_a_terminal_shows_the_same_table_after_the_group_s_own(shown):
    dear = [bought(f"admire[proxies={runs}]", 0, 1.0, runs, cost=0.5, outside=True) for runs in (12, 24)]
    text = shown(group(*dear).rows)
    own, lead, rest = text.partition("\n\nBits_per_byte by number of runs bought before training: ")
    assert lead
    assert "admire[proxies=12]" in own
    lines = rest.splitlines()
    assert lines[2].split() == ["partition", "mixer", "12", "runs", "24", "runs", "96", "runs"]
    assert set(lines[3]) == {"-", " "}, "not Markdown"
    assert lines[4].split() == ["original", "admire", "1.0000", "**", "1.0000", "**", "—"]
    assert "What these runs cost in FLOPs, in main runs:\n\npartition" in rest
    without = shown([row("uniform", seed, 2.0) for seed in (0, 1)] + [row("rnb", seed, 1.9) for seed in (0, 1)])
    assert "number of runs bought" not in without
