"""Rows: what a finished trial says of itself, and how a failed one ends."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from harness.conformance.toy_task import DOMAINS
from harness.ledger import Ledger
from harness.partitions import PaidRegroupLab
from harness.prepare import prepare
from harness.prepared import target_shares
from harness.results import metrics_of
from harness.trial import verdict
from mixers.regroup.base import Partition
from tasks.base import Embeddings, Qualities, TaskError


def test_a_row_says_what_happened(run_toy):
    row = run_toy(mixers="rnb")
    assert row["status"] == "ok", row["reason"]
    json.dumps(row, allow_nan=False)
    assert row["spec"]["mixer_config"]["lam"] == 3.0
    assert row["domains"]["original"] == list(DOMAINS)
    requested = row["mixture"]["requested"]
    assert [step for step, _ in requested] == [3 * i for i in range(10)], "one mixture a round, none after the last"
    assert all(sum(weights) == pytest.approx(1) for _, weights in requested)
    assert row["mixture"]["examples_drawn"] == [round(s * 120) for s in row["mixture"]["realised"]], (
        "30 steps of 4 examples"
    )
    sizes = np.array(row["domains"]["examples"])
    assert row["mixture"]["epochs"] == pytest.approx((np.array(row["mixture"]["examples_drawn"]) / sizes).tolist())
    loss = row["metrics"]["loss"]
    by_domain = loss["by_domain"]
    assert loss["target"] == pytest.approx(np.dot([0.1, 0.2, 0.3, 0.4], [by_domain[d] for d in DOMAINS]))
    assert loss["macro"] == pytest.approx(np.mean(list(by_domain.values())))
    assert loss["worst"] == max(by_domain.values())
    assert row["metrics"]["accuracy"]["worst"] == min(row["metrics"]["accuracy"]["by_domain"].values())
    over = row["overhead"]
    assert over["counted_share"] == over["mixing_flops"] / over["training_flops"] > 0
    assert over["paper_share"] == pytest.approx(10 * 16 * (16 * 8 / 328) / (6 * 720)), "T m^2 / (6 D) of the head"


def test_of_very_many_mixtures_a_row_keeps_some(tmp_path):
    from harness.results import MOST_CHANGES, mixture_of
    from mixers.base import Mixture

    shares = np.linspace(0, 1, 1001)
    path = [(step, Mixture(domains=("a", "b"), weights=np.array([x, 1 - x]))) for step, x in enumerate(shares)]
    sampler = SimpleNamespace(drawn=np.array([3, 1]), epochs=np.array([1.0, 0.5]))
    found = mixture_of(path, sampler)
    steps = [step for step, _ in found["requested"]]
    assert len(steps) == len(found["entropy"]) == MOST_CHANGES
    assert (steps[0], steps[-1], found["changes"]) == (0, 1000, 1001)
    assert "changes" not in mixture_of(path[:5], sampler)


def test_static_mixers_add_nothing(run_toy):
    row = run_toy(mixers="natural")
    assert row["overhead"]["mixing_flops"] == 0
    assert len(row["mixture"]["requested"]) == 1
    assert row["mixture"]["requested"][0][1] == pytest.approx(row["domains"]["train_shares"])


def test_scores_do_not_depend_on_how_the_data_is_cut(run_toy, toy_specs, registry, tmp_path):
    """One model gets the same scores under every partition, by the original domains."""
    results = []
    for partition in ("original", "kmeans[k=3]"):
        (spec,) = toy_specs(partitions=partition)
        ready = prepare(spec, registry, tmp_path)
        scores = ready.task.evaluate(ready.build_model(), ready.corpus, "test", device=ready.device, dtype=ready.dtype)
        results.append(metrics_of(ready.task, ready.corpus, scores))
    assert results[0] == results[1]
    whole = run_toy(partitions="kmeans[k=1]")
    assert list(whole["metrics"]["loss"]["by_domain"]) == list(DOMAINS)
    assert whole["domains"]["train"] == ["cluster-00"]


def test_target_shares_under_a_new_partition():
    """Share j = sum over i of target_i x share of i's validation examples in j, by hand."""
    corpus = SimpleNamespace(
        domains=("a", "b"),
        labels={"validation": np.array([0, 0, 0, 0, 1, 1])},
        target_shares=np.array([0.8, 0.2]),
        weights={},
    )
    partition = Partition(domains=("x", "y"), train=np.array([0, 1]), validation=np.array([0, 0, 0, 1, 1, 1]))
    assert target_shares(corpus, partition) == pytest.approx([0.8 * 3 / 4, 0.8 * 1 / 4 + 0.2])
    corpus.weights = {"validation": np.array([0.5, 0.25, 0.25, 1.0, 1.0, 1.0])}  # three versions share one weight
    assert target_shares(corpus, partition) == pytest.approx([0.8 * 1 / 2, 0.8 * 1 / 2 + 0.2])


