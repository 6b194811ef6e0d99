"""What the lab sells, what it costs, and what it refuses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness import making
from harness.gradients.estimate import estimate
from harness.kept import kept_model
from harness.lab import PaidLab
from harness.ledger import Ledger
from harness.prepare import prepare
from harness.prepared import pass_flops
from harness.proxies import children, prices
from harness.seeds import derive_seed
from harness.vectors import embedded
from mixers.base import (
    BatchLosses,
    Checkpoint,
    Lab,
    Mixer,
    MixerError,
    Mixture,
    Needs,
    Observation,
    Problem,
    Purchases,
    Run,
    StepLosses,
)
from mixers.doge import Proxy

ALL = Purchases(validation_losses=9, domain_gradients=9, gradient_examples=6, probe_steps=20)


@pytest.fixture
def open_lab(toy_specs, registry, tmp_path: Path):
    """A toy trial's trainer and lab, with declared purchases."""

    def make(declared: Purchases = ALL, **flags: Any):
        (spec,) = toy_specs(**flags)
        prepared = prepare(spec, registry, tmp_path / "cache")
        trainer = prepared.trainer(())
        ledger = Ledger()
        return (
            prepared,
            trainer,
            PaidLab(prepared, trainer, ledger, pass_flops(prepared, trainer.model), declared),
            ledger,
        )

    return make


def even(problem: Problem) -> Mixture:
    return problem.mixture(np.full(problem.m, 1 / problem.m))


def single(problem: Problem, i: int) -> Mixture:
    return problem.mixture(np.eye(problem.m)[i])


# Validation losses


def test_a_subset_of_validation_is_the_same_every_time_and_cheaper(open_lab):
    *_, lab, ledger = open_lab(Purchases(validation_losses=3, validation_examples=0))
    whole = lab.validation_losses()
    cost = ledger.flops["mixing"]
    first, again = lab.validation_losses(2), lab.validation_losses(2)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, whole)
    assert ledger.flops["mixing"] == pytest.approx(cost * (1 + 2 * 8 / 24)), "2 of 6 examples of each of 4 targets"
    with pytest.raises(MixerError, match=r"4 bought, 3 declared; raise purchases\(\).validation_losses"):
        lab.validation_losses(2)


def test_more_validation_examples_than_declared_are_refused(open_lab):
    *_, lab, _ = open_lab(Purchases(validation_losses=3, validation_examples=2))
    lab.validation_losses(2)
    for examples in (0, 3):
        with pytest.raises(MixerError, match=r"raise purchases\(\).validation_examples"):
            lab.validation_losses(examples)


# Embeddings


def test_embeddings_are_of_the_same_few_examples_of_every_domain_and_target(open_lab):
    prepared, _, lab, ledger = open_lab(Purchases(embedding_examples=6))
    made = lab.embeddings(3)
    assert made.embedder == "toy"
    assert made.train.dtype == made.validation.dtype == np.float32
    np.testing.assert_array_equal(made.domains, np.repeat(np.arange(4), 3))
    np.testing.assert_array_equal(made.targets, np.repeat(np.arange(4), 3))
    whole = {split: prepared.task.embed(prepared.corpus, split, "auto") for split in ("train", "validation")}
    for split, vectors, owners in (("train", made.train, made.domains), ("validation", made.validation, made.targets)):
        labels = prepared.corpus.labels[split]
        for row, owner in zip(vectors, owners, strict=True):
            assert (row == whole[split].vectors[labels == owner]).all(axis=1).any()
    assert ledger.flops["mixing"] == whole["train"].flops + whole["validation"].flops, "whole splits are embedded"
    more = open_lab(Purchases(embedding_examples=6), mixers="natural", seeds="2,")[2].embeddings(6)
    assert np.bincount(more.domains).tolist() == [6, 6, 6, 4], "the smallest domain has four examples"
    for row in made.train:
        assert (row == more.train).all(axis=1).any(), "fewer are the first of more, for every mixer and seed"
    with pytest.raises(ValueError, match="read-only"):
        made.train[0] = 0.0


def test_embeddings_cost_what_was_priced_also_where_a_cache_answered(open_lab, monkeypatch):
    prepared, trainer, lab, ledger = open_lab(Purchases(embedding_examples=2))
    embed = type(prepared.task).embed
    monkeypatch.setattr(
        type(prepared.task), "embed", lambda *args: replace(embed(*args), cached=True, seconds=3.0, flops=50.0)
    )
    monkeypatch.setattr("harness.vectors._COUNTED", {})
    lab.embeddings(2)
    assert ledger.purchases["embeddings"] == {"calls": 1, "flops": 100.0}
    assert ledger.made_elsewhere == 6.0
    flops = pass_flops(prepared, trainer.model)
    assert prices.price_of(prepared, Purchases(embedding_examples=2), flops) == 100.0
    assert prices.price_of(prepared, Purchases(), flops) == 0.0


