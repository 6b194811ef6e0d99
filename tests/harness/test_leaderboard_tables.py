"""What tables say: numbers by hand, verdicts, failures, gaps."""

from __future__ import annotations

import pytest

from harness.leaderboard import RowsError, compare, terminal_table, wording
from harness.leaderboard.groups import split
from harness.leaderboard.standings import standing
from harness.leaderboard.tables import group_markdown, leaderboard_csv
from harness.leaderboard.wording import LONGEST, short_names
from tests.harness import rows_factory as factory

UNIFORM = [2.00, 2.02, 2.04]


def small_board():
    """Differences to uniform: rnb -0.10 -0.11 -0.12, natural +0.001 -0.001 0.0."""
    return [
        *factory.series("uniform", UNIFORM),
        *factory.series("rnb", [1.90, 1.91, 1.92], counted=0.0053, paper=9e-5),
        *factory.series("natural", [2.001, 2.019, 2.04]),
    ]


def only(rows):
    (group,) = split(rows)
    return group


def line_of(markdown, *words):
    return next(line for line in markdown.splitlines() if all(f" {word} " in line for word in words))


def test_standing_by_hand():
    result = standing(only(small_board()))
    assert [line.cell[1] for line in result.lines] == ["rnb", "natural", "uniform"]
    assert result.tests == 3  # rnb-uniform, rnb-natural, natural-uniform once
    assert result.pairs == 3
    best = result.lines[0]
    assert best.score.mean == pytest.approx(1.91)
    assert best.macro == pytest.approx(1.96)
    assert best.worst == ("quotations", pytest.approx(2.01))
    comparison = best.baselines["uniform"]
    # mean -0.11, sd 0.01: t = -0.11 / (0.01 / sqrt(3)) = -19.05, p = 0.002744. Against natural the differences are
    # -0.101 -0.109 -0.120: sd 0.009539, t = -19.97, p = 0.002498, by Holm x 3 = 0.007493, to which the next,
    # 0.002744 x 2 = 0.005487, is raised.
    assert comparison.paired.difference.mean == pytest.approx(-0.11)
    assert comparison.paired.p == pytest.approx(0.0027435, rel=1e-3)
    assert comparison.p_holm == pytest.approx(0.007493, abs=1e-5)
    assert [line.letters for line in result.lines] == ["a", "b", "b"]


def reference_board():
    """The small board with a yardstick that would be its best row."""
    rows = factory.series("best_static", [1.80, 1.83, 1.81], counted=16.0)
    return [*small_board(), *(row | {"reference": True} for row in rows)]


def test_a_reference_takes_no_part_in_the_tests():
    plain, result = standing(only(small_board())), standing(only(reference_board()))
    first, *others = result.lines
    assert (first.cell[1], first.letters, first.reference) == ("best_static", "", True)
    assert (result.tests, result.pairs, result.detectable) == (plain.tests, plain.pairs, plain.detectable)
    assert [(line.letters, line.baselines) for line in others] == [
        (line.letters, line.baselines) for line in plain.lines
    ]
    assert first.baselines["uniform"].paired.difference.mean == pytest.approx(-0.20667, abs=1e-5)
    assert first.baselines["uniform"].p_holm is None


def test_a_reference_is_named_so():
    text, before = (group_markdown(only(rows)) for rows in (reference_board(), small_board()))
    assert "best_static (reference)" in text
    assert "`best_static` is a reference and no method: it has no letters and no part in the tests." in text
    assert "best_static (reference)" in terminal_table(reference_board())
    verdict = next(line for line in text.splitlines() if line.startswith("- Against `uniform`"))
    assert verdict in before
    assert "reference" not in before
    assert "reference" not in leaderboard_csv([only(small_board())]).splitlines()[0].split(",")
    assert "reference" in leaderboard_csv([only(reference_board())]).splitlines()[0].split(",")


def test_markdown_says_it_all():
    text = group_markdown(only(small_board()))
    row = line_of(text, "rnb", "a")
    assert "1.9100 ± 0.0248" in row
    assert "-0.1100 ± 0.0248 p=0.007" in row
    assert "↓ bits/byte" in text
    assert line_of(text, "uniform", "b").split("|")[7].strip() == "—"
    verdict = "better: original (rnb); worse: none; not separable: original (natural)."
    assert f"Against `uniform` on the same partition: {verdict}" in text
    assert "3 tests against baselines (p, Holm) and 3 between all rows (letters, Holm)" in text
    assert "Smallest detectable difference against a baseline: " in text
    cost = line_of(text[text.index("### Cost") :], "rnb", "0.53")
    assert [cell.strip() for cell in cost.split("|")[4:-1]] == ["0.53", "0.020", "—", "—", "0", "0.000", "0.0090"]
    assert "corpus aaaabbbbcccc, protocol 1, commit 0123456789" in text
    assert "Some CPU, 2 cores" in text
    assert "### Failed" not in text
    assert "### Against `original`" not in text


