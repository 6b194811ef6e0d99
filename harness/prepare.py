"""From a trial's spec to everything that stands before the first step: task, corpus, partition, problem, mixer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from harness.errors import UserError
from harness.experiment import build_config
from harness.ledger import Ledger
from harness.making import obtain_all
from harness.partitions import partition_of
from harness.prepared import Prepared, problem_of
from harness.registry import Kind, Plugin, Registry
from harness.seeds import derive_seed
from harness.spec import PluginSpec, TrialSpec
from mixers.base import Mixer
from mixers.regroup.base import Partition
from tasks.base import Recipe, TrainableTask

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


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
            make_runs=obtain_all,
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