def test_embeddings_beyond_what_was_declared_are_refused(open_lab):
    with pytest.raises(MixerError, match=r"3 examples a domain, 0 were declared; raise purchases\(\).embedding_e"):
        open_lab()[2].embeddings(3)
    *_, lab, _ = open_lab(Purchases(embedding_examples=2))
    for examples in (0, 3):
        with pytest.raises(MixerError, match=r"raise purchases\(\).embedding_examples"):
            lab.embeddings(examples)
    with pytest.raises(MixerError, match=r"by tfidf, those by auto were declared; set purchases\(\).embedder"):
        lab.embeddings(2, "tfidf")
    lab.embeddings(2)
    with pytest.raises(MixerError, match="sold once a run; keep those of the first call"):
        lab.embeddings(2)


def test_a_run_on_a_subsample_embeds_what_it_trains_on(open_lab):
    prepared, *_ = open_lab()
    child = children.child_of(prepared, Run(steps=4, mixture=even(prepared.problem), subsample=0.25, size=1.0))
    made = embedded(child, 1000, "auto").vectors
    np.testing.assert_array_equal(np.bincount(made.domains), child.problem.examples)
    assert len(made.validation) == len(prepared.corpus.labels["validation"])


# Gradients


def whole_gradient(prepared, trainer, split: str, indices) -> torch.Tensor:
    batch = prepared.task.batch(prepared.corpus, split, np.asarray(indices))
    loss = prepared.task.loss(trainer.model, batch).per_example.mean()
    parameters = [p for p in trainer.model.parameters() if p.requires_grad]
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)]).double()


