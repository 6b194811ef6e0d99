"""Means over the seeds of one row of a table: metrics, their worst domain, and what the mixer cost."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from harness import stats
from harness.leaderboard.rows import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Means over seeds; shares are fractions of the training FLOPs or of the static step, ``None`` where unknown.

    counted, regrouping, paper: FLOPs. host_seconds: inside the mixer and the lab. regroup_seconds: making the
    partition, embedding included. step, step_low, step_high, memory: paired to the static mixture, serial timing.
    """

    counted: float | None
    regrouping: float | None
    paper: float | None
    host_seconds: float | None
    regroup_seconds: float | None
    step: float | None
    step_low: float | None
    step_high: float | None
    memory: float | None

    @property
    def total(self) -> float:
        """Counted FLOPs of mixing and regrouping, as a share of the training FLOPs; zero where unknown."""
        return (self.counted or 0.0) + (self.regrouping or 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Secondary:
    """A metric that is not ranked by: under the target shares, and means over seeds of macro and the worst domain."""

    score: stats.Estimate
    macro: float
    worst: tuple[str, float]


def by_seed(members: Sequence[Row], metric: str, aggregate: str = "target") -> dict[int, float]:
    """Seed -> an aggregate of a metric."""
    return {row["spec"]["seed"]: float(row["metrics"][metric][aggregate]) for row in members}


def macro(members: Sequence[Row], metric: str) -> float:
    """Macro average of a metric."""
    mean = _mean(row["metrics"][metric]["macro"] for row in members)
    return math.nan if mean is None else mean


def by_domain(members: Sequence[Row], metric: str) -> dict[str, float]:
    """Original domain -> a metric, in the task's order."""
    # In the task's order: the keys of a stored object have none.
    names = dict.fromkeys(name for row in members for name in row["domains"]["original"])
    means = {name: _mean(row["metrics"][metric]["by_domain"].get(name) for row in members) for name in names}
    return {name: value for name, value in means.items() if value is not None}


def worst(members: Sequence[Row], metric: str, higher: bool) -> tuple[str, float]:
    """The worst original domain of a metric and its value."""
    means = by_domain(members, metric)
    if not means:
        return "", math.nan
    pick = min if higher else max
    name = pick(sorted(means), key=lambda domain: means[domain])
    return name, means[name]


def others(members: Sequence[Row], primary: str) -> dict[str, Secondary]:
    """Every metric but the primary one, by name."""
    return {name: _secondary(members, name) for name in sorted(members[0]["metrics"]) if name != primary}


def _secondary(members: Sequence[Row], name: str) -> Secondary:
    return Secondary(
        score=stats.mean_interval(list(by_seed(members, name).values())),
        macro=macro(members, name),
        worst=worst(members, name, bool(members[0]["metrics"][name]["higher_is_better"])),
    )


def price(members: Sequence[Row]) -> Price:
    """What these trials cost."""
    overhead = [row.get("overhead") or {} for row in members]
    measured = [row.get("measured") or {} for row in members]
    timing = [m["timing"] for m in measured if m.get("timing")]
    regroup = [
        (m.get("regroup_seconds") or 0.0) + (m.get("embedding_seconds") or 0.0)
        for m in measured
        if m.get("regroup_seconds") is not None or m.get("embedding_seconds") is not None
    ]
    return Price(
        counted=_mean(o.get("counted_share") for o in overhead),
        regrouping=_mean(o.get("regrouping_share") for o in overhead),
        paper=_mean(o.get("paper_share") for o in overhead),
        host_seconds=_mean(m.get("mixer_seconds") for m in measured),
        regroup_seconds=_mean(regroup),
        step=_mean(t.get("step_overhead") for t in timing),
        step_low=_mean(t.get("low") for t in timing),
        step_high=_mean(t.get("high") for t in timing),
        memory=_mean(t.get("memory_overhead") for t in timing),
    )


def _mean(values: Iterable[Any]) -> float | None:
    """Mean of the numbers among the values; ``None`` where there is none."""
    numbers = [float(v) for v in values if isinstance(v, int | float) and math.isfinite(v)]
    return statistics.fmean(numbers) if numbers else None
