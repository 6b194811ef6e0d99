"""A regrouper that trains: what it is sold, what it is billed, and when its cut is made anew."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from harness.ledger import Ledger
from harness.partitions import PaidRegroupLab
from harness.prepare import prepare
from mixers.base import Influence, MixerError, Run
from mixers.regroup.automixer import AutoMixer

CUT = "automixer[checkpoints=3,target_examples=2]"


def prepared_by(toy_specs, registry, cache: Path, **flags):
    (spec,) = toy_specs(partitions=CUT, **flags)
    return prepare(spec, registry, cache)


def test_a_trial_on_groups_by_influence(run_toy):
    row = run_toy(partitions=CUT, mixers="automixer[checkpoints=3,examples=4,target_examples=2]")
    assert row["status"] == "ok", row["reason"]
    report = row["partition_report"]
    assert sum(report["sizes"]) == 72
    assert set(report["checkpoints"]) == {"add-one", "add-two", "double", "noise"}
    json.dumps(row, allow_nan=False)


def test_runs_and_influence_are_on_the_account_of_regrouping_in_full_also_from_a_cache(toy_specs, registry, tmp_path):
    first = prepared_by(toy_specs, registry, tmp_path)
    again = prepared_by(toy_specs, registry, tmp_path)
    assert first.ledger.flops["regrouping"] > 0
    assert first.ledger.flops == again.ledger.flops
    assert first.ledger.flops["mixing"] == 0
    assert first.ledger.purchases["runs for regrouping"]["calls"] == 1
    assert "runs" not in first.ledger.purchases, "that line counts what the mixer buys"
    np.testing.assert_array_equal(first.partition.train, again.partition.train)
    assert len(list((tmp_path / "partitions").iterdir())) == 1
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_another_recipe_is_another_cut_for_a_regrouper_that_trains_alone(toy_specs, registry, tmp_path):
    for steps in (20, 30):
        prepared_by(toy_specs, registry, tmp_path, steps=steps)
    assert len(list((tmp_path / "partitions").iterdir())) == 2
    for steps in (20, 30):
        (spec,) = toy_specs(partitions="random[k=2]", steps=steps)
        prepare(spec, registry, tmp_path)
    assert len(list((tmp_path / "partitions").iterdir())) == 3


def test_the_lab_speaks_of_the_original_labels(toy_specs, registry, tmp_path):
    (spec,) = toy_specs()
    original = prepare(spec, registry, tmp_path)
    ledger = Ledger()
    lab = PaidRegroupLab(original.task, original.corpus, ledger, lambda: original)
    problem, labelled = lab.labelled()
    assert problem.domains == original.corpus.domains
    (result,) = labelled.train([Run(steps=4, mixture=problem.mixture(problem.train_shares), keep_at=(4,))])
    cost = ledger.flops["regrouping"]
    assert cost == result.flops
    made = labelled.influence(result.checkpoints[4], Influence(examples=0, target_examples=1))
    np.testing.assert_array_equal(np.sort(made.examples), np.arange(72))
    np.testing.assert_array_equal(made.domains, original.corpus.labels["train"][made.examples])
    assert ledger.flops["regrouping"] > cost
    for refused in (
        labelled.validation_losses,
        lambda: labelled.domain_gradients(1),
        lambda: labelled.probe(problem.mixture(problem.train_shares), 1),
    ):
        with pytest.raises(MixerError, match="a regrouper cuts before the main run"):
            refused()


def test_a_regrouper_that_does_not_say_that_it_trains_is_sold_no_runs(toy_specs, registry, tmp_path, monkeypatch):
    monkeypatch.setattr(AutoMixer, "trains", False)
    with pytest.raises(MixerError, match="set its class's trains = True"):
        prepared_by(toy_specs, registry, tmp_path)