@pytest.mark.parametrize("at_once", [1, 4])
def test_gradients_are_those_of_autograd(open_lab, monkeypatch, at_once):
    monkeypatch.setattr("harness.gradients.estimate.TARGETS_AT_ONCE", at_once)
    prepared, trainer, lab, _ = open_lab()
    made = lab.domain_gradients(3, parts=3)
    streams = open_lab()[2]._streams
    g = [whole_gradient(prepared, trainer, "train", streams["train"].take(i, 3)) for i in range(4)]
    t = [whole_gradient(prepared, trainer, "validation", streams["validation"].take(j, 3)) for j in range(4)]
    np.testing.assert_allclose(made.products, [[float(a @ b) for b in t] for a in g], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(made.norms, [float(a.norm()) for a in g], rtol=1e-5)
    np.testing.assert_allclose(made.target_norms, [float(a.norm()) for a in t], rtol=1e-5)
    target = sum(p * b for p, b in zip(prepared.problem.target_shares, t, strict=True))
    np.testing.assert_allclose(
        made.alignment(prepared.problem.target_shares), [float(a @ target) for a in g], rtol=1e-4, atol=1e-7
    )
    assert all(p.grad is None for p in trainer.model.parameters())


def test_the_variance_of_a_mean_gradient(open_lab):
    prepared, trainer, lab, _ = open_lab()
    made = lab.domain_gradients(3, parts=3)
    indices = open_lab()[2]._streams["train"].take(0, 3)
    each = torch.stack([whole_gradient(prepared, trainer, "train", [index]) for index in indices])
    expected = float((each - each.mean(0)).pow(2).sum()) / (3 * 2)
    assert made.variances[0] == pytest.approx(expected, rel=1e-4)
    assert np.isnan(lab.domain_gradients(3).variances).all()


def test_gradients_cost_what_their_passes_cost_and_leave_the_run_alone(open_lab):
    prepared, trainer, lab, ledger = open_lab()
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    lab.domain_gradients(2)
    flops = pass_flops(prepared, trainer.model).training
    assert ledger.flops["mixing"] == pytest.approx(flops * 2 * (4 + 4) / prepared.recipe.batch_size)
    assert trainer.sampler.drawn.sum() == 0
    assert all(torch.equal(before[name], value) for name, value in trainer.model.state_dict().items())
    with pytest.raises(MixerError, match=r"raise purchases\(\).gradient_examples"):
        lab.domain_gradients(7)


def test_products_can_speak_of_the_steps_that_adam_takes(open_lab):
    prepared, trainer, lab, _ = open_lab()
    trainer.begin_round(0)
    trainer.step(even(prepared.problem))
    state = lab.state()
    raw = lab.domain_gradients(2).products
    lab.load_state(state)
    scaled = lab.domain_gradients(2, scaling="adam").products
    group = trainer.optimizer.param_groups[0]
    parameters = [p for p in trainer.model.parameters() if p.requires_grad]
    indices = open_lab()[2]._streams["train"].take(0, 2), open_lab()[2]._streams["validation"].take(0, 2)
    scale = torch.cat(
        [
            (1 / ((trainer.optimizer.state[p]["exp_avg_sq"] / (1 - group["betas"][1])).sqrt() + group["eps"])).flatten()
            for p in parameters
        ]
    ).double()
    g, t = (whole_gradient(prepared, trainer, s, i) for s, i in zip(("train", "validation"), indices, strict=True))
    assert scaled[0, 0] == pytest.approx(float((g * scale * t).sum()), rel=1e-3)
    assert not np.allclose(raw, scaled)


def on_the_same_examples(lab, **how):
    """Products with each target and with their mean, the second of the very examples of the first."""
    state = lab.state()
    each = lab.domain_gradients(3, **how)
    lab.load_state(state)
    return each, lab.domain_gradients(3, against="mean", **how)


@pytest.mark.parametrize("scaling", ["none", "adam"])
def test_gradients_against_the_mean_target_are_the_weighted_sum_of_those_against_each(open_lab, scaling):
    prepared, trainer, lab, _ = open_lab()
    trainer.begin_round(0)
    trainer.step(even(prepared.problem))
    each, mean = on_the_same_examples(lab, parts=3, scaling=scaling)
    shares = prepared.problem.target_shares
    assert mean.products.shape == (4, 1)
    np.testing.assert_allclose(mean.products[:, 0], each.products @ shares, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(mean.alignment(shares), each.alignment(shares), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(mean.alignment(np.eye(4)[0]), mean.products[:, 0], err_msg="its shares are in it")
    np.testing.assert_array_equal(mean.norms, each.norms)
    np.testing.assert_array_equal(mean.variances, each.variances)
    assert mean.target_present.all()
    assert mean.target_present.shape == (4,)


def test_the_norm_of_the_mean_target_is_that_of_autograd(open_lab):
    prepared, trainer, lab, _ = open_lab()
    made = lab.domain_gradients(3, against="mean")
    stream = open_lab()[2]._streams["validation"]
    t = [whole_gradient(prepared, trainer, "validation", stream.take(j, 3)) for j in range(4)]
    target = sum(p * b for p, b in zip(prepared.problem.target_shares, t, strict=True))
    assert made.target_norms.tolist() == [pytest.approx(float(target.norm()), rel=1e-5)]


@pytest.mark.parametrize("absent", [(1,), (0, 1, 2, 3)])
def test_targets_without_examples_are_left_out_of_the_mean(open_lab, absent):
    prepared, _, lab, _ = open_lab()
    for j in absent:
        lab._streams["validation"].sizes[j] = 0
    each, mean = on_the_same_examples(lab)
    shares = np.where(np.isin(np.arange(4), absent), 0.0, prepared.problem.target_shares)
    expected = each.products @ shares / (shares.sum() or 1.0)
    np.testing.assert_allclose(mean.products[:, 0], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(mean.alignment(prepared.problem.target_shares), expected, rtol=1e-4, atol=1e-6)
    assert mean.target_present.tolist() == [j not in absent for j in range(4)]
    assert (mean.target_norms[0] > 0) == (len(absent) < 4)
    assert np.all(mean.norms > 0)


def test_a_target_that_does_not_count_is_not_worked_out(open_lab):
    _, trainer, lab, _ = open_lab()
    asked: list[str] = []

    def loss(split, indices):
        asked.append(split)
        return lab._loss(split, indices)

    made = estimate(
        loss,
        list(trainer.model.parameters()),
        [np.arange(2)],
        [np.array([j]) for j in range(4)],
        parts=1,
        scales=None,
        against="mean",
        shares=np.array([0.5, 0.0, 0.5, 0.0]),
    )
    assert asked == ["validation", "validation", "train"]
    assert made.examples == 1 + 1 + 2


def test_many_targets_cost_no_further_passes_over_the_domains_against_their_mean(open_lab, monkeypatch):
    monkeypatch.setattr("harness.gradients.estimate.TARGETS_AT_ONCE", 2)
    prepared, trainer, lab, ledger = open_lab()
    an_example = pass_flops(prepared, trainer.model).training / prepared.recipe.batch_size
    lab.domain_gradients(2)
    each = ledger.flops["mixing"]
    assert each == pytest.approx(an_example * 2 * (4 + 4 * 2))
    lab.domain_gradients(2, against="mean")
    assert ledger.flops["mixing"] - each == pytest.approx(an_example * 2 * (4 + 4))


@pytest.mark.parametrize("at_once", [1, 4])
def test_the_price_of_gradients_is_what_they_cost(open_lab, monkeypatch, at_once):
    monkeypatch.setattr("harness.gradients.estimate.TARGETS_AT_ONCE", at_once)
    for against in ("each", "mean"):
        declared = Purchases(domain_gradients=1, gradient_examples=3, gradients_against=against)
        prepared, trainer, lab, ledger = open_lab(declared)
        lab.domain_gradients(3, against=against)
        flops = pass_flops(prepared, trainer.model)
        assert prices.price_of(prepared, declared, flops) == pytest.approx(ledger.flops["mixing"])


def test_gradients_against_each_are_refused_where_the_mean_was_declared(open_lab):
    *_, lab, ledger = open_lab(Purchases(domain_gradients=2, gradient_examples=3, gradients_against="mean"))
    with pytest.raises(MixerError, match=r"set purchases\(\).gradients_against to each"):
        lab.domain_gradients(3)
    assert ledger.flops["mixing"] == 0.0
    lab.domain_gradients(3, against="mean")
    open_lab()[2].domain_gradients(3, against="mean")  # cheaper than what was declared


# Probes


def test_a_probe_is_training_on_its_mixture(open_lab):
    prepared, trainer, lab, ledger = open_lab()
    lab.probe(single(prepared.problem, 2), 5)
    assert trainer.done == 5
    assert trainer.sampler.drawn.tolist() == [0, 0, 5 * prepared.recipe.batch_size, 0]
    assert ledger.flops["mixing"] == 0, "its steps are the main run's"
    assert ledger.purchases["probe steps"]["calls"] == 5
    with pytest.raises(MixerError, match=r"21 bought, 20 declared; raise purchases\(\).probe_steps"):
        lab.probe(even(prepared.problem), 16)
    with pytest.raises(MixerError, match="of the main run's 25 that are left"):
        lab.probe(even(prepared.problem), 26)


# Runs


def test_a_run_is_made_once_and_billed_each_time(open_lab):
    prepared, _, _, _ = open_lab()
    runs = tuple(Run(steps=6, mixture=single(prepared.problem, i), evaluate_at=(0, 3)) for i in range(4))
    *_, lab, ledger = open_lab(Purchases(runs=runs))
    first = lab.train(runs)
    cost = ledger.flops["mixing"]
    *_, lab, ledger = open_lab(Purchases(runs=runs))
    again = lab.train(runs)
    assert ledger.flops["mixing"] == cost > 0
    assert ledger.purchases["runs"]["calls"] == 4
    for a, b in zip(first, again, strict=True):
        assert a.steps == b.steps == (0, 3, 6)
        np.testing.assert_array_equal(a.losses, b.losses)
    assert np.array_equal(first[0].losses[0], first[1].losses[0]), "all start from the same weights"
    with pytest.raises(MixerError, match=r"add them to purchases\(\).runs"):
        lab.train(runs[:1])


def test_a_shared_run_is_the_same_for_every_trial_of_an_experiment(open_lab):
    made, keys, seeds = [], [], []
    for seed in (0, 1):
        prepared, *_ = open_lab(seeds=[seed])
        run = Run(steps=6, mixture=even(prepared.problem), shared=True)
        *_, lab, ledger = open_lab(Purchases(runs=(run,)), seeds=[seed])
        made += lab.train([run])
        assert ledger.flops["mixing"] > 0, "billed in full either way"
        assert ledger.reused == len(keys)
        child = children.child_of(prepared, run)
        keys.append(children.key_of(child, run))
        seeds += [child.seed, children.child_of(prepared, replace(run, shared=False)).seed]
    assert keys[0] == keys[1]
    assert seeds[0] == seeds[2]
    np.testing.assert_array_equal(made[0].losses, made[1].losses)
    assert len({seeds[0], seeds[1], seeds[3]}) == 3, "apart from those of either trial's own runs"
    assert min(seeds) > 2**32, "no seed that a user gives to a main run"


def test_a_shared_run_is_another_where_the_cut_hangs_on_the_seed(open_lab):
    for partition, same in (("original", True), ("random[k=3]", False)):
        keys = set()
        for seed in (0, 1):
            prepared, *_ = open_lab(seeds=[seed], partitions=partition)
            run = Run(steps=6, mixture=even(prepared.problem), shared=True)
            keys.add(children.key_of(children.child_of(prepared, run), run))
        assert (len(keys) == 1) == same


def test_runs_that_are_not_shared_keep_their_seed_and_key(open_lab):
    prepared, *_ = open_lab()
    run = Run(steps=6, mixture=even(prepared.problem), seed=3)
    assert children.child_of(prepared, run).seed == derive_seed(prepared.seed, "run", 3)


def test_many_orders_of_one_size_are_counted_once(open_lab, monkeypatch):
    prepared, *_ = open_lab()
    monkeypatch.setattr(prices, "_COUNTED", {})
    counted = []
    real = prices.pass_flops
    monkeypatch.setattr(prices, "pass_flops", lambda *words: counted.append(1) or real(*words))
    billed = [prices.price(prepared, Run(steps=steps, mixture=even(prepared.problem))) for steps in (2, 4, 6)]
    assert counted == [1]
    assert billed[2] - billed[1] == pytest.approx(billed[1] - billed[0])


def test_a_run_that_was_killed_goes_on(open_lab, monkeypatch):
    prepared, *_ = open_lab()
    driven = Run(steps=8, mixer=Climber(), keep=True)
    whole = making.obtain(prepared, driven).result
    for path in (prepared.cache / "runs").iterdir():
        (path / "result.json").unlink()
    monkeypatch.setattr(making, "CHECKPOINT_SECONDS", 0.0)
    calls = 0
    real = Climber.update

    def dying(self: Climber, seen: Observation, lab: Lab) -> Mixture | None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return real(self, seen, lab)

    monkeypatch.setattr(Climber, "update", dying)
    with pytest.raises(KeyboardInterrupt):
        making.obtain(prepared, driven)
    resumed = making.obtain(prepared, driven).result
    np.testing.assert_array_equal(resumed.losses, whole.losses)
    assert resumed.state == whole.state == {"seen": 7}
    assert calls == 3 + 5, "two rounds were done before, and are not done again"


def test_a_run_whose_mixer_buys_gradients_goes_on_and_costs_no_more_than_its_price(open_lab, monkeypatch):
    prepared, *_ = open_lab()
    driven = Run(steps=8, mixer=Proxy(Proxy.Config(max_grad_norm=0.0, mu=1e-3)))
    whole = making.obtain(prepared, driven).result
    assert np.ptp(list(whole.state["weights"].values())) > 1e-3
    for path in (prepared.cache / "runs").iterdir():
        (path / "result.json").unlink()
    monkeypatch.setattr(making, "CHECKPOINT_SECONDS", 0.0)
    real, calls = Proxy.update, []

    def dying(self: Proxy, seen: Observation, lab: Lab) -> Mixture | None:
        calls.append(seen.step)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(self, seen, lab)

    monkeypatch.setattr(Proxy, "update", dying)
    with pytest.raises(KeyboardInterrupt):
        making.obtain(prepared, driven)
    resumed = making.obtain(prepared, driven).result
    assert calls == [1, 2, 3, 4, 4, 5, 6, 7]
    assert resumed.state == whole.state
    np.testing.assert_array_equal(resumed.losses, whole.losses)
    assert resumed.flops == pytest.approx(whole.flops)
    assert whole.flops <= prices.price(prepared, driven) * (1 + 1e-9)


def test_a_run_goes_on_from_a_kept_model_and_uses_part_of_the_data(open_lab):
    prepared, *_ = open_lab()
    mixture = even(prepared.problem)
    kept = making.obtain(prepared, Run(steps=10, mixture=mixture, keep=True)).result
    assert kept.checkpoint is not None
    further = making.obtain(prepared, Run(steps=2, mixture=mixture, start=kept.checkpoint, evaluate_at=(0,))).result
    np.testing.assert_allclose(further.losses[0], kept.final)
    child = children.child_of(prepared, Run(steps=2, mixture=mixture, subsample=0.5))
    assert child.problem.examples.tolist() == [20, 10, 4, 2]
    quarter = children.child_of(prepared, Run(steps=2, mixture=mixture, subsample=0.25)).partition.train
    assert set(np.flatnonzero(quarter >= 0)) < set(np.flatnonzero(child.partition.train >= 0)), "nested"
    with pytest.raises(MixerError, match="no longer in the cache"):
        making.obtain(prepared, Run(steps=2, mixture=mixture, start=Checkpoint(key="gone")))


@pytest.mark.parametrize(
    ("order", "says"),
    [
        ({"steps": 3}, "either a mixture or a mixer"),
        ({"steps": 0}, "a run of 0 steps"),
        ({"steps": 3, "evaluate_at": (4,)}, "cannot be evaluated at"),
        ({"steps": 3, "subsample": 0.0}, "subsample must be in"),
        ({"steps": 3, "size": 0.5}, "models of one size"),
    ],
)
def test_bad_orders_are_one_line(open_lab, order: dict[str, Any], says: str):
    prepared, *_ = open_lab()
    mixture = None if says.startswith("either") else even(prepared.problem)
    with pytest.raises(ValueError, match=says):
        making.obtain(prepared, Run(mixture=mixture, **order))


class Climber(Mixer):
    """Counts its updates and moves a little at each."""

    def needs(self) -> Needs:
        return Needs(every=1)

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        self.problem, self.seen = problem, 0
        return even(problem)

    def update(self, seen: Observation, lab: Lab) -> Mixture | None:
        self.seen += 1
        weights = np.ones(self.problem.m)
        weights[0] += self.seen
        return self.problem.mixture(weights / weights.sum())

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def load_state_dict(self, state: Any) -> None:
        self.seen = state["seen"]


# Loss weights that follow from the batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighing:
    """reference: key of a kept model."""

    reference: str = ""


class Focus(Mixer):
    """Trains on the first domain alone by loss weights, and remembers what it was shown."""

    Config = Weighing

    def needs(self) -> Needs:
        key = self.config.reference
        return Needs(rounds=1, signals=(StepLosses(reference=Checkpoint(key=key) if key else None),))

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        self.batches: list[BatchLosses] = []
        self.m = problem.m
        return even(problem)

    def reweigh(self, batch: BatchLosses) -> Any:
        self.batches.append(batch)
        return np.eye(self.m)[0]


def test_loss_weights_can_follow_from_the_batch(open_lab):
    prepared, *_ = open_lab()
    reference = making.obtain(prepared, Run(steps=3, mixture=even(prepared.problem), keep=True)).result.checkpoint
    assert reference is not None
    child = children.child_of(prepared, Run(steps=5, mixer=Focus(Weighing(reference=reference.key))))
    trainer = child.trainer(child.mixer.needs().signals)
    mixture = child.mixer.start(child.problem, None)  # type: ignore[arg-type]
    twin = child.trainer(())
    trainer.begin_round(0)
    twin.begin_round(0)
    trainer.step(mixture)
    twin.step(Mixture(domains=mixture.domains, weights=mixture.weights, loss_weights=np.eye(4)[0]))
    for name, value in trainer.model.state_dict().items():
        torch.testing.assert_close(value, twin.model.state_dict()[name])
    (batch,) = child.mixer.batches  # type: ignore[attr-defined]
    assert batch.losses.shape == batch.mask.shape == batch.reference.shape
    assert batch.examples.sum() == prepared.recipe.batch_size
    kept = kept_model(child.main_task, child.cache, reference)
    drawn, _ = child.trainer(()).sampler.draw(mixture.weights, 0, prepared.recipe.batch_size)
    tokens = prepared.task.batch(prepared.corpus, "train", drawn)
    with torch.no_grad():
        np.testing.assert_allclose(batch.reference, prepared.task.loss(kept, tokens).per_unit.numpy(), rtol=1e-5)
    means = batch.means(batch.losses)
    for domain in range(4):
        mine = batch.losses[batch.labels == domain]
        assert np.isnan(means[domain]) if not len(mine) else means[domain] == pytest.approx(mine.mean())


def test_a_reference_is_on_the_bill(open_lab):
    prepared, *_ = open_lab()
    reference = making.obtain(prepared, Run(steps=3, mixture=even(prepared.problem), keep=True)).result.checkpoint
    assert reference is not None
    plain = making.obtain(prepared, Run(steps=4, mixer=Focus())).result
    compared = making.obtain(prepared, Run(steps=4, mixer=Focus(Weighing(reference=reference.key)))).result
    forward = pass_flops(prepared, prepared.build_model()).forward
    assert compared.flops - plain.flops == pytest.approx(4 * forward)
    assert prices.price(prepared, Run(steps=4, mixer=Focus())) >= plain.flops