def test_regrouping_is_billed_to_every_trial_also_from_the_cache(run_toy):
    first = run_toy(partitions="kmeans[k=3]")
    again = run_toy(partitions="kmeans[k=3]", mixers="natural")
    assert first["overhead"]["regrouping_flops"] == again["overhead"]["regrouping_flops"] > 0
    assert first["partition_report"] == again["partition_report"]
    assert first["partition_report"]["embedder"] == "toy"


@pytest.mark.parametrize("partition", ["climb[k_init=8,groups=3,per_cluster=4]", "domain2vec[meta_domains=3]"])
def test_cuts_into_many_clusters_tell_how_stable_they_are(run_toy, partition):
    row = run_toy(partitions=partition, mixers="domain2vec")
    assert row["status"] == "ok", row["reason"]
    report = row["partition_report"]
    assert report["k"] == len(row["domains"]["train"]) == 3
    assert report["embedder"] == "toy"
    assert -1.0 <= report["stability"] <= 1.0
    assert row["overhead"]["regrouping_flops"] > 0
    assert row["overhead"]["purchases"]["embeddings"]["calls"] == 1
    assert row["mixer_report"]["embedder"] == "toy"


def test_qualities_are_those_of_the_task_and_on_the_bill(run_toy):
    row = run_toy(partitions="climb[k_init=8,groups=3,scorer=judge]")
    assert row["status"] == "failed"
    assert "task toy has no scorer of quality named 'judge', nor any other" in row["reason"]
    ledger = Ledger()
    made = Qualities(values=np.array([0.5, 2.0]), flops=7.0, seconds=3.0)
    task = SimpleNamespace(qualities=lambda corpus, split, scorer: {("train", "judge"): made}[split, scorer])
    corpus = SimpleNamespace(labels={"train": np.zeros(2, np.int64)})
    np.testing.assert_array_equal(PaidRegroupLab(task, corpus, ledger).qualities("train", "judge"), [0.5, 2.0])
    assert (ledger.flops["regrouping"], ledger.seconds["regrouping"]) == (7.0, 3.0)
    assert ledger.purchases["qualities of train"]["calls"] == 1


@pytest.mark.parametrize(
    ("values", "what"),
    [
        (np.array([0.5, np.nan]), "1 of 2 values are NaN or infinite"),
        (np.array([-np.inf, np.nan]), "2 of 2 values are NaN or infinite"),
        (np.ones(3), r"gave values of shape \(3,\), not one for each of 2 examples"),
        (np.ones((2, 1)), r"gave values of shape \(2, 1\), not one for each of 2 examples"),
        (["good", "bad"], "gave something else than numbers"),
        (None, r"gave values of shape \(\), not one for each of 2 examples"),
    ],
)
def test_qualities_that_are_not_one_finite_number_an_example_are_one_line(values, what):
    task = SimpleNamespace(qualities=lambda *_: Qualities(values=values, flops=0.0, seconds=0.0))
    corpus = SimpleNamespace(labels={"train": np.zeros(2, np.int64)})
    with pytest.raises(TaskError, match=f"^scorer 'judge' of train examples: {what}") as caught:
        PaidRegroupLab(task, corpus, Ledger()).qualities("train", "judge")
    assert "\n" not in str(caught.value)


