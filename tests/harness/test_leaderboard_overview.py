"""Several boards in one table: what is called better, which rows stand there, and the page that holds it."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.leaderboard.overview import BEGIN, END, overview, put_into
from harness.leaderboard.publish import publish
from harness.leaderboard.rows import RowsError
from tests.harness.rows_factory import row

NOISE = (0.0, 0.01, -0.01, 0.02, 0.005)


def board(tmp_path, name, **means):
    """A published board; means: by mixer label, of bits per byte, which is better when lower."""
    rows = []
    for label, (mean, spread) in means.items():
        partition, _, mixer = label.rpartition("__")
        for seed, noise in enumerate(NOISE):
            made = row(mixer, seed, mean + noise + spread * (-1) ** seed, partition=partition or "original")
            rows.append(made)
    return publish(rows, tmp_path, name)


@pytest.fixture
def boards(tmp_path):
    first = board(tmp_path, "a", natural=(2.0, 0), good=(1.8, 0.001), bad=(2.3, 0.001), noisy=(1.9, 0.5))
    more = {"natural": (2.0, 0), "good": (2.0, 0), "kmeans__rnb": (1.7, 0.001), "kmeans__natural": (2.0, 0.3)}
    return [first, board(tmp_path, "b", **more)]


def cells(text, name):
    line = next(line for line in text.splitlines() if line.startswith(f"| {name} "))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_a_gain_is_positive_whichever_way_is_better_and_tests_are_the_boards_own(boards):
    text = overview(boards, "natural")
    assert cells(text, "good") == ["better +0.200", "identical"]
    assert cells(text, "bad") == ["worse -0.300", "—"]
    assert cells(text, "noisy")[0][0] in "+-", "not separable: the number alone"


def test_other_partitions_are_compared_with_the_original_baseline(boards):
    text = overview(boards, "natural")
    assert cells(text, "kmeans / rnb") == ["better +0.300"]
    assert cells(text, "kmeans / natural")[0][0] in "+-"
    assert "good" not in text.split("On other partitions")[1]


def test_of_several_numbers_of_runs_the_most_stands_there(tmp_path):
    rows = [row("natural", seed, 2.0 + noise) for seed, noise in enumerate(NOISE)]
    for runs, score in ((12, 1.9), (24, 1.6)):
        for seed, noise in enumerate(NOISE):
            label = f"regmix[proxies={runs}]"
            rows.append(row("regmix", seed, score + noise + 0.001 * (-1) ** seed, label=label, counted=0.1 * runs))
    text = overview([publish(rows, tmp_path, "c")], "natural")
    assert cells(text, "regmix") == ["better +0.400 (240.0 %)"], "at 24 runs of a tenth"


def test_a_page_gets_it_between_its_marks_and_nothing_else_changes(boards, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"# Head\n\n{BEGIN}\nold\n{END}\n\nfoot\n")
    result = CliRunner().invoke(main, ["overview", *map(str, boards), "--into", str(page)])
    assert result.exit_code == 0, result.output
    text = page.read_text()
    assert text.startswith(f"# Head\n\n{BEGIN}\n")
    assert text.endswith(f"{END}\n\nfoot\n")
    assert "old" not in text
    assert overview(boards, "natural") in text
    assert not put_into(page, overview(boards, "natural"))


def test_what_is_missing_is_one_line(boards, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("no marks")
    result = CliRunner().invoke(main, ["overview", str(boards[0]), "--into", str(page)])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert page.read_text() == "no marks"
    alone = board(tmp_path, "d", good=(1.0, 0))
    with pytest.raises(RowsError, match="has a row of natural"):
        overview([alone], "natural")
