"""``make bench``: seconds of a training step, bare, under the harness, and with R&B's signals, at ``nano``.

For ratios with an interval run the paired scripts: ``python -m benchmarks.throughput`` and
``python -m benchmarks.gradient_price``.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.throughput import bare_step, harness_step, prepared_trial
from harness.prepare import Prepared
from harness.sampler import DomainSampler
from harness.trainer import Trainer
from mixers.base import DomainGradients
from mixers.rnb import balance

ROUNDS = {"rounds": 20, "warmup_rounds": 3, "iterations": 1}


@pytest.fixture(scope="module")
def nano() -> Prepared:
    torch.set_num_threads(1)
    return prepared_trial("nano")


@pytest.mark.benchmark(group="step at nano")
def test_bare_loop(benchmark, nano: Prepared):
    benchmark.pedantic(bare_step(nano), **ROUNDS)


@pytest.mark.benchmark(group="step at nano")
def test_harness_uniform(benchmark, nano: Prepared):
    benchmark.pedantic(harness_step(nano), **ROUNDS)


@pytest.mark.benchmark(group="step at nano")
@pytest.mark.parametrize("estimator", ["sketch", "exact"])
@pytest.mark.parametrize("m", [7, 16, 64, 256])
def test_domain_gradients(benchmark, nano: Prepared, m: int, estimator: str):
    """Steps while R&B's signal is gathered, with the training examples dealt into m domains."""
    n = len(nano.corpus.labels["train"])
    labels = np.arange(n) % m
    trainer = Trainer(
        task=nano.task,
        corpus=nano.corpus,
        sampler=DomainSampler(labels, [f"d{i}" for i in range(m)], seed=0),
        model=nano.build_model(),
        recipe=nano.recipe,
        signals=(DomainGradients(estimator=estimator),),
        seed=0,
        device=nano.device,
        dtype=nano.dtype,
    )
    from mixers.base import Mixture

    mixture = Mixture(domains=trainer.sampler.domains, weights=np.full(m, 1 / m))
    trainer.begin_round(0)
    benchmark.pedantic(lambda: trainer.step(mixture), **ROUNDS)


@pytest.mark.benchmark(group="update of the mixture")
@pytest.mark.parametrize("m", [8, 32, 128, 512])
def test_rnb_update(benchmark, m: int):
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(m, 64))
    gram, target = gradients @ gradients.T, np.full(m, 1 / m)
    benchmark(balance, gram, target, 3.0)