def test_higher_is_better_turns_the_table():
    rows = small_board()
    for row in rows:
        row["metrics"]["bits_per_byte"]["higher_is_better"] = True
    result = standing(only(rows))
    assert result.lines[-1].cell[1] == "rnb"
    assert result.lines[-1].worst[0] == "code"
    assert "worse: original (rnb)" in group_markdown(only(rows))


def test_regrouped_rows_stand_against_original_in_one_family():
    rows = small_board() + factory.series("rnb", [1.85, 1.86, 1.88], partition="kmeans")
    rows += factory.series("uniform", [2.01, 2.02, 2.06], partition="kmeans")
    result = standing(only(rows))
    cell = next(line for line in result.lines if line.cell == ("kmeans", "rnb"))
    assert cell.against_original["uniform"].paired.difference.mean == pytest.approx((-0.15 - 0.16 - 0.16) / 3)
    assert cell.baselines["uniform"].baseline == ("kmeans", "uniform")
    assert "natural" not in cell.baselines
    # original: 3; kmeans: rnb-uniform there, and both rows against both baselines on original
    assert result.tests == 3 + 1 + 4
    text = group_markdown(only(rows))
    part = text[text.index("### Against `original`") : text.index("### By original domain")]
    assert "kmeans" in part
    assert "| original" not in part
    assert "no trial at all: kmeans (natural)" in text


def test_failures_and_gaps_are_named():
    rows = [*small_board(), factory.failed("doremi", 0, reason="ran past 60 s | <b>"), factory.row("doremi", 1, 2.0)]
    rows = [row for row in rows if row["id"] != "text-nano-original-rnb-s2"]
    text = group_markdown(only(rows))
    assert "failed: text-nano-original-doremi-s0 (timeout): ran past 60 s \\| &lt;b>" in text
    assert "missing: original/doremi, seed 2" in text
    assert "missing: original/rnb, seed 2" in text
    assert "-0.1050 ± 0.0635" in line_of(text, "rnb", "2")


def test_a_score_that_is_no_number_is_a_failure():
    rows = small_board()
    rows[3]["metrics"]["bits_per_byte"]["target"] = None
    text = group_markdown(only(rows))
    assert "failed: text-nano-original-rnb-s0 (bits_per_byte is not a number)" in text


def test_delta_over_fewer_seeds_than_the_row_has_says_so():
    rows = [row for row in small_board() if row["id"] != "text-nano-original-uniform-s0"]
    # differences -0.11 and -0.12: t = 23 with one degree of freedom, p = 2 / pi * atan(1 / 23) = 0.02766, by Holm x 2
    assert "-0.1150 ± 0.0635 p=0.055 [n=2]" in line_of(group_markdown(only(rows)), "rnb", "3")


def test_one_seed_separates_nothing_and_says_so():
    text = group_markdown(only([factory.row(), factory.row("rnb", 0, 1.9)]))
    assert "Too few seeds to separate anything: a paired test needs two seeds" in text
    assert "-0.1000 no test" in text


def test_few_seeds_and_much_noise_separate_nothing_and_say_so():
    rows = [*factory.series("uniform", [2.0, 2.1]), *factory.series("rnb", [1.98, 2.1])]
    assert "Too few seeds to separate anything: the largest difference" in group_markdown(only(rows))


def test_no_score_at_all_is_a_section_with_the_reasons():
    text = group_markdown(only([factory.failed("rnb"), factory.failed("uniform", status="oom", reason="")]))
    assert "No trial of this group has a score." in text
    assert "(oom)" in text
    assert "no trial has a score" in terminal_table([factory.failed("rnb")])


def test_terminal_table_splits_and_says_why():
    text = terminal_table([*small_board(), factory.row(fingerprint="sha256:other", seed=7)])
    assert text.startswith("text at nano: 2 tables, because rows differ in fingerprint")
    assert "-0.1100 ± 0.0248 p=0.007" in text
    assert terminal_table([]) == "no rows"


def test_compare_with_a_baseline_of_choice():
    text = compare(small_board(), "rnb")
    row = " ".join(line_of(text, "uniform", "worse").split())
    assert row.startswith("original uniform original/rnb +0.1100 ± 0.0248 p=0.005 worse 0/3 +0.1100 ± 0.0248 ")
    assert "Holm over 2 tests" in text
    assert "original/uniform" in compare(small_board(), "original/uniform")
    with pytest.raises(RowsError, match="no rows of a baseline 'unifrom' \\(did you mean 'uniform'"):
        compare(small_board(), "unifrom")


