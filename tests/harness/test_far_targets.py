"""Targets that are other domains than those that are trained on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.experiment import read_experiment, trials
from harness.flops import PassFlops
from harness.lab import PaidLab
from harness.ledger import Ledger
from harness.prepare import prepare
from harness.registry import Registry
from harness.results import metrics_of
from harness.store import RunFolder
from harness.trial import run_trial
from mixers.base import MixerError, Purchases
from mixers.regroup.base import Grouping, Partition
from tasks.base import TaskError
from tests.harness.conftest import FILES, PLUGINS


@pytest.fixture
def registry() -> Registry:
    return Registry((*FILES, PLUGINS / "far_task.py"))


@pytest.fixture
def spec_of(registry):
    def make(**flags):
        base = {"tasks": "far", "mixers": "uniform", "seeds": "1", "device": "cpu"}
        (spec,) = trials(read_experiment(None, base | flags), registry)
        return spec

    return make


@pytest.fixture
def run(spec_of, registry, tmp_path):
    return lambda **flags: run_trial(
        spec_of(**flags), registry, RunFolder(tmp_path / "run"), tmp_path, lambda a, b: None
    )


def test_training_domains_and_targets_are_named_apart(run):
    row = run()
    assert row["status"] == "ok", row["reason"]
    domains = row["domains"]
    assert domains["train"] == ["add-one", "add-two"]
    assert domains["targets"] == ["double", "noise"]
    assert domains["original"] == ["add-one", "add-two", "double", "noise"]
    assert domains["train_shares"] == pytest.approx([2 / 3, 1 / 3])
    assert domains["target_shares"] == pytest.approx([0.5, 0.5])
    assert list(row["metrics"]["loss"]["by_domain"]) == ["double", "noise"], "only what has test examples"
    losses = row["metrics"]["loss"]
    assert losses["macro"] == losses["target"] == pytest.approx(np.mean(list(losses["by_domain"].values())))


def test_a_target_that_is_trained_on_keeps_its_name(run):
    domains = run(tasks="far[shared=true]")["domains"]
    assert domains["train"] == ["add-one", "add-two"]
    assert domains["targets"] == ["add-two", "double", "noise"]


def test_rnb_keeps_its_mixture_where_no_training_domain_is_a_target(run):
    row = run(mixers="rnb")
    assert row["status"] == "ok", row["reason"]
    assert all(weights == pytest.approx([0.5, 0.5]) for _, weights in row["mixture"]["requested"])
    assert row["mixer_report"]["skipped_because"] == "no training domain is a target domain"
    assert run(mixers="rnb", tasks="far[shared=true]")["mixer_report"].get("skipped_because") is None


def test_target_ends_as_a_row_that_says_why(run):
    row = run(mixers="target")
    assert row["status"] == "failed"
    assert "no training domain is a target domain" in row["reason"]
    mixed = run(mixers="target", tasks="far[shared=true]")
    assert mixed["mixture"]["requested"][0][1] == pytest.approx([0, 1]), "all on the only one"


def test_clusters_carry_the_target(run):
    row = run(partitions="kmeans[k=2]", mixers="rnb")
    assert row["status"] == "ok", row["reason"]
    assert row["domains"]["targets"] == row["domains"]["train"]
    assert sum(row["domains"]["target_shares"]) == pytest.approx(1)


def test_validation_losses_are_by_target(spec_of, registry, tmp_path):
    ready = prepare(spec_of(), registry, tmp_path)
    trainer = ready.trainer(())
    lab = PaidLab(ready, trainer, Ledger(), PassFlops(forward=1, training=3), Purchases(validation_losses=1))
    bought = lab.validation_losses()
    scores = ready.task.evaluate(trainer.model, ready.corpus, "validation", device=ready.device, dtype=ready.dtype)
    assert bought == pytest.approx(scores.by_domain("loss", 4)[2:])


def test_the_baseline_of_a_metric_is_aggregated_like_the_metric(run):
    metrics = run(tasks="far[shared=true]")["metrics"]
    baseline = metrics["accuracy"]["baseline"]
    assert baseline["by_domain"] == pytest.approx({"add-two": 1 / 16, "double": 1 / 8, "noise": 1 / 16})
    assert baseline["target"] == baseline["macro"] == pytest.approx((1 / 16 + 1 / 8 + 1 / 16) / 3)
    assert "baseline" not in metrics["loss"]


def test_a_metric_that_counts_no_example_is_left_out(spec_of, registry, tmp_path):
    ready = prepare(spec_of(), registry, tmp_path)
    scores = ready.task.evaluate(ready.build_model(), ready.corpus, "test", device=ready.device, dtype=ready.dtype)
    nothing = np.zeros(len(scores.domains))
    empty = replace(scores, sums=scores.sums | {"accuracy": (nothing, nothing)})
    assert list(metrics_of(ready.task, ready.corpus, empty)) == ["loss"]
    primary = replace(scores, sums=scores.sums | {"loss": (nothing, nothing)})
    with pytest.raises(TaskError, match="loss of target domain double is no number"):
        metrics_of(ready.task, ready.corpus, primary)


def test_a_partition_with_labels_outside_its_targets_is_refused():
    grouping = Grouping(domains=("a", "b"), train=np.array([0, 0]), validation=np.array([1]), seed=0)
    fine = Partition(domains=("a",), targets=("b", "c"), train=np.array([0, 0]), validation=np.array([1]))
    assert fine.checked(grouping).target_domains == ("b", "c")
    for bad in (
        Partition(domains=("a",), train=np.array([0, 0]), validation=np.array([1])),
        Partition(domains=("a",), targets=("b",), train=np.array([0, 0]), validation=np.array([1])),
        Partition(domains=("a",), targets=("b", "b"), train=np.array([0, 0]), validation=np.array([1])),
    ):
        with pytest.raises(MixerError):
            bad.checked(grouping)
