"""``make bench``: seconds of a training step, bare, under the harness, and with R&B's signals, at ``nano``.

For ratios with an interval run the paired scripts: ``python -m benchmarks.throughput`` and
``python -m benchmarks.gradient_price``.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from benchmarks.mixer_updates import drivers, update_once, world_of
from benchmarks.throughput import bare_step, harness_step, prepared_trial
from harness.conformance.scripted import Run
from harness.prepared import Prepared
from harness.registry import Registry
from harness.sampler import DomainSampler
from harness.trainer import Trainer
from mixers.base import DomainGradients

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
@pytest.mark.parametrize("name", sorted(Registry().all("mixers")))
def test_update(benchmark, name: str, m: int):
    """The first updates of a mixer, or batches of its proxy: its own arithmetic, with all that it buys for free."""
    world = world_of(m)
    found = dict(drivers(Registry().get("mixers", name).cls(), world))
    if not found:
        pytest.skip("its mixture never changes")
    make = list(found.values())[-1]

    def set_up():
        run = Run(make(), world)
        return (run,), {}

    def updates(run: Run) -> None:
        for round in range(min(5, run.updates or 5)):
            update_once(run, round)()

    with threadpool_limits(1):
        benchmark.pedantic(updates, setup=set_up, rounds=3, warmup_rounds=0)
