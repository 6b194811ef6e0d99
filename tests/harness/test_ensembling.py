"""Ensembles under the referee: equal samples, the bill, resumption, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from harness import ensembling, making
from harness.conformance import TOY_TASK
from harness.conformance.toy_task import ToyEnsemble
from harness.experiment import read_experiment, trials
from harness.orders import INLINE, ErrandDone, OrderPolicy, OrdersPending
from harness.registry import Registry
from harness.store import RunFolder
from harness.trial import run_trial

PLUGINS = Path(__file__).parent.parent / "plugins"


@pytest.fixture
def run(tmp_path: Path):
    """Run one toy trial and return its row; ``cache`` names a cache that several may share."""

    def make(mixer: str, cache: str = "cache", policy: OrderPolicy = INLINE, judge: str = "test", **flags):
        files = (TOY_TASK, PLUGINS / "alone_task.py", PLUGINS / "known_task.py")
        registry = Registry(files)
        base = {"tasks": "toy", "mixers": mixer, "seeds": "1", "device": "cpu", "plugin": files}
        (spec,) = trials(read_experiment(None, base | flags), registry, judge)
        (tmp_path / cache).mkdir(exist_ok=True)
        folder = RunFolder(tmp_path / "run")
        return run_trial(spec, registry, folder, tmp_path / cache, lambda step, steps: None, orders=policy)

    return make


def same(row):
    return {key: value for key, value in row.items() if key not in ("measured", "provenance")}


def made(tmp_path: Path, cache: str = "cache") -> set[str]:
    return {file.parent.name for file in (tmp_path / cache / "runs").glob("*/result.json")}


def test_an_ensemble_of_one_domain_is_the_plain_run(run):
    plain, alone = (run(mixer, partitions="kmeans[k=1]") for mixer in ("uniform", "ensemble"))
    assert alone["status"] == "ok", alone["reason"]
    assert alone["metrics"] == plain["metrics"]
    assert alone["overhead"]["training_flops"] == plain["overhead"]["training_flops"]
    assert alone["training"]["parameters"] == plain["training"]["parameters"]
    assert alone["mixture"]["epochs"] == plain["mixture"]["epochs"]


def test_a_member_is_the_plain_run_on_its_domain_alone(run):
    plain = run("grid[shares={double=1}]", judge="validation", steps="15")
    member = run("ensemble", steps="60")["mixer_report"]["members"][2]
    assert (member["trained_on"], member["steps"]) == ({"double": 1.0}, 15)
    assert member["losses"] == pytest.approx(plain["metrics"]["loss"]["by_domain"], rel=1e-12)


def test_samples_and_training_flops_are_those_of_the_main_run(run):
    plain, row = run("uniform"), run("ensemble[budget=natural]")
    assert row["status"] == "ok", row["reason"]
    members = row["mixer_report"]["members"]
    assert sum(member["steps"] for member in members) == 30
    assert row["training"]["examples"] == plain["training"]["examples"] == 120
    assert row["training"]["units"] == plain["training"]["units"]
    assert row["overhead"]["training_flops"] == pytest.approx(plain["overhead"]["training_flops"], rel=1e-12)
    assert row["overhead"]["mixing_flops"] == 0
    assert row["mixture"]["examples_drawn"] == [4 * member["steps"] for member in members]
    assert row["mixture"]["realised"] == pytest.approx(row["mixture"]["requested"][0][1])
    assert row["training"]["parameters"] == 4 * plain["training"]["parameters"], "four models are served"
    assert row["mixer_report"]["served_models"] == 4
    assert set(row) == set(plain)


@pytest.mark.parametrize("combine", ["logits", "probabilities"])
def test_two_models_by_hand(combine):
    class Says(nn.Module):
        def __init__(self, *shares):
            super().__init__()
            self.answer = torch.tensor(shares).log()

        def forward(self, tokens):
            return self.answer.expand(*tokens.shape, -1)

    both = ToyEnsemble([Says(0.8, 0.2), Says(0.2, 0.8)], np.array([0.75, 0.25]), combine)
    found = both(torch.zeros(1, 1, dtype=torch.int64)).softmax(-1)[0, 0]
    # A mean of 3/4 and 1/4; or 0.8^.75 0.2^.25 : 0.2^.75 0.8^.25 = 2 : 1.
    expected = {"probabilities": [0.65, 0.35], "logits": [2 / 3, 1 / 3]}
    torch.testing.assert_close(found, torch.tensor(expected[combine]))


def test_fitted_weights_have_the_least_validation_loss_and_are_on_the_bill(run):
    row = run("ensemble[weights=fitted]")
    assert row["status"] == "ok", row["reason"]
    report = row["mixer_report"]
    shares = np.array(row["domains"]["target_shares"])
    losses = np.array([each["losses"] for each in report["candidates"]]) @ shares
    assert len(losses) == 9
    assert report["chosen"] == losses.argmin()
    assert [m["weight"] for m in report["members"]] == report["candidates"][report["chosen"]]["weights"]
    for index, member in enumerate(report["members"]):
        alone = report["candidates"][1 + index]["losses"]
        assert alone == pytest.approx([member["losses"][name] for name in row["domains"]["targets"]])
    bill = row["overhead"]["purchases"]["validation losses"]
    assert bill["calls"] == 24, "4 even, 4 alone, 16 halfway"
    assert row["overhead"]["mixing_flops"] == bill["flops"] > 0
    fewer = run("ensemble[weights=fitted,validation_examples=3]")
    assert fewer["overhead"]["mixing_flops"] == pytest.approx(bill["flops"] / 2), "of 6 examples a target"


def test_under_a_total_budget_the_fit_is_paid_for_in_steps(run):
    row = run("ensemble[weights=fitted]", budget_rule="total", steps="200")
    assert row["status"] == "ok", row["reason"]
    assert row["budget"]["steps"] == sum(member["steps"] for member in row["mixer_report"]["members"]) < 200
    over = row["overhead"]
    assert over["training_flops"] + over["mixing_flops"] <= row["budget"]["flops"]
    assert run("ensemble", budget_rule="total")["budget"]["steps"] == 30


def test_what_was_interrupted_goes_on_where_it_was(run, tmp_path, monkeypatch):
    whole = run("ensemble", "whole")
    real, seen = making.MixedTraining.run, []

    def killed(self):
        seen.append(self)
        if len(seen) == 3:
            raise KeyboardInterrupt
        real(self)

    monkeypatch.setattr(making.MixedTraining, "run", killed)
    with pytest.raises(KeyboardInterrupt):
        run("ensemble", "broken")
    assert len(made(tmp_path, "broken")) == 2
    row = run("ensemble", "broken")
    assert len(seen) == 5, "two members were there"
    assert row["measured"]["reused_runs"] == 2
    assert same(row) == same(whole)


def test_idle_workers_make_the_members(run, tmp_path):
    with pytest.raises(OrdersPending) as pending:
        run("ensemble", policy=OrderPolicy(delegate=True))
    assert len(pending.value.keys) == 4
    for key in pending.value.keys:
        with pytest.raises(ErrandDone):
            run("ensemble", policy=OrderPolicy(errand=key))
    assert made(tmp_path) == set(pending.value.keys)
    row = run("ensemble", policy=OrderPolicy(delegate=True))
    assert row["measured"]["reused_runs"] == 4
    assert same(row) == same(run("ensemble", "another"))


def test_seeds_differ_and_repeat(run):
    first, again = run("ensemble"), run("ensemble", "another")
    other = run("ensemble", seeds="7,")
    assert same(first) == same(again)
    assert other["metrics"] != first["metrics"]


def test_a_task_that_cannot_combine_refuses_before_it_trains(run, tmp_path):
    row = run("ensemble", tasks="alone")
    assert row["status"] == "failed"
    assert "task alone cannot combine the predictions of 4 models" in row["reason"]
    assert not made(tmp_path)
    assert run("ensemble", tasks="alone", partitions="kmeans[k=1]")["status"] == "ok", "one model needs no combining"


def test_a_table_refuses(run):
    row = run("ensemble", tasks="known")
    assert row["status"] == "failed"
    assert "combination of models needs training" in row["reason"]


def test_what_an_ensembler_asks_of_the_lab_is_refused():
    with pytest.raises(Exception, match="has no live model, so it cannot buy validation_losses"):
        ensembling._NoLab().validation_losses()
