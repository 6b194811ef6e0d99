"""What identifies a trial: everything its row depends on, and nothing else."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from typing import Any

from harness import PROTOCOL


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginSpec:
    """A plugin with its full config. label: as the user wrote it. source: its origin outside the tree, if any."""

    name: str
    config: dict[str, Any]
    label: str
    source: str = ""

    def identity(self) -> dict[str, Any]:
        """What a result depends on: not the label, which is only spelling."""
        return {"name": self.name, "config": self.config, "source": self.source}


def named(plugin: PluginSpec) -> str | list[str]:
    """What a plugin is called in the keys of what is kept: with its source, where its code is not the tree's."""
    return [plugin.name, plugin.source] if plugin.source else plugin.name


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialSpec:
    """One (task, partition, mixer, seed) under one budget.

    recipe: the fields of ``tasks.base.Recipe``. threads: CPU threads of the trial. budget_rule: see
    :mod:`harness.budget`. judge: the split that the row is judged on, ``validation`` for tuning alone. All of it is
    part of the id; the last two are left out of ids and rows where they stand at their defaults.
    """

    task: PluginSpec
    preset: str
    partition: PluginSpec
    mixer: PluginSpec
    seed: int
    recipe: dict[str, Any]
    device: str = "cpu"
    dtype: str = "float32"
    compile: bool = False
    threads: int = 1
    budget_rule: str = "main"
    judge: str = "test"

    def identity(self) -> dict[str, Any]:
        """The canonical form behind :attr:`id`. The time limit is left out: it cannot change a finished row."""
        recipe = {key: value for key, value in self.recipe.items() if key != "time_limit"}
        return {
            "protocol": PROTOCOL,
            "task": self.task.identity(),
            "preset": self.preset,
            "partition": self.partition.identity(),
            "mixer": self.mixer.identity(),
            "seed": self.seed,
            "recipe": recipe,
            "device": self.device,
            "dtype": self.dtype,
            "compile": self.compile,
            "threads": self.threads,
            **self._rules(),
        }

    def _rules(self) -> dict[str, str]:
        rules = {"budget_rule": (self.budget_rule, "main"), "judge": (self.judge, "test")}
        return {key: value for key, (value, default) in rules.items() if value != default}

    @property
    def id(self) -> str:
        """A readable name that ends in a hash of the identity; stable across processes and machines."""
        text = json.dumps(self.identity(), sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:10]
        words = [self.task.name, self.preset, self.partition.name, self.mixer.name, f"s{self.seed}", digest]
        return re.sub(r"[^\w.\-]+", "_", "-".join(words))

    @property
    def cell(self) -> str:
        """Id of the trial without its seed: what one timing belongs to."""
        identity = self.identity()
        del identity["seed"]
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:10]
        words = [self.task.name, self.preset, self.partition.name, self.mixer.name, digest]
        return re.sub(r"[^\w.\-]+", "_", "-".join(words))

    def as_row(self) -> dict[str, Any]:
        """The ``spec`` object of a row."""
        row: dict[str, Any] = {}
        for role in ("task", "partition", "mixer"):
            plugin: PluginSpec = getattr(self, role)
            row[role] = plugin.name
            row[f"{role}_config"] = plugin.config
            row[f"{role}_label"] = plugin.label
            row[f"{role}_source"] = plugin.source
        row |= {
            "preset": self.preset,
            "seed": self.seed,
            "steps": self.recipe["steps"],
            "batch_size": self.recipe["batch_size"],
            "recipe": self.recipe,
            "device": self.device,
            "dtype": self.dtype,
            "compile": self.compile,
            "threads": self.threads,
            **self._rules(),
        }
        return row

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> TrialSpec:
        """The inverse of :meth:`as_row`."""
        plugins: dict[str, Any] = {
            role: PluginSpec(
                name=row[role],
                config=row[f"{role}_config"],
                label=row[f"{role}_label"],
                source=row[f"{role}_source"],
            )
            for role in ("task", "partition", "mixer")
        }
        kept = ("preset", "seed", "recipe", "device", "dtype", "compile", "threads")
        rules = {key: row[key] for key in ("budget_rule", "judge") if key in row}
        return cls(**plugins, **{key: row[key] for key in kept}, **rules)

    def as_json(self) -> dict[str, Any]:
        """Plain data from which :meth:`from_json` makes an equal spec."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> TrialSpec:
        """The inverse of :meth:`as_json`."""
        plugins = {role: PluginSpec(**data[role]) for role in ("task", "partition", "mixer")}
        return cls(**{**data, **plugins})
