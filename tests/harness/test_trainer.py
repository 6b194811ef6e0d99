"""The one training loop against a bare PyTorch loop, and the signals it gathers."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.prepare import prepare
from harness.prepared import Prepared
from harness.trainer import DivergedError
from mixers.base import DomainGradients, Mixture, TrainLosses


@pytest.fixture
def prepared(toy_specs, registry, tmp_path: Path) -> Prepared:
    (spec,) = toy_specs(steps=8)
    return prepare(spec, registry, tmp_path)


def _mixture(prepared: Prepared, loss_weights=None) -> Mixture:
    return prepared.problem.mixture([0.4, 0.3, 0.2, 0.1], loss_weights)


def _weights(model: torch.nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


@pytest.mark.parametrize("signals", [(), (TrainLosses(),), (DomainGradients(),)])
def test_training_is_a_bare_loop_on_the_same_batches_bit_for_bit(prepared: Prepared, signals):
    trainer = prepared.trainer(signals)
    trainer.begin_round(0)
    mixture = _mixture(prepared)
    for _ in range(8):
        trainer.step(mixture)

    model = prepared.build_model()
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
        betas=(0.9, 0.95),
        fused=True,
    )
    sampler = prepared.trainer(()).sampler
    for step in range(8):
        indices, _ = sampler.draw(mixture.weights, step, 4)
        for group in optimizer.param_groups:
            group["lr"] = trainer.learning_rate(step)
        batch = prepared.task.batch(prepared.corpus, "train", indices)
        prepared.task.loss(model, batch).per_example.mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    for ours, theirs in zip(_weights(trainer.model), _weights(model), strict=True):
        assert torch.equal(ours, theirs)


def test_train_losses_are_the_example_means_of_the_round(prepared: Prepared):
    trainer = prepared.trainer((TrainLosses(),))
    trainer.begin_round(0)
    seen: dict[int, list[float]] = {}
    mixture = prepared.problem.mixture([0.5, 0.5, 0.0, 0.0])
    sampler = prepared.trainer(()).sampler
    for step in range(5):
        indices, domains = sampler.draw(mixture.weights, step, 4)
        with torch.no_grad():
            losses = prepared.task.loss(trainer.model, prepared.task.batch(prepared.corpus, "train", indices))
        for domain, loss in zip(domains, losses.per_example.tolist(), strict=True):
            seen.setdefault(int(domain), []).append(loss)
        trainer.step(mixture)
    losses = trainer.domain_losses()
    assert losses is not None
    for domain in range(4):
        if domain in seen:
            assert losses[domain] == pytest.approx(np.mean(seen[domain]), rel=1e-5)
        else:
            assert np.isnan(losses[domain]), "absent is not a loss of zero"
    served = trainer.served()
    assert served.examples.tolist() == [len(seen.get(d, [])) for d in range(4)]
    assert served.units.tolist() == [6 * len(seen.get(d, [])) for d in range(4)]


def test_loss_weights_scale_the_gradients_of_their_domains(prepared: Prepared):
    """Weight zero on all domains but one trains on that one alone, scaled by its weight."""
    plain, weighted = prepared.trainer(()), prepared.trainer(())
    for trainer in (plain, weighted):
        trainer.begin_round(0)
    only = prepared.problem.mixture([1.0, 0.0, 0.0, 0.0])
    plain.step(only)
    weighted.step(prepared.problem.mixture([1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 5.0, 0.0]))
    for ours, theirs in zip(_weights(plain.model), _weights(weighted.model), strict=True):
        assert torch.equal(ours, theirs)
    none = prepared.trainer(())
    none.begin_round(0)
    none.step(prepared.problem.mixture([1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 1.0, 1.0]))
    moved = prepared.build_model()
    head, fresh = none.model.head.weight, moved.head.weight
    rate = none.learning_rate(0)
    assert torch.allclose(head, fresh * (1 - rate * 0.1)), "only weight decay moves the weights where no loss counts"


def test_domain_gradients_do_not_see_the_loss_weights(prepared: Prepared):
    grams = []
    for loss_weights in (None, [2.0, 0.5, 3.0, 1.0]):
        trainer = prepared.trainer((DomainGradients(estimator="exact"),))
        trainer.begin_round(0)
        trainer.step(_mixture(prepared, loss_weights))
        grams.append(trainer.tracker.take().gram())
    assert np.allclose(grams[0], grams[1], rtol=1e-4)


def test_the_learning_rate_warms_up_and_ends_at_its_final_share(prepared: Prepared):
    trainer = prepared.trainer(())
    rates = [trainer.learning_rate(step) for step in range(8)]
    assert rates[0] == pytest.approx(1e-2)  # a warm-up of one step in eight
    assert trainer.learning_rate(8) == pytest.approx(1e-3)
    assert all(a >= b for a, b in itertools.pairwise(rates))


def test_a_loss_that_is_not_finite_is_noticed_at_the_round(prepared: Prepared):
    trainer = prepared.trainer(())
    trainer.begin_round(0)
    with torch.no_grad():
        trainer.model.head.weight.fill_(float("nan"))
    trainer.step(_mixture(prepared))
    with pytest.raises(DivergedError, match="not finite by step 1"):
        trainer.mean_loss(1)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        # two warm-up steps of ten, then down to a tenth: progress 0, 1/8, ..., 7/8
        ("linear", [0.5, 1.0, 1.0, 1 - 0.9 / 8, 1 - 0.9 * 7 / 8]),
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0]),
        ("cosine", [0.5, 1.0, 1.0, 0.1 + 0.45 * (1 + np.cos(np.pi / 8)), 0.1 + 0.45 * (1 + np.cos(7 * np.pi / 8))]),
    ],
)
def test_schedules_by_hand(prepared: Prepared, schedule: str, expected: list[float]):
    trainer = prepared.trainer(())
    trainer.recipe = replace(trainer.recipe, schedule=schedule, steps=10, warmup=0.2, learning_rate=1.0, final_lr=0.1)
    assert [trainer.learning_rate(step) for step in (0, 1, 2, 3, 9)] == pytest.approx(expected)