def test_a_regrouper_may_read_every_modality_and_the_row_names_all_embedders():
    class Pairs:
        modalities = staticmethod(lambda: ("image", "caption"))

        def embed(self, corpus, split, embedder):
            vectors = np.ones((2, 3), np.float32)
            return Embeddings(vectors=vectors, embedder=f"{embedder} v1", flops=1.0, seconds=0.0, cached=False)

    ledger = Ledger()
    lab = PaidRegroupLab(Pairs(), None, ledger)
    assert lab.embedder is None
    for split in ("train", "validation"):
        for name in lab.modalities:
            lab.embeddings(split, name)
    assert lab.embedder == "image v1 + caption v1"
    assert ledger.flops["embedding"] == 4.0


def test_concepts_cut_the_toy_too(run_toy):
    row = run_toy(partitions="sae[k=2,steps=20]")
    assert row["status"] == "ok", row["reason"]
    assert row["partition_report"]["embedder"] == "toy"
    assert row["partition_report"]["modalities_agree"] is None


def test_declared_purchases_are_billed(run_toy):
    row = run_toy(mixers="buyer")
    assert row["status"] == "ok", row["reason"]
    line = row["overhead"]["purchases"]["validation losses"]
    assert line["calls"] == 2
    assert row["overhead"]["mixing_flops"] == line["flops"] > 0


@pytest.mark.parametrize(
    ("mixer", "status", "says"),
    [
        ("off_simplex", "bad_mixture", "sum 2"),
        ("raises", "failed", "RuntimeError: no idea what to do"),
        ("undeclared", "failed", "add DomainGradients() to needs().signals"),
        ("overbuys", "failed", "purchases().validation_losses"),
        ("hungry", "oom", "out of memory"),
    ],
)
def test_failures_are_rows_with_a_status_and_one_line(run_toy, tmp_path, mixer, status, says):
    row = run_toy(mixers=mixer)
    assert row["status"] == status
    assert says in row["reason"]
    assert "\n" not in row["reason"]
    assert row["spec"]["mixer"] == mixer
    assert row["metrics"] is None
    assert "Traceback" in (tmp_path / "run" / "work" / row["id"] / "traceback.txt").read_text()


def test_a_models_own_want_of_memory_is_known(run_toy):
    import torch

    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50)
    assert verdict(caught.value)[0] == "oom"


def test_the_same_spec_gives_the_same_row(run_toy):
    rows = [run_toy(mixers="memory", partitions="kmeans[k=3]") for _ in range(2)]
    for row in rows:
        del row["measured"], row["provenance"]
    assert rows[0] == rows[1]
    assert rows[0]["mixture"]["loss_weights"], "loss weights are logged"


def test_bfloat16_trains_and_reads_the_same_signals(run_toy):
    row = run_toy(mixers="rnb", dtype="bfloat16")
    assert row["status"] == "ok", row["reason"]
    full = run_toy(mixers="rnb")
    assert row["id"] != full["id"]
    first = [requested[1][1] for requested in (row["mixture"]["requested"], full["mixture"]["requested"])]
    assert first[0] == pytest.approx(first[1], abs=0.05), "the first balanced mixture differs by rounding alone"


@pytest.mark.slow
def test_a_compiled_model_trains_alike(run_toy):
    plain, compiled = run_toy(mixers="rnb"), run_toy(mixers="rnb", compile=True)
    assert compiled["status"] == "ok", compiled["reason"]
    loss = [row["metrics"]["loss"]["target"] for row in (plain, compiled)]
    assert loss[0] == pytest.approx(loss[1], rel=0.02)
