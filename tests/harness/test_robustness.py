"""Effective robustness: the line by hand, the table, the picture, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from scipy.special import expit, logit

from harness.cli import main
from harness.errors import UserError
from harness.leaderboard.robustness import fit, robustness, table
from harness.leaderboard.robustness_picture import robustness_picture

from . import rows_factory as factory

NAMES = {"inside": ["code", "speeches"], "shifted": ["quotations"], "metric": "accuracy"}


def row(mixer: str, inside: float, shifted: float, seed: int = 0, apart: float = 0.0, **more):
    made = factory.row(mixer, seed, **more)
    made["id"] += f"-{made['spec']['steps']}"
    made["metrics"]["accuracy"]["by_domain"] = {
        "code": inside - apart, "speeches": inside + apart, "quotations": shifted,
    }  # fmt: skip
    return made


def family(*accuracies: float, intercept: float = -1.0, slope: float = 0.5):
    return [
        row("uniform", x, float(expit(intercept + slope * logit(x))), steps=100 * i)
        for i, x in enumerate(accuracies, 1)
    ]


def test_the_line_by_hand():
    # Logits 0, 1, 2 against 0, 2, 1: means 1 and 1, slope (1 * 1 + 1 * 0) / 2 = 1/2, and 1.5 of 2 unexplained.
    line = fit(expit([0.0, 1.0, 2.0]).tolist(), expit([0.0, 2.0, 1.0]).tolist())
    assert (line.slope, line.intercept, line.points) == (pytest.approx(0.5), pytest.approx(0.5), 3)
    assert line.r2 == pytest.approx(0.25)
    assert line.expected(0.5) == pytest.approx(float(expit(0.5)))


def test_robustness_is_what_is_above_the_line():
    rows = [*family(0.2, 0.5, 0.7), row("ensemble", 0.5, 0.4, apart=0.1), row("rnb", 0.8, 0.2)]
    found = robustness(rows, **NAMES)
    assert (found.line.slope, found.line.intercept) == (pytest.approx(0.5), pytest.approx(-1))
    assert found.line.r2 == pytest.approx(1)
    assert found.line.points == 3, "the static mixers are the family"
    rho = {each.mixer: each.rho.mean for each in found.standings}
    assert rho["ensemble"] == pytest.approx(0.4 - float(expit(-1)), abs=1e-12)
    assert rho["rnb"] == pytest.approx(0.2 - float(expit(-1 + 0.5 * logit(0.8))))
    assert rho["uniform"] == pytest.approx(0, abs=1e-12)
    assert found.standings[0].mixer == "ensemble"
    assert found.standings[-1].mixer == "rnb"


def test_seeds_are_averaged_and_give_the_interval():
    shifted = [0.40, 0.42, 0.44]
    rows = [*family(0.2, 0.5, 0.7), *(row("rnb", 0.5, y, seed) for seed, y in enumerate(shifted))]
    (each,) = (s for s in robustness(rows, **NAMES).standings if s.mixer == "rnb")
    assert each.rho.n == 3
    assert each.rho.mean == pytest.approx(0.42 - float(expit(-1)))
    assert each.rho.half == pytest.approx(4.302653 * 0.02 / np.sqrt(3), rel=1e-6)


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"preset": "small"}, "preset=small"),
        ({"task_config": {"width": 96}}, "width=96"),
        ({"budget_rule": "total"}, "budget_rule=total"),
        ({"recipe": {"learning_rate": 0.1}}, "learning_rate=0.1"),
    ],
)
def test_only_seeds_are_averaged(other, told):
    rows = [*family(0.2, 0.5, 0.7), row("rnb", 0.5, 0.4), row("rnb", 0.5, 0.3, seed=1), row("rnb", 0.6, 0.2, **other)]
    rows[-1]["id"] += "-other"
    found = {each.mixer: each for each in robustness(rows, **NAMES).standings if each.mixer.startswith("rnb")}
    apart = next(each for name, each in found.items() if told in name)
    assert (apart.rho.n, apart.shifted.mean) == (1, 0.2)
    assert len(found) == 2
    (same,) = (each for name, each in found.items() if told not in name)
    assert (same.rho.n, same.shifted.mean) == (2, pytest.approx(0.35))


def test_the_family_is_named_by_mixer_or_label():
    rows = [row("rnb", x, x / 2, label=f"rnb[lam={i}]") for i, x in enumerate((0.2, 0.4, 0.6))]
    rows += [row("uniform", 0.5, 0.1)]
    assert robustness(rows, **NAMES, family="rnb").line.points == 3
    assert robustness(rows, **NAMES, family="rnb[lam=0]|rnb[lam=1],uniform").line.points == 3
    with pytest.raises(UserError, match=r"no row is of the family 'rbn' \(did you mean 'rnb'"):
        robustness(rows, **NAMES, family="rbn")
    with pytest.raises(UserError, match="has 1 rows with a score, a line needs 3"):
        robustness(rows, **NAMES, family="uniform")


def test_none_and_all_are_half_a_count_away_and_said():
    rows = [*family(0.2, 0.5, 0.7), row("rnb", 1.0, 0.0, label="rnb[lam=9]")]
    found = robustness(rows, **NAMES, count=50)
    (point,) = (p for p in found.points if p.moved)
    assert (point.x, point.y) == (pytest.approx(0.99), pytest.approx(0.01))
    (each,) = (s for s in found.standings if s.mixer == "rnb[lam=9]")
    assert each.rho.mean == pytest.approx(0.0 - float(expit(-1 + 0.5 * logit(0.99)))), "what is measured stays 0"
    said = "was put half a count of 50 examples away (--count) for rnb[lam=9] (1000 steps, seed 0)."
    assert said in table(found)
    near = robustness([*family(0.2, 0.5, 0.7), row("rnb", 0.995, 0.4)], **NAMES, count=50)
    assert "what was nearer to them" in table(near), "no accuracy is 0 or 1 here"
    assert "half a count" not in table(robustness(family(0.2, 0.5, 0.7), **NAMES))


def test_a_line_that_falls_and_one_that_is_drawn_out_are_said():
    falling = table(robustness([*family(0.2, 0.5, 0.7, slope=-0.5), row("rnb", 0.3, 0.4)], **NAMES))
    assert "logit(shifted) = -1.0000 - 0.5000 logit(in distribution)" in falling
    assert "does not rise" in falling
    assert "drawn out" not in falling
    rising = table(robustness([*family(0.2, 0.5, 0.7), row("rnb", 0.8, 0.4)], **NAMES))
    assert "drawn out beyond the family's accuracies for rnb (1000 steps, seed 0)." in rising
    assert "does not rise" not in rising


def test_equal_accuracies_give_no_line():
    with pytest.raises(UserError, match="all equal"):
        robustness(family(0.5, 0.5, 0.5), **NAMES)
    level = [row("uniform", x, 0.25, steps=i) for i, x in enumerate((0.2, 0.4, 0.6))]
    assert robustness(level, **NAMES).line.r2 is None
    assert "R2 not defined" in table(robustness(level, **NAMES))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"inside": ["code", "speech"]}, "no domain 'speech' in accuracy"),
        ({"shifted": ["code"]}, "'code' is named as in distribution and as shifted"),
        ({"shifted": []}, "--shifted names no domain"),
        ({"inside": ["code", "code"]}, "a domain twice"),
        ({"metric": "acuracy"}, "no metric 'acuracy' \\(did you mean 'accuracy'"),
        ({"metric": "bits_per_byte"}, "better where it is lower"),
        ({"metric": None}, "bits_per_byte is better where it is lower"),
        ({"count": 0}, "--count must be at least 1"),
    ],
)
def test_what_is_refused(change, said):
    with pytest.raises(UserError, match=said):
        robustness(family(0.2, 0.5, 0.7), **(NAMES | change))


def test_rows_of_several_corpora_are_refused():
    with pytest.raises(UserError, match="several corpora"):
        robustness([*family(0.2, 0.5, 0.7), row("rnb", 0.5, 0.4, fingerprint="other")], **NAMES)
    odd = row("rnb", 0.5, 0.4)
    odd["metrics"]["accuracy"]["by_domain"]["code"] = 1.5
    with pytest.raises(UserError, match=r"accuracy of code is 1\.5"):
        robustness([*family(0.2, 0.5, 0.7), odd], **NAMES)


def test_failed_rows_are_left_out():
    rows = [*family(0.2, 0.5, 0.7), factory.failed("rnb")]
    assert {each.mixer for each in robustness(rows, **NAMES).standings} == {"uniform"}
    with pytest.raises(UserError, match="no row has a score"):
        robustness([factory.failed("rnb")], **NAMES)


def test_the_command_prints_and_draws(tmp_path: Path):
    factory.write_run(tmp_path / "run", [*family(0.2, 0.5, 0.7), row("ensemble", 0.5, 0.4)])
    words = ["robustness", str(tmp_path / "run"), "--in-distribution", "code,speeches", "--shifted", "quotations"]
    picture = tmp_path / "made" / "robustness.png"
    done = CliRunner().invoke(main, [*words, "--metric", "accuracy", "--picture", str(picture)])
    assert done.exit_code == 0, done.output
    assert "logit(shifted) = -1.0000 + 0.5000 logit(in distribution), R2 1.000, 3 points" in done.output
    line = next(line.split() for line in done.output.splitlines() if line.startswith("ensemble"))
    assert line == ["ensemble", "original", "1000", "1", "0.5000", "0.4000", "0.2689", "+0.1311"]
    with Image.open(picture) as image:
        assert image.size[0] > 1000
    refused = CliRunner().invoke(main, [*words, "--metric", "precision"])
    assert refused.exit_code == 2
    assert refused.output.startswith("error: the rows have no metric 'precision'")


def test_the_picture_holds_what_the_table_says():
    found = robustness([*family(0.2, 0.5, 0.7), row("ensemble", 0.5, 0.4)], **NAMES)
    picture = robustness_picture(found)
    assert picture.data["slope"] == found.line.slope
    assert [(p["x"], p["y"]) for p in picture.data["points"]] == [(p.x, p.y) for p in found.points]
    lines = picture.draw(picture.data).axes[0].lines
    ends = np.array(lines[-1].get_ydata())
    np.testing.assert_allclose(ends, -1 + 0.5 * np.array(lines[-1].get_xdata()))
