"""Which rows may stand in one table: those that differ in partition, mixer and seed, and in nothing else."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.leaderboard.rows import Row, RowsError, is_scored

_PLUGINS = ("partition", "mixer")
# What may differ within a table. Labels are spelling, and a time limit cannot change a finished row.
_FREE = {f"{kind}{part}" for kind in _PLUGINS for part in ("", "_config", "_label", "_source")} | {"seed", "task_label"}
CellKey = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Rows of one table. cells: (partition label, mixer label) -> seed -> row, failed ones included.

    variant: settings of the task that tell this table from others of the same task and preset; empty where none do.
    """

    spec: dict[str, Any]
    protocol: int
    fingerprint: str | None
    cells: dict[CellKey, dict[int, Row]]
    variant: str = ""

    @property
    def title(self) -> str:
        """A short name of the table."""
        variant = f" ({self.variant})" if self.variant else ""
        return f"{self.spec['task']} at {self.spec['preset']}{variant}"

    @property
    def rows(self) -> list[Row]:
        """All rows, by cell and seed."""
        return [by_seed[seed] for _, by_seed in sorted(self.cells.items()) for seed in sorted(by_seed)]

    @property
    def scored(self) -> list[Row]:
        """Rows with a finite primary metric."""
        return [row for row in self.rows if is_scored(row)]

    @property
    def seeds(self) -> list[int]:
        """Every seed that occurs."""
        return sorted({seed for by_seed in self.cells.values() for seed in by_seed})

    @property
    def partitions(self) -> list[str]:
        """Partition labels, ``original`` first."""
        return sorted({partition for partition, _ in self.cells}, key=lambda p: (p != "original", p))

    @property
    def mixers(self) -> list[str]:
        """Mixer labels, sorted."""
        return sorted({mixer for _, mixer in self.cells})

    def missing(self) -> list[tuple[CellKey, list[int]]]:
        """Cells of the full grid partition x mixer x seed without any row, as (cell, seeds)."""
        grid = [(p, m) for p in self.partitions for m in self.mixers]
        gaps = [(cell, [s for s in self.seeds if s not in self.cells.get(cell, {})]) for cell in grid]
        return [(cell, seeds) for cell, seeds in gaps if seeds]


def split(rows: Sequence[Row]) -> list[Group]:
    """The tables that these rows make, in order of task, preset, steps and the rest."""
    buckets: dict[str, list[Row]] = {}
    rows = sorted(rows, key=lambda row: row["id"])
    known = {(_spec_key(row), row["protocol"]): row["fingerprint"] for row in rows if row.get("fingerprint")}
    for row in rows:
        # A trial that failed before its data was read has no fingerprint: it is shown with its siblings.
        fingerprint = row.get("fingerprint") or known.get((_spec_key(row), row["protocol"]))
        key = json.dumps([_spec_key(row), row["protocol"], fingerprint])
        buckets.setdefault(key, []).append(row)
    groups = [_group(members, json.loads(key)[2]) for key, members in buckets.items()]
    return [replace(group, variant=_variant(group, groups)) for group in sorted(groups, key=_order)]


def _variant(group: Group, groups: Sequence[Group]) -> str:
    """Settings of the task in which the groups of one task and preset differ, as in ``domain=source``."""
    place = ("task", "preset")
    same = [other for other in groups if all(other.spec[key] == group.spec[key] for key in place)]
    configs = [other.spec.get("task_config") or {} for other in same]
    mine = group.spec.get("task_config") or {}
    differing = [key for key in sorted(mine) if len({_canonical(config.get(key)) for config in configs}) > 1]
    return ", ".join(f"{key}={mine[key]}" for key in differing)


def reasons(groups: Sequence[Group]) -> list[str]:
    """Names of the fields in which the groups differ, task and preset aside."""
    fields = sorted({key for group in groups for key in group.spec} - {"task", "preset"})
    differing = [key for key in fields if len({_canonical(group.spec.get(key)) for group in groups}) > 1]
    for name in ("protocol", "fingerprint"):
        if len({getattr(group, name) for group in groups}) > 1:
            differing.append(name)
    return differing


def told_apart(specs: Sequence[dict[str, Any]]) -> list[str]:
    """Of each spec, the settings in which they differ, as in ``preset=nano, steps=100``; empty where none do.

    Those of the recipe and of the task count one by one. A fingerprint is named only where nothing else tells.
    """
    flat = []
    for spec in specs:
        nested = {**(spec.get("task_config") or {}), **(spec.get("recipe") or {})}
        plain = {key: value for key, value in spec.items() if key not in ("task_config", "recipe")}
        flat.append({"budget_rule": "main", **nested, **plain})
    keys = list(dict.fromkeys(key for each in flat for key in ("task", "preset", *sorted(each)) if key in each))
    differing = [key for key in keys if len({_canonical(each.get(key)) for each in flat}) > 1]
    if differing != ["fingerprint"]:
        differing = [key for key in differing if key != "fingerprint"]
    return [", ".join(f"{key}={each[key]}" for key in differing if key in each) for each in flat]


def common(row: Row) -> dict[str, Any]:
    """What all rows of a table share of their spec."""
    spec = {key: value for key, value in row["spec"].items() if key not in _FREE}
    if isinstance(spec.get("recipe"), dict):
        spec["recipe"] = {key: value for key, value in spec["recipe"].items() if key != "time_limit"}
    return spec


def _spec_key(row: Row) -> str:
    return _canonical(common(row))


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _order(group: Group) -> tuple[Any, ...]:
    spec = group.spec
    return (spec["task"], spec["preset"], spec["steps"], -group.protocol, group.fingerprint or "", _canonical(spec))


def _group(members: list[Row], fingerprint: str | None) -> Group:
    partitions = _labels(members, "partition")
    mixers = _labels(members, "mixer")
    cells: dict[CellKey, dict[int, Row]] = {}
    for row in members:
        cell = (partitions[_plugin(row, "partition")], mixers[_plugin(row, "mixer")])
        by_seed = cells.setdefault(cell, {})
        seed = row["spec"]["seed"]
        if seed in by_seed:
            raise RowsError(f"rows {by_seed[seed]['id']} and {row['id']} are the same trial under two ids")
        by_seed[seed] = row
    return Group(spec=common(members[0]), protocol=members[0]["protocol"], fingerprint=fingerprint, cells=cells)


_Plugin = tuple[str, str, str]


def _plugin(row: Row, kind: str) -> _Plugin:
    """What tells one partition or mixer from another: name, configuration and origin, however they were spelt."""
    spec = row["spec"]
    return spec[kind], _canonical(spec.get(f"{kind}_config") or {}), spec.get(f"{kind}_source") or ""


def _labels(members: Sequence[Row], kind: str) -> dict[_Plugin, str]:
    """The shortest label that each was given; those that share one (a default has changed) get a hash behind it."""
    spelt: dict[_Plugin, set[str]] = {}
    for row in members:
        spelt.setdefault(_plugin(row, kind), set()).add(row["spec"][f"{kind}_label"])
    labels = {plugin: min(names, key=lambda name: (len(name), name)) for plugin, names in spelt.items()}
    count = Counter(labels.values())
    for plugin, label in labels.items():
        if count[label] > 1:
            labels[plugin] = f"{label} #{hashlib.sha256(json.dumps(plugin).encode()).hexdigest()[:4]}"
    return labels
