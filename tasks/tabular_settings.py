"""What can be set in the tabular task: its config, its preset, and the reader that they name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tasks.base import Preset, Recipe, TaskError
from tasks.sources import mixing_laws_tables, plain_table, regmix_tables
from tasks.sources.tables import Table

Format = Literal["auto", "regmix", "mixinglaws", "csv"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TabularConfig:
    """The table, what is judged on it, and what answers for mixtures between its rows.

    path: a folder in RegMix's layout, or a CSV file. format: ``regmix``, ``mixinglaws``, ``csv``, or ``auto``: by
    layout (docs/tasks.md describes them).
    surrogate: ``gp``, a Gaussian process, or ``trees``, boosted trees: judge a mixer by one that is not its own model.
    size: name of the size that mixtures are judged at; empty: the one with the most parameters.
    target: target -> share, summing to one. Empty: all alike.
    natural: domain -> share of the training data, summing to one, what the table does not say. Empty: the mean mixture
    of its rows, since samples are mostly drawn around the natural shares.
    tokens: of one run, for all sizes or as ``{1m: 1e9, 1B: 25e9}``; parameters: the same, where a size's name does not
    say them. Both only decide over the bill.
    step: the step of a ``mixinglaws`` file that is read; 0: the last one that the most runs have.
    available: training data that there are in all, as a multiple of the judged run's; mixers that cap repetition read
    it.
    """

    path: str = ""
    format: Format = "auto"
    surrogate: Literal["gp", "trees"] = "gp"
    size: str = ""
    target: dict[str, float] = field(default_factory=dict)
    natural: dict[str, float] = field(default_factory=dict)
    tokens: float | dict[str, float] = 0.0
    parameters: dict[str, float] = field(default_factory=dict)
    step: int = 0
    available: float = 10.0

    def __post_init__(self) -> None:
        numbers = {"available": self.available}
        for name, given in (("tokens", self.tokens), ("parameters", self.parameters)):
            if isinstance(given, Mapping):
                numbers |= {f"{name} of {key}": value for key, value in given.items()}
        for name, value in numbers.items():
            if not 0 < value < math.inf:
                raise TaskError(f"{name}={value} must be above 0 and finite")
        if not isinstance(self.tokens, Mapping) and not 0 <= self.tokens < math.inf:
            raise TaskError(f"tokens={self.tokens} must be above 0 and finite, or 0 where they are not known")
        if self.step < 0:
            raise TaskError(f"step={self.step} must not be negative")


# RegMix's own runs have 1,000 steps of 512 sequences; on other tables the numbers mean nothing, and no run is shortened
# by them.
PRESETS: tuple[Preset, ...] = (
    Preset(
        name="demo",
        recipe=Recipe(steps=1000, batch_size=512, learning_rate=4e-4),
        summary="nothing is trained: published runs answer, in about a second a trial",
    ),
)


def format_of(config: TabularConfig) -> str:
    """The format, guessed where it is ``auto``; :class:`TaskError` where the path holds no table."""
    path = Path(config.path)
    if config.format == "regmix" or (config.format == "auto" and regmix_tables.holds(path)):
        if not path.is_dir():
            raise TaskError(f"{path} is no folder; format=regmix reads a folder with train_mixture_1m.csv and the like")
        return "regmix"
    if path.is_dir():
        files = ", ".join(sorted(file.name for file in path.glob("*.csv"))[:6])
        raise TaskError(f"{path} is a folder that is not in RegMix's layout; name one file in it ({files or 'no CSV'})")
    if config.format == "auto":
        return "mixinglaws" if mixing_laws_tables.holds(path) else "csv"
    return config.format


def read_table(config: TabularConfig) -> Table:
    """The table that a config names; :class:`TaskError`."""
    path, form = Path(config.path), format_of(config)
    if config.step and form != "mixinglaws":
        raise TaskError(f"step={config.step} is a setting of format=mixinglaws; this table's format is {form}")
    tokens = config.tokens or None
    if form == "regmix":
        return regmix_tables.read(path, parameters=config.parameters, tokens=tokens)
    if form == "mixinglaws":
        return mixing_laws_tables.read(path, step=config.step, parameters=config.parameters, tokens=tokens)
    return plain_table.read(path, parameters=config.parameters, tokens=tokens)
