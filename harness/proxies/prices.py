"""What an order, or all that a mixer declares, costs at most in FLOPs. Nothing is made for it."""

from __future__ import annotations

import json
from dataclasses import replace

from harness import influence
from harness.experiment import plain
from harness.flops import PassFlops
from harness.gradients import estimate
from harness.prepared import Prepared, pass_flops
from harness.proxies.children import child_of
from harness.validation import validated
from harness.vectors import embedding_flops
from mixers.base import DomainGradients, Purchases, Run, StepLosses


def price(prepared: Prepared, run: Run) -> float:
    """Upper bound of a run's FLOPs, without making it."""
    child = child_of(prepared, replace(run, start=None))
    signals = child.mixer.needs().signals
    flops = _flops_of(child)
    total = run.steps * flops.training
    if any(isinstance(signal, StepLosses) and signal.reference is not None for signal in signals):
        total += run.steps * flops.forward
    if any(isinstance(signal, DomainGradients) for signal in signals):
        total += run.steps * flops.training  # generous: the tracker's price is known only as it goes
    at = len({*run.evaluate_at, run.steps})
    total += at * flops.forward * validated(child, run.validation_examples) / child.recipe.batch_size
    return total + price_of(child, child.mixer.purchases(child.problem), flops)


_COUNTED: dict[str, PassFlops] = {}


def _flops_of(child: Prepared) -> PassFlops:
    """FLOPs of a step of the run's model, counted once: a mixer may order hundreds of runs of one size."""
    shape = [
        child.task.name,
        plain(child.task.config),
        child.corpus.fingerprint,
        child.recipe.batch_size,
        str(child.device),
    ]
    key = json.dumps(shape, sort_keys=True)
    if key not in _COUNTED:
        _COUNTED[key] = pass_flops(child, child.build_model().to(child.device))
    return _COUNTED[key]


def price_of(prepared: Prepared, bought: Purchases, flops: PassFlops) -> float:
    """Upper bound of what purchases cost in FLOPs."""
    m, n, batch = prepared.problem.m, len(prepared.problem.targets), prepared.recipe.batch_size
    validation = bought.validation_losses * flops.forward * validated(prepared, bought.validation_examples) / batch
    blocks = 1 if bought.gradients_against == "mean" else -(-n // estimate.TARGETS_AT_ONCE)
    passes = bought.gradient_examples * (n + m * blocks)
    gradients = bought.domain_gradients * flops.training * passes / batch
    vectors = embedding_flops(prepared, bought.embedder) if bought.embedding_examples else 0.0
    runs = sum(price(prepared, run) for run in bought.runs)
    return validation + gradients + vectors + runs + influence.price(prepared, bought)
