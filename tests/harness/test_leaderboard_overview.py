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
            rows[-1]["overhead"]["purchases"] = {"runs": {"calls": runs, "flops": 7e11 * runs}}
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


def several(tmp_path, differing):
    """A board of two tables: the second's rows have what differs, and rnb is better in the first alone."""
    rows = []
    for number, more in enumerate(({}, differing)):
        for seed, noise in enumerate(NOISE):
            rows.append(row("natural", seed, 2.0 + noise, **more))
            rows.append(row("rnb", seed, (1.8, 2.3)[number] + noise + 0.001 * (-1) ** seed, **more))
        for made in rows[-2 * len(NOISE) :]:
            made["id"] += f"-{number}"
    return publish(rows, tmp_path, "z")


@pytest.mark.parametrize(
    ("differing", "told"),
    [
        ({"steps": 100}, ["steps=1000", "steps=100"]),
        ({"preset": "small"}, ["preset=nano", "preset=small"]),
        ({"task": "reasoning"}, ["task=text", "task=reasoning"]),
        ({"budget_rule": "total"}, ["budget_rule=main", "budget_rule=total"]),
        ({"fingerprint": "other"}, ["fingerprint=sha256:aaaabbbbcccc", "fingerprint=other"]),
        ({"protocol": 2, "fingerprint": "other"}, ["protocol=1", "protocol=2"]),
        ({"task_config": {"width": 9}, "fingerprint": "other"}, ["", "width=9"]),
    ],
)
def test_tables_of_one_board_have_columns_of_their_own(tmp_path, differing, told):
    text = overview([several(tmp_path, differing)], "natural")
    head = cells(text, "mixer")
    found = dict(zip(head, cells(text, "rnb"), strict=True))
    names = [f"z ({each})" if each else "z" for each in told]
    assert found == {names[0]: "better +0.200", names[1]: "worse -0.300"}


def test_boards_of_one_name_are_two_and_one_named_twice_is_one(tmp_path):
    one = board(tmp_path / "p", "a", natural=(2.0, 0), good=(1.8, 0.001))
    other = board(tmp_path / "q", "a", natural=(2.0, 0), good=(2.3, 0.001))
    text = overview([one, other, one / ".." / "a"], "natural")
    assert sorted(zip(cells(text, "mixer"), cells(text, "good"), strict=True)) == [
        (str(one), "better +0.200"),
        (str(other), "worse -0.300"),
    ]


def test_a_board_of_cuts_alone_is_compared_with_its_original_baseline(tmp_path):
    made = board(tmp_path, "e", natural=(2.0, 0), kmeans__rnb=(1.7, 0.001))
    assert cells(overview([made], "natural"), "kmeans / rnb") == ["better +0.300"]


def test_settings_of_mixers_that_buy_no_runs_are_no_numbers_of_runs(tmp_path):
    more = {"tikmix_m[mixtures=64]": (1.9, 0.001), "tikmix_m[mixtures=256]": (1.6, 0.001)}
    text = overview([board(tmp_path, "f", natural=(2.0, 0), **more)], "natural")
    assert cells(text, "tikmix_m[mixtures=64]") == ["better +0.100"]
    assert cells(text, "tikmix_m[mixtures=256]") == ["better +0.400"]


def test_a_page_whose_marks_are_in_the_wrong_order_is_left_alone(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(before := f"head\n{END}\nmiddle\n{BEGIN}\nfoot\n")
    with pytest.raises(RowsError, match="and, below it,"):
        put_into(page, "text")
    assert page.read_text() == before
