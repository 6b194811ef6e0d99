"""From a trial's spec to everything that stands before the first step: task, corpus, partition, problem, mixer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from harness.errors import UserError
from harness.experiment import build_config
from harness.kept import kept_model
from harness.ledger import Ledger
from harness.orders import INLINE, OrderPolicy
from harness.partitions import partition_of, target_shares
from harness.registry import Kind, Plugin, Registry
from harness.sampler import DomainSampler
from harness.seeds import derive_seed
from harness.spec import PluginSpec, TrialSpec
from harness.store import load_weights
from harness.trainer import Trainer
from mixers.base import Mixer, Problem, Signal, StepLosses
from mixers.regroup.base import Partition
from tasks.base import Corpus, Recipe, TrainableTask

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A training run that is ready to start: a trial's main run, or a proxy run that it bought.

    ``ledger`` of a main run already carries the regrouping bill. seed: the trial's, or one derived from it. cache:
    where runs are kept. main_task: the task at the main run's size, of which a proxy's ``task`` may be a part. start:
    weights to begin with, in place of fresh ones. orders: who makes the runs that the mixer orders.
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
                return kept_model(self, signal.reference)
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


def make(registry: Registry, kind: Kind, spec: PluginSpec) -> Any:
    """A plugin object from its spec."""
    plugin = as_planned(registry, kind, spec)
    return plugin.cls(build_config(plugin, spec.config))


def as_planned(registry: Registry, kind: Kind, spec: PluginSpec) -> Plugin:
    """The plugin, unless its code changed after the run was planned: the row would name code that did not run."""
    plugin = registry.get(kind, spec.name)
    if plugin.source != spec.source:
        raise UserError(
            f"{spec.name} changed since the run was planned ({spec.source or 'tree'}, now {plugin.source or 'tree'}); "
            "start the run again"
        )
    return plugin


def recipe_of(spec: TrialSpec) -> Recipe:
    """The trial's recipe as the tasks' house knows it."""
    fields = dict(spec.recipe)
    fields["betas"] = tuple(fields["betas"])
    return Recipe(**fields)


def prepare(spec: TrialSpec, registry: Registry, cache: Path) -> Prepared:
    """Load, cut and describe; raises whatever the task, the regrouper or the mixer raises."""
    task_plugin = as_planned(registry, "tasks", spec.task)
    config = build_config(task_plugin, spec.task.config)
    task: TrainableTask = task_plugin.cls(config, task_plugin.cls.presets[spec.preset], cache)
    corpus = task.load()
    ledger, recipe = Ledger(), recipe_of(spec)
    mixer: Mixer = make(registry, "mixers", spec.mixer)

    def on(partition: Partition) -> Prepared:
        return Prepared(
            spec=spec,
            task=task,
            corpus=corpus,
            partition=partition,
            problem=problem_of(corpus, partition, recipe, derive_seed(spec.seed, "mixer")),
            mixer=mixer,
            recipe=recipe,
            ledger=ledger,
            device=torch.device(spec.device),
            dtype=DTYPES[spec.dtype],
            seed=spec.seed,
            cache=cache,
            main_task=task,
        )

    return on(
        partition_of(
            make(registry, "regroupers", spec.partition),
            spec.partition,
            task=task,
            task_spec=spec.task,
            corpus=corpus,
            seed=spec.seed,
            cache=cache,
            ledger=ledger,
            prepared=on,
        )
    )


def read_only(array: Any) -> Any:
    """The array, which can no longer be written to: what a mixer is shown, a mixer cannot change."""
    array.setflags(write=False)
    return array


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
