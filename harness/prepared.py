"""A training run that is ready to start, and what a mixer may know of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from harness.flops import PassFlops, count_pass
from harness.kept import kept_model
from harness.ledger import Ledger
from harness.orders import INLINE, Made, OrderPolicy
from harness.sampler import DomainSampler
from harness.seeds import derive_seed
from harness.spec import TrialSpec
from harness.store import load_weights
from harness.trainer import Trainer
from mixers.base import Mixer, Problem, Run, Signal, StepLosses
from mixers.regroup.base import Partition
from tasks.base import Corpus, Recipe, TrainableTask

RunMaker = Callable[["Prepared", Sequence[Run]], list[Made]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A training run that is ready to start: a trial's main run, or a proxy run that it bought.

    ``ledger`` of a main run already carries the regrouping bill. seed: the trial's, or one derived from it. cache:
    where runs are kept. main_task: the task at the main run's size, of which a proxy's ``task`` may be a part. start:
    weights to begin with, in place of fresh ones. make_runs: makes the runs that the mixer orders, here. orders: where
    others make them first.
    """

    spec: TrialSpec
    task: TrainableTask
    corpus: Corpus
    partition: Partition
    problem: Problem
    mixer: Mixer
    recipe: Recipe
    ledger: Ledger
    device: torch.device
    dtype: torch.dtype
    seed: int
    cache: Path
    main_task: TrainableTask
    make_runs: RunMaker
    start: Path | None = None
    orders: OrderPolicy = INLINE

    def build_model(self) -> nn.Module:
        """The seed's initial model: the same for every mixer and partition."""
        model = self.task.build_model(derive_seed(self.seed, "model"))
        if self.start is not None:
            model.load_state_dict(load_weights(self.start))
        return model

    def reference(self, signals: tuple[Signal, ...]) -> nn.Module | None:
        """The model whose losses on every batch the mixer declared, if it did."""
        for signal in signals:
            if isinstance(signal, StepLosses) and signal.reference is not None:
                return kept_model(self.main_task, self.cache, signal.reference)
        return None

    def trainer(self, signals: tuple[Signal, ...]) -> Trainer:
        """A trainer at step 0."""
        sampler = DomainSampler(self.partition.train, self.partition.domains, derive_seed(self.seed, "sampling"))
        return Trainer(
            task=self.task,
            corpus=self.corpus,
            sampler=sampler,
            model=self.build_model(),
            recipe=self.recipe,
            signals=signals,
            seed=self.seed,
            device=self.device,
            dtype=self.dtype,
            compiled=self.spec.compile,
            reweigh=self.mixer.reweigh,
            reference=self.reference(signals),
        )


def pass_flops(prepared: Prepared, model: nn.Module) -> PassFlops:
    """FLOPs of one step. The first examples stand for all: shapes do not depend on what is drawn."""
    size = min(prepared.recipe.batch_size, len(prepared.corpus.labels["train"]))
    batch = prepared.task.batch(prepared.corpus, "train", np.arange(size, dtype=np.int64))
    on_device = {key: tensor.to(prepared.device) for key, tensor in batch.items()}
    return count_pass(prepared.task, model, on_device)


def problem_of(corpus: Corpus, partition: Partition, recipe: Recipe, seed: int) -> Problem:
    """What a mixer may know, under this partition."""
    m = len(partition.domains)
    kept = partition.train >= 0  # a proxy run may leave examples out
    labels = partition.train[kept]
    examples = np.bincount(labels, minlength=m).astype(np.int64)
    units = np.bincount(labels, weights=np.asarray(corpus.units["train"])[kept], minlength=m).astype(np.int64)
    return Problem(
        domains=partition.domains,
        targets=partition.target_domains,
        train_shares=read_only(examples / examples.sum()),
        target_shares=read_only(target_shares(corpus, partition)),
        examples=read_only(examples),
        units=read_only(units),
        steps=recipe.steps,
        batch_size=recipe.batch_size,
        seed=seed,
    )


def target_shares(corpus: Corpus, partition: Partition) -> npt.NDArray[np.float64]:
    """[n] share j = sum over original domains i of target_i x (share of i's validation examples assigned to j).

    Examples count by the corpus's weights, as in judgement.
    A target domain without validation examples keeps its share out; the rest is scaled up to one.
    """
    table = np.zeros((len(corpus.domains), len(partition.target_domains)))
    weights = corpus.weights.get("validation", 1.0)
    np.add.at(table, (corpus.labels["validation"], partition.validation), weights)
    counts = table.sum(axis=1)
    seen = counts > 0
    shares = (corpus.target_shares[seen] / corpus.target_shares[seen].sum()) @ (table[seen] / counts[seen, None])
    return np.asarray(shares, dtype=np.float64)


def read_only(array: Any) -> Any:
    """The array, which can no longer be written to: what a mixer is shown, a mixer cannot change."""
    array.setflags(write=False)
    return array
