"""Rows that are the same, and rows that are less comparable than they look."""

from __future__ import annotations

import pytest

from harness.leaderboard import compare, terminal_table
from harness.leaderboard.cautions import _OTHER, of_all
from harness.leaderboard.groups import split
from harness.leaderboard.notes import HOW_TO_READ, facts, verdicts
from harness.leaderboard.publish import generate
from harness.leaderboard.standings import standing
from harness.leaderboard.tables import group_markdown
from tasks.surrogates import SURROGATES
from tests.harness import rows_factory as factory

UNIFORM = [2.00, 2.02, 2.04]
RNB = [1.90, 1.91, 1.92]
NATURAL = [2.001, 2.019, 2.04]


def board(**kw):
    return [
        *factory.series("uniform", UNIFORM, **kw),
        *factory.series("rnb", RNB, **kw),
        *factory.series("natural", NATURAL, **kw),
    ]


def twins(**kw):
    return [*board(**kw), *factory.series("unimax", UNIFORM, **kw)]


def only(rows):
    (group,) = split(rows)
    return group


def said(rows):
    return "\n".join(verdicts(standing(only(rows))))


def test_twins_change_no_test_and_show_their_twins_numbers():
    alone, both = standing(only(board())), standing(only(twins()))
    assert (both.tests, both.pairs) == (alone.tests, alone.pairs) == (3, 3)
    assert both.detectable == alone.detectable
    assert both.detectable[0] > 0
    lines = {line.cell[1]: line for line in both.lines}
    assert lines["unimax"].letters == lines["uniform"].letters == "b"
    assert lines["unimax"].baselines["natural"].p_holm == lines["uniform"].baselines["natural"].p_holm
    before = next(line for line in alone.lines if line.cell[1] == "rnb")
    assert lines["rnb"].baselines["uniform"].p_holm == before.baselines["uniform"].p_holm
    assert lines["rnb"].letters == before.letters == "a"


def test_twin_baselines_are_one_test():
    rows = [*factory.series("uniform", UNIFORM), *factory.series("rnb", RNB), *factory.series("natural", UNIFORM)]
    result = standing(only(rows))
    assert (result.tests, result.pairs) == (1, 1)
    best = result.lines[0].baselines
    assert best["natural"].p_holm == best["uniform"].p_holm == pytest.approx(0.0027435, rel=1e-3)


def test_identical_is_said_instead_of_zeros():
    text = group_markdown(only(twins()))
    row = next(line for line in text.splitlines() if " unimax " in line)
    assert [cell.strip() for cell in row.split("|")][7] == "identical"
    assert "0.0000 ± 0.0000" not in text
    assert "not separable: original (natural); identical: original (unimax)." in text
    assert "- `unimax` gave the same results as `uniform` in every seed (original)." in text


def test_compare_says_identical_and_counts_twins_once():
    text = compare(twins(), "uniform")
    row = " ".join(next(line for line in text.splitlines() if " unimax " in line).split())
    assert row == "original unimax original/uniform identical no test identical 0/3 identical —"
    assert "Holm over 2 tests" in text
    assert "Holm over 2 tests" in compare(twins(), "rnb")
    assert "`unimax` gave the same results as `uniform` in every seed (original)." in text


def test_twins_are_named_over_partitions_seeds_and_metrics():
    rows = twins() + twins(partition="kmeans")
    for row in rows:
        if row["spec"]["partition_label"] == "kmeans":
            row["metrics"]["bits_per_byte"]["target"] += 0.001 * (1 + row["spec"]["seed"])
    assert "`unimax` gave the same results as `uniform` in every seed (original, kmeans)." in said(rows)
    # A table whose partition leaves the domains as they are.
    across = said(board() + board(partition="same"))
    assert "`same/uniform` gave the same results as `original/uniform` in every seed." in across
    fewer = [row for row in twins() if row["id"] != "text-nano-original-unimax-s2"]
    assert "`unimax` gave the same results as `uniform` in every seed that both have (original)." in said(fewer)
    rows = twins()
    rows[-1]["metrics"]["accuracy"]["target"] = 0.1
    assert "`unimax` has the bits_per_byte of `uniform` in every seed (original)." in said(rows)
    assert "same results" not in said(board())


def test_other_libraries_and_machines_are_a_fact():
    rows = board()
    assert "bit for bit" not in " ".join(facts(only(rows)))
    rows[1]["provenance"]["versions"] = {"torch": "2.14", "numpy": "2.4"}
    line = "made with different versions (torch 2.11 and 2.14, numpy 2.4 and unknown)"
    tail = "; equal seeds may not share weights bit for bit"
    assert line + tail in facts(only(rows))
    assert line + tail in terminal_table(rows)
    rows[1]["provenance"]["hardware"] = {"cpu": "Another", "cores": 2}
    assert f"{line} and on different hardware{tail}" in facts(only(rows))
    rows[1]["provenance"]["versions"] = {"torch": "2.11", "python": "3.14"}
    assert f"made on different hardware{tail}" in facts(only(rows))


def test_different_cuts_of_one_seed_are_a_warning():
    rows = board(partition="kmeans")
    shares = [0.1, 0.2, 0.3, 0.4]
    for row in rows:
        if row["spec"]["seed"] == 1:
            row["domains"]["train_shares"] = shares
    assert "warning" not in " ".join(facts(only(rows)))
    rows[4]["domains"]["train_shares"] = [0.1, 0.2, 0.4, 0.3]
    warning = "warning: rows of kmeans, seed 1, differ in the shares of their train domains"
    assert any(line.startswith(warning) for line in facts(only(rows)))
    assert warning in terminal_table(rows)
    assert warning in compare(rows, "uniform")
    rows[4]["domains"]["train_shares"] = [0.1, 0.2, 0.7]
    assert any(line.startswith(warning) for line in facts(only(rows)))


