"""Equal total budget: what a mixer declares is taken off its main run, and more is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import budget
from harness.leaderboard.groups import split
from harness.leaderboard.notes import facts
from harness.prepare import prepare
from harness.spec import TrialSpec

TOTAL = {"budget_rule": "total", "steps": "60"}
DOREMI = "doremi[proxy_share=0.5]"


def spent(row) -> float:
    return row["overhead"]["training_flops"] + row["overhead"]["mixing_flops"]


@pytest.mark.parametrize(
    "mixer",
    ["uniform", "buyer", "skill_it[graph_share=0.05,validation_examples=2]", DOREMI, "rnb[lam=1]", "domain2vec"],
)
def test_everything_together_costs_no_more_than_the_budget_and_nearly_all_of_it(run_toy, mixer: str):
    whole = run_toy(mixers="uniform", steps="60")["overhead"]["training_flops"]
    row = run_toy(mixers=mixer, **TOTAL)
    assert row["status"] == "ok", row["reason"]
    assert row["budget"]["flops"] == pytest.approx(whole)
    assert row["training"]["examples"] == row["budget"]["steps"] * row["spec"]["batch_size"]
    assert spent(row) <= whole * (1 + 1e-9)
    assert spent(row) > 0.9 * whole
    assert row["overhead"]["training_flops"] == pytest.approx(row["budget"]["main_flops"])
    assert (row["budget"]["steps"] == 60) == (mixer == "uniform")


def test_the_longest_main_run_that_fits_is_taken(toy_specs, registry, tmp_path: Path):
    (spec,) = toy_specs(mixers=DOREMI, **TOTAL)
    run, reserve = budget.fitted(prepare(spec, registry, tmp_path))
    assert run.recipe.steps == run.problem.steps == reserve.steps
    # Reference: s/2 steps and its evaluation; proxy: s/2 steps with a forward of the reference more.
    assert 60 / (1 + 0.5 + 0.5 * 4 / 3) - 4 <= reserve.steps <= 60 / (1 + 0.5 + 0.5 * 4 / 3) + 1


def test_a_mixer_that_buys_nothing_has_the_same_run_under_both_rules(run_toy):
    main, total = run_toy(mixers="natural", steps="60"), run_toy(mixers="natural", **TOTAL)
    assert main["id"] != total["id"]
    assert main["metrics"] == total["metrics"]
    assert "budget" not in main
    assert "budget_rule" not in main["spec"]


def test_purchases_beyond_the_budget_are_a_row_that_says_so(run_toy):
    row = run_toy(mixers="skill_it", budget_rule="total", steps="2")
    assert row["status"] == "failed"
    assert "of the total budget with a main run of one step" in row["reason"]


def test_a_mixer_that_refuses_short_runs_gets_the_longest_that_fits(run_toy):
    """aioli probes every domain, and says in one line that a run of a few steps has no room for that."""
    row = run_toy(mixers="aioli[validation_examples=1]", **TOTAL)
    assert row["status"] == "ok", row["reason"]
    assert 4 < row["budget"]["steps"] < 60
    row = run_toy(mixers="aioli", budget_rule="total", steps="4")
    assert row["status"] == "failed"
    assert "one sweep over 4 domains takes 4 steps" in row["reason"]


def test_the_rule_is_part_of_the_identity_and_comes_back_from_a_row(toy_specs):
    (main,), (total,) = toy_specs(), toy_specs(budget_rule="total")
    assert main.id != total.id
    assert main.cell != total.cell
    assert TrialSpec.from_row(total.as_row()) == total
    assert TrialSpec.from_json(total.as_json()) == total
    assert "budget_rule" not in main.as_row(), "published rows keep their form and their ids"


def test_the_two_budgets_never_stand_in_one_table(run_toy):
    rows = [run_toy(mixers="natural"), run_toy(mixers="natural", budget_rule="total")]
    main, total = sorted(split(rows), key=lambda group: group.spec.get("budget_rule", ""))
    assert "equal total budget" not in facts(main)[0]
    assert "equal total budget" in facts(total)[0]
