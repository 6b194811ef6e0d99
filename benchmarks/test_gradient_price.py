"""One training step at ``nano``, plain and with either estimator; ``gradient_price.py`` pairs them for an interval."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import nn

from benchmarks.gradient_price import SCALES, Bench
from harness.gradients import GradientTracker
from mixers.base import DomainGradients


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Bench(SCALES["nano"], torch.device("cpu"), torch.float32)
    torch.set_num_threads(threads)


@pytest.mark.parametrize("m", [7, 64])
@pytest.mark.parametrize("estimator", ["plain", "sketch", "exact"])
def test_training_step(benchmark: BenchmarkFixture, bench: Bench, estimator: str, m: int) -> None:
    tracker = None
    if estimator != "plain":
        head = [module for module in bench.model.modules() if isinstance(module, nn.Linear)][-1:]
        tracker = GradientTracker(head, m, DomainGradients(estimator=estimator), seed=0)
        tracker.attach()
    try:
        benchmark.pedantic(bench.step, args=(tracker,), rounds=10, warmup_rounds=2)
    finally:
        if tracker is not None:
            tracker.detach()


def test_counted_flops_at_small_stay_below_a_thousandth() -> None:
    """From shapes, as the tracker counts them, for one step of m = 64 and a share of a Gram matrix every 60 steps."""
    scale = SCALES["small"]
    layer = nn.Linear(scale.width, scale.vocabulary, bias=False)
    tracker = GradientTracker([layer], 64, DomainGradients(), seed=0)
    tracker.attach()
    domains = torch.randint(0, 64, (scale.batch,))
    tracker.begin(domains, 1.0)
    layer(torch.randn(scale.batch, scale.context, scale.width, requires_grad=True)).sum().backward()
    tracker.end()
    per_step = tracker.flops
    present = 64
    gram = 2.0 * present**2 * tracker.memory_bytes / 4 / 64
    block = 4 * scale.width**2 + 3 * scale.width * scale.hidden
    weights = scale.layers * block + scale.vocabulary * scale.width
    training = 6.0 * weights * scale.batch * scale.context
    assert (per_step + gram / 60) / training < 0.001