def test_means_over_other_seeds_are_pointed_out():
    line = (
        "Not all rows have the same seeds: means of rows with fewer seeds are over other seeds; "
        "only differences (Δ) and letters compare like with like."
    )
    assert line not in said(board())
    assert line in said(board()[:-1])


def test_one_row_alone_is_not_blamed_on_seeds():
    text = said(factory.series("uniform", UNIFORM))
    assert "Too few seeds" not in text
    assert "Nothing is compared: this table has only one row with a score." in text
    assert "No row can be compared with `uniform`: no other row stands on its partition." in text
    assert "No row can be compared with `natural`: it has no trial with a score on any of these partitions." in text


def test_no_shared_seed_is_said_as_that():
    rows = [factory.row("uniform", 7), factory.row("uniform", 8, 2.1), *factory.series("rnb", RNB)]
    text = said([*rows, *factory.series("doremi", [1.8, 1.82, 1.83])])
    assert "No row can be compared with `uniform`: no other row on its partition shares a seed with it." in text
    assert "No row is compared with a baseline." in text
    assert "1 test between all rows (letters, Holm)." in text
    assert "Too few seeds" not in text
    elsewhere = said([*factory.series("uniform", UNIFORM), *factory.series("rnb", RNB, partition="kmeans")])
    assert "No row can be compared with `uniform`: no other row stands on its partition." in elsewhere


def test_only_twins_are_nothing_to_test():
    text = said([*factory.series("uniform", UNIFORM), *factory.series("unimax", UNIFORM)])
    assert "Nothing to test against a baseline" in text
    assert "Too few seeds" not in text


def test_few_seeds_of_a_baseline_do_not_deny_what_letters_separate():
    rows = [factory.row("uniform", 0, 2.0), *factory.series("rnb", RNB), *factory.series("doremi", [1.7, 1.71, 1.72])]
    text = said(rows)
    assert "Too few seeds to separate anything from a baseline: a paired test needs two seeds" in text


def test_the_guide_says_what_pairing_takes_out():
    guide = " ".join(HOW_TO_READ.split())
    assert 'Rows of different partitions, as in "Against `original`", share the initial weights only.' in guide


def test_mixtures_that_collapse_or_never_move_are_named():
    even, close, alone = [0.25] * 4, [0.26, 0.24, 0.25, 0.25], [0.997, 0.001, 0.001, 0.001]
    names = ("a", "b", "c", "d")
    rows = [
        *factory.series("uniform", UNIFORM, domains=names),
        *(factory.row("still", seed, 2.0 + seed, domains=names, requested=[[0, even], [9, close]]) for seed in (0, 1)),
        factory.row("greedy", 0, 2.0, domains=names, requested=[[0, even], [5, alone], [9, even]]),
        factory.row("lively", 0, 2.0, domains=names, requested=[[0, even], [5, [0.4, 0.3, 0.2, 0.1]]]),
    ]
    text = said(rows)
    assert "`original/still` never left the uniform mixture in seeds 0-1." in text
    assert "`original/greedy` collapsed to one domain in seed 0." in text
    assert "`original/lively`" not in text
    assert "`original/uniform` never" not in text, "a static mixture is meant to be what it is"


ALONE = (
    "Judged by one surrogate ({}) alone{}: a mixer whose own model is of that family may be favoured; run with {}, too."
)


def replayed(surrogate, path="t.csv", **config):
    """Rows of a tabular task; the table's contents are those that its path names."""
    config |= {"path": path, "surrogate": surrogate}
    rows = board(task="tabular", task_config=config, fingerprint=f"sha256:{path}")
    for row in rows:
        row["data"] = {"surrogate": surrogate}
        row["id"] += f"-{surrogate}-{path}-{sorted(config)}"
    return rows


@pytest.mark.parametrize(("name", "other"), [("gp", "surrogate=trees, which needs 20 runs"), ("trees", "surrogate=gp")])
def test_one_surrogate_alone_is_a_caution_wherever_tables_are_shown(name, other):
    line = ALONE.format(name, "", other)
    texts, _ = generate(replayed(name), "A board")
    for text in (terminal_table(replayed(name)), compare(replayed(name), "uniform"), texts["README.md"]):
        assert text.count(line) == 1


def test_two_surrogates_of_one_table_need_no_caution():
    both = replayed("gp") + replayed("trees")
    texts, _ = generate(both, "A board")
    for text in (terminal_table(both), compare(both, "uniform"), texts["README.md"], terminal_table(board())):
        assert "Judged by" not in text


def test_the_caution_names_the_tables_where_others_have_both_or_no_surrogate():
    rows = [*replayed("gp"), *replayed("trees"), *replayed("trees", "other.csv"), *board()]
    which = " (tabular at nano (path=other.csv, surrogate=trees))"
    assert of_all(split(rows)) == [ALONE.format("trees", which, "surrogate=gp")]
    rows = replayed("gp", target={"a": 1}) + replayed("trees")
    said = of_all(split(rows))
    assert [line.split(" alone")[0] for line in said] == [
        "Judged by one surrogate (gp)",
        "Judged by one surrogate (trees)",
    ]
    assert "{'a': 1}" in said[0]


def test_rows_that_failed_judge_nothing():
    other = [factory.failed("rnb", task="tabular", task_config={"path": "t.csv", "surrogate": "trees"})]
    assert len(of_all(split([*replayed("gp"), *other]))) == 1


def test_the_cautions_know_the_surrogates_and_what_they_need():
    assert set(_OTHER) == set(SURROGATES)
    assert _OTHER["gp"].endswith(f"needs {SURROGATES['trees'].least_rows} runs")