def test_compare_tests_no_reference_and_names_it():
    plain, text = compare(small_board(), "rnb"), compare(reference_board(), "rnb")
    assert "Holm over 2 tests" in text
    assert line_of(text, "uniform").split() == line_of(plain, "uniform").split()
    assert "reference" in line_of(text, "best_static", "reference")
    assert "Holm over 3 tests" in compare(reference_board(), "best_static"), "who asks for it gets it"


def test_csv_has_the_table_in_numbers():
    lines = leaderboard_csv([only(small_board())]).splitlines()
    assert len(lines) == 4
    header, best = (line.split(",") for line in lines[:2])
    cells = dict(zip(header, best, strict=True))
    assert (cells["mixer"], cells["group"], cells["place"], cells["n"]) == ("rnb", "a", "1", "3")
    assert float(cells["delta_uniform"]) == pytest.approx(-0.11)
    assert cells["cost_counted"] == "0.0053"
    assert cells["domain_code"] == "1.81"


def test_numbers_in_words():
    assert wording.number(-0.00001, 2) == "0.00"
    assert wording.number(0.00001, 2, sign=True) == "0.00"
    assert wording.number(float("nan"), 2) == "—"
    assert [wording.percent(v) for v in (None, 0.0, 9e-5, 0.0053, 0.123)] == ["—", "0", "0.0090", "0.53", "12.3"]
    assert wording.spans([0, 1, 2, 5, 7, 8]) == "0-2, 5, 7-8"
    assert [wording.probability(p) for p in (None, 0.0004, 0.0123, 0.34)] == ["no test", "p<0.001", "p=0.012", "p=0.34"]
    assert [wording.digits([v]) for v in (0.5, 2.0, 25.0, 12345.0, 0.0)] == [5, 4, 3, 0, 4]


def with_baseline(rows):
    for one in rows:
        one["metrics"]["bits_per_byte"]["baseline"] = {
            "target": 7.5, "macro": 7.25, "by_domain": {"code": 7.1, "speeches": 7.4}
        }  # fmt: skip
    return rows


def test_what_needs_no_learning_stands_below_the_domains():
    group = only(with_baseline(small_board()))
    text = group_markdown(group)
    last = next(line for line in text.splitlines() if "no learning" in line)
    assert [cell.strip() for cell in last.split("|")[4:-1]] == ["7.1000", "7.4000", "—"]
    assert "Without learning (the best constant answer, or chance): bits_per_byte 7.5 (macro 7.25)." in text
    assert "7.5" in leaderboard_csv([group]).splitlines()[1].split(",")
    assert "no learning" not in group_markdown(only(small_board()))


def test_other_metrics_have_interval_macro_and_worst_domain():
    text = group_markdown(only(small_board()))
    assert "↑ accuracy" in text
    row = [line for line in text.splitlines() if " rnb " in line and "; code" in line]
    # 0.5 - score / 10 over the seeds: .310, .309, .308
    assert "0.3090 ± 0.0025; 0.3000; code 0.300" in row[0]


def test_tables_of_one_task_and_preset_say_what_sets_them_apart():
    rows = [
        *factory.series("uniform", UNIFORM, task_config={"domain": "task", "context": 8}, partition="original"),
        *factory.series("uniform", UNIFORM, task_config={"domain": "source", "context": 8}, fingerprint="sha256:b"),
    ]
    for index, one in enumerate(rows):
        one["id"] += f"-{index}"
    assert sorted(group_markdown(group).split("\n")[0] for group in split(rows)) == [
        "## text at nano (domain=source)",
        "## text at nano (domain=task)",
    ]


def test_names_in_a_picture_say_what_tells_rows_apart():
    labels = [
        "rnb",
        "rnb[lam=3,layers=0]",
        "doremi[proxy_share=0.5,smoothing=0.1]",
        "doremi[proxy_share=0.5]",
        "ado[every=5]",
    ]
    assert short_names(labels) == {
        "rnb": "rnb",
        "rnb[lam=3,layers=0]": "rnb[lam=3,layers=0]",
        "doremi[proxy_share=0.5,smoothing=0.1]": "doremi[smoothing=0.1]",
        "doremi[proxy_share=0.5]": "doremi",
        "ado[every=5]": "ado",
    }
    long = [f"m[a=1,bases=[{{x: {i}}}, {{y: 1}}],with_a_long_name={i}]" for i in range(2)]
    assert all(len(name) == LONGEST and name.endswith("…") for name in short_names(long).values())
    assert short_names(["m #1a2b", "m #3c4d"]) == {"m #1a2b": "m #1a2b", "m #3c4d": "m #3c4d"}
