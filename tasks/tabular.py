"""Published tables of runs in place of training: offline mixers against outcomes of large models, in seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from tasks.base import Metric, Preset, Requirement, TabularTask, TaskError
from tasks.fitted_table import FittedTable
from tasks.shares import target_shares
from tasks.sources.tables import Table
from tasks.surrogates import SURROGATES
from tasks.tabular_settings import PRESETS, TabularConfig, read_table


class Tabular(TabularTask):
    """A table of published runs: a mixture's losses are read off a fit on its rows, and nothing is trained.

    Mixers that decide before training, from static proxy runs, are judged by their first mixture at the largest size;
    whatever else a mixer buys or wants to see needs training and ends as a row that says so.
    """

    name: ClassVar[str] = "tabular"
    unit: ClassVar[str] = "token"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="loss", unit="loss", higher_is_better=False, primary=True),
        Metric(name="regret", unit="loss", higher_is_better=False),
    )
    Config: ClassVar[type] = TabularConfig
    presets: ClassVar[Mapping[str, Preset]] = {preset.name: preset for preset in PRESETS}

    config: TabularConfig

    def requirements(self) -> Sequence[Requirement]:
        """The table, which is never part of the package."""
        path = Path(self.config.path)
        found = str(path) if self.config.path and path.exists() else ""
        there = f"{path} does not exist; " if self.config.path else ""
        remedy = f"{there}name RegMix's folder data/ or a CSV file, as in tabular[path=DIR] (docs/tasks.md)"
        return (Requirement(what="a table of runs", found=found, remedy=remedy),)

    def load(self) -> FittedTable:
        """Read the table, fit the surrogate at each of its sizes, find its best mixture: seconds the first time."""
        config = self.config
        if not config.path:
            raise TaskError("no table is named; give one as tabular[path=DIR] or tabular[path=FILE.csv]")
        table = read_table(config)
        mean = table.mixtures.mean(axis=0)
        every = np.full(len(table.targets), 1.0 / len(table.targets))
        try:
            natural = target_shares(config.natural or None, table.domains, mean / mean.sum())
        except TaskError as error:
            raise TaskError(f"natural={{...}}: {str(error).replace('target', 'natural')}") from None
        outcomes = FittedTable(
            table,
            SURROGATES[config.surrogate](),
            judged=_index(table, config.size),
            cache=self.cache,
            train_shares=natural,
            target_shares=target_shares(config.target or None, table.targets, every),
            available=config.available,
        )
        outcomes.best()  # into the cache, so that not every trial searches
        return outcomes


def _index(table: Table, name: str) -> int:
    """The size of this name; the last one, with the most parameters, where none is named."""
    names = [size.name for size in table.sizes]
    if not name:
        return len(names) - 1
    if name not in names:
        why = [note for note in table.notes if name in note]
        raise TaskError("; ".join([f"size={name} is none of the table's: {', '.join(names)}", *why]))
    return names.index(name)
