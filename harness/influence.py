"""Influence of training examples on targets, measured on a model that a run kept."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from harness.experiment import plain
from harness.flops import PassFlops
from harness.gradients.examples import example_gradients, layers_of, width
from harness.gradients.influence import influences, product_flops, readings
from harness.kept import kept_model, size_of
from harness.prepared import Prepared, pass_flops
from harness.process import reseed
from harness.seeds import derive_seed
from harness.validation import subset
from mixers.base import Array, Checkpoint, Influence, InfluenceEstimate, IntArray, MixerError, Purchases


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """An estimate and its counted FLOPs."""

    estimate: InfluenceEstimate
    flops: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """What a model's layers and passes are. width: numbers in an example's gradient. passes: FLOPs of a batch."""

    width: int
    passes: PassFlops

    def cost(self, how: Influence, *, k: int, validated: int, n: int, batch_size: int) -> float:
        """FLOPs of scoring k training examples against n targets that have so many validation examples together."""
        formed = k * readings(how, k, self.width) + validated
        return self.passes.training * formed / batch_size + product_flops(how, k, n, self.width)


_MEASURES: dict[str, Measure] = {}


def measure_of(prepared: Prepared, size: float, how: Influence) -> Measure:
    """That of the task's model of a size; found once."""
    task = prepared.main_task.scaled(size)
    batch = prepared.recipe.batch_size
    shape = [task.name, plain(task.config), prepared.corpus.fingerprint, batch, str(prepared.device), how.layers]
    key = json.dumps(shape, sort_keys=True)
    if key not in _MEASURES:
        model = task.build_model(0).to(prepared.device)
        sized = replace(prepared, task=task)
        _MEASURES[key] = Measure(width=width(layers_of(task, model, how.layers)), passes=pass_flops(sized, model))
    return _MEASURES[key]


def price(prepared: Prepared, bought: Purchases) -> float:
    """Upper bound of the FLOPs of all calls that a mixer declares."""
    how = bought.influence_how
    if not bought.influence:
        return 0.0
    counts = np.bincount(prepared.partition.train[prepared.partition.train >= 0], minlength=prepared.problem.m)
    k = int(np.minimum(counts, how.examples or len(prepared.partition.train)).sum())
    n, found = len(prepared.problem.targets), measure_of(prepared, bought.influence_size, how)
    validated = len(subset(prepared, how.target_examples))
    batch = prepared.recipe.batch_size
    return bought.influence * found.cost(how, k=k, validated=validated, n=n, batch_size=batch)


def check_declared(prepared: Prepared, kept: Checkpoint, how: Influence, bought: Purchases) -> None:
    """Raise :class:`MixerError` for a measurement that was declared otherwise."""
    if how != bought.influence_how:
        raise MixerError(f"influence by {how}, {bought.influence_how} was declared; set purchases().influence_how")
    size = size_of(prepared.cache, kept)
    if size > bought.influence_size:
        raise MixerError(
            f"influence on a model of size {size:g}, {bought.influence_size:g} was declared; "
            "raise purchases().influence_size"
        )


def measure(prepared: Prepared, kept: Checkpoint, how: Influence, targets: Sequence[int] | None = None) -> Measured:
    """The influence of a fixed sample of training examples on the targets at these positions; ``None``: on all."""
    problem, partition = prepared.problem, prepared.partition
    order = np.random.default_rng(derive_seed(prepared.seed, "influence")).permutation(len(partition.train))
    labels = partition.train[order]
    # In the order of the draw, which mixes domains as training batches do: contrastive losses depend on their batch.
    # An example that a thinned run leaves out has no domain, and is no one's however many are asked for.
    wanted = np.zeros(len(order), dtype=bool)
    for domain in range(problem.m):
        wanted[np.flatnonzero(labels == domain)[: how.examples or None]] = True
    train = order[wanted]
    chosen = subset(prepared, how.target_examples)
    groups = partition.validation[chosen]
    asked = range(len(problem.targets)) if targets is None else targets
    there = [j for j in asked if np.any(groups == j)]
    scores = np.full((len(train), len(problem.targets)), np.nan)
    validated = {j: chosen[groups == j] for j in there}
    if there and len(train):
        scores[:, there] = _scores(prepared, kept, how, train, [validated[j] for j in there])
    estimate = InfluenceEstimate(
        influence=_frozen(scores),
        examples=_frozen(train),
        domains=_frozen(partition.train[train]),
        units=_frozen(np.asarray(prepared.corpus.units["train"])[train].astype(np.float64)),
    )
    found = measure_of(prepared, size_of(prepared.cache, kept), how)
    flops = found.cost(
        how,
        k=len(train) if there else 0,
        validated=sum(len(each) for each in validated.values()),
        n=len(there),
        batch_size=prepared.recipe.batch_size,
    )
    return Measured(estimate=estimate, flops=flops)


def _scores(
    prepared: Prepared, kept: Checkpoint, how: Influence, train: IntArray, targets: Sequence[IntArray]
) -> Array:
    task = prepared.main_task.scaled(size_of(prepared.cache, kept))
    model = kept_model(prepared.main_task, prepared.cache, kept).to(prepared.device).eval()
    layers = layers_of(task, model, how.layers)
    lower = prepared.dtype != torch.float32
    reseed(derive_seed(prepared.seed, "influence"))

    def gradients(split: str, indices: IntArray) -> list[Tensor]:
        batch = task.batch(prepared.corpus, split, indices)
        on_device = {name: tensor.to(prepared.device) for name, tensor in batch.items()}

        def losses() -> Tensor:
            context = torch.autocast(prepared.device.type, dtype=prepared.dtype) if lower else contextlib.nullcontext()
            with context:
                return task.loss(model, on_device).per_example

        return example_gradients(layers, losses)

    def batches(indices: IntArray) -> list[IntArray]:
        """Of even sizes: a last batch of one would leave a contrastive loss without anything to compare."""
        return np.array_split(indices, -(-len(indices) // prepared.recipe.batch_size))

    return influences(gradients, batches(train), [batches(each) for each in targets], how)


def _frozen(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array
