"""What a table says, as numbers: means, paired differences, groups of rows that cannot be told apart, and prices."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness import stats
from harness.leaderboard.groups import CellKey, Group
from harness.leaderboard.rows import Row, is_scored, primary_name

BASELINES = ("uniform", "natural")
OWN_PARTITION = "original"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A row against a baseline, paired by seed; p_holm is corrected over the family of the whole table."""

    baseline: CellKey
    paired: stats.Paired
    p_holm: float | None

    @property
    def separated(self) -> bool:
        """Whether the corrected test tells the two apart."""
        return self.p_holm is not None and self.p_holm < stats.ALPHA


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
class Line:
    """One row of a table: a mixer on a partition. ``letters`` are shared by rows that cannot be told apart.

    macro, others (metric name -> value under the target shares) and by_domain (of the primary metric) are means over
    seeds; worst is the worst of by_domain. baselines: under the same partition, by mixer name. against_original: under
    the original one, empty for rows that are there already.
    """

    cell: CellKey
    score: stats.Estimate
    letters: str
    macro: float
    worst: tuple[str, float]
    others: Mapping[str, float]
    by_domain: Mapping[str, float]
    price: Price
    baselines: Mapping[str, Comparison] = field(default_factory=dict)
    against_original: Mapping[str, Comparison] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A table: lines sorted from best to worst by the primary metric under the target shares.

    tests, pairs: sizes of the two Holm families (comparisons with a baseline; all pairs of rows); rows with the same
    scores count as one. detectable: smallest detectable differences of the tests against a baseline: (least, median,
    greatest), ``None`` if there are none.
    """

    group: Group
    metric: str
    unit: str
    higher_is_better: bool
    lines: tuple[Line, ...]
    tests: int
    pairs: int
    detectable: tuple[float, float, float] | None

    @property
    def comparisons(self) -> list[Comparison]:
        """All comparisons with a baseline."""
        return [c for line in self.lines for side in (line.baselines, line.against_original) for c in side.values()]

    def better(self, difference: float) -> bool:
        """Whether a difference (row - baseline) of the primary metric is a gain."""
        return difference > 0 if self.higher_is_better else difference < 0

    @property
    def domains(self) -> list[str]:
        """Original domains, in the task's order."""
        order = {name: None for row in self.group.scored for name in row["domains"]["original"]}
        return list(order)


def standing(group: Group) -> Standing | None:
    """The numbers of one table; ``None`` where no row has a score."""
    rows = scored_cells(group)
    if not rows:
        return None
    first = next(iter(rows.values()))[0]
    metric = primary_name(first)
    higher = bool(first["metrics"][metric]["higher_is_better"])
    scores = {cell: by_seed(members, metric) for cell, members in rows.items()}
    means = {cell: statistics.fmean(values.values()) for cell, values in scores.items()}
    order = sorted(rows, key=lambda cell: (-means[cell] if higher else means[cell], cell))
    twins = representatives(scores)
    own, original, tests = _against_baselines(group, scores, twins)
    letters, pairs = _letters(order, scores, twins)
    lines = tuple(
        Line(
            cell=cell,
            score=stats.mean_interval(list(scores[cell].values())),
            letters=letters[cell],
            macro=_mean(row["metrics"][metric]["macro"] for row in rows[cell]) or math.nan,
            worst=_worst(rows[cell], metric, higher),
            others=_others(rows[cell], metric),
            by_domain=_by_domain(rows[cell], metric),
            price=_price(rows[cell]),
            baselines=own.get(cell, {}),
            against_original=original.get(cell, {}),
        )
        for cell in order
    )
    found = {
        frozenset((twins[cell], twins[c.baseline])): c.paired
        for side in (own, original)
        for cell, comparisons in side.items()
        for c in comparisons.values()
        if not c.paired.identical
    }
    effects = [stats.smallest_detectable(p.difference.n, p.difference.sd or 0.0, tests) for p in found.values()]
    known = sorted(e for e in effects if e is not None)
    return Standing(
        group=group,
        metric=metric,
        unit=str(first["metrics"][metric].get("unit", "")),
        higher_is_better=higher,
        lines=lines,
        tests=tests,
        pairs=pairs,
        detectable=(known[0], statistics.median(known), known[-1]) if known else None,
    )


def scored_cells(group: Group) -> dict[CellKey, list[Row]]:
    """Rows with a score, by cell, in the order of seeds; cells without one are left out."""
    rows = {cell: [r for _, r in sorted(seeds.items()) if is_scored(r)] for cell, seeds in group.cells.items()}
    return {cell: members for cell, members in rows.items() if members}


def by_seed(members: Sequence[Row], metric: str, aggregate: str = "target") -> dict[int, float]:
    """Seed -> an aggregate of a metric."""
    return {row["spec"]["seed"]: float(row["metrics"][metric][aggregate]) for row in members}


def representatives(scores: Mapping[CellKey, Mapping[int, float]]) -> dict[CellKey, CellKey]:
    """Cell -> the first cell that has the same seeds and in every one of them the same score; often itself."""
    first: dict[tuple[tuple[int, float], ...], CellKey] = {}
    return {cell: first.setdefault(tuple(sorted(scores[cell].items())), cell) for cell in sorted(scores)}


def corrected(
    pairs: Mapping[tuple[CellKey, CellKey], stats.Paired], twins: Mapping[CellKey, CellKey]
) -> tuple[dict[frozenset[CellKey], float | None], int]:
    """Holm's p of every unordered pair, and the family's size.

    A pair that stands twice is one test, and so are pairs that are the same but for twins (:func:`representatives`).
    """
    unique = {frozenset(twins[cell] for cell in pair): result.p for pair, result in sorted(pairs.items())}
    adjusted = dict(zip(unique, stats.holm(list(unique.values())), strict=True))
    found = {frozenset(pair): adjusted[frozenset(twins[cell] for cell in pair)] for pair in pairs}
    return found, sum(p is not None for p in unique.values())


def baseline_cell(group: Group, partition: str, name: str, scores: Mapping[CellKey, Any]) -> CellKey | None:
    """The scored cell of a baseline mixer on a partition, if there is one."""
    return next((cell for cell in sorted(scores) if cell[0] == partition and mixer_name(group, cell) == name), None)


def mixer_name(group: Group, cell: CellKey) -> str:
    """The mixer's plugin name, without its configuration."""
    return str(next(iter(group.cells[cell].values()))["spec"]["mixer"])


_Side = dict[CellKey, dict[str, Comparison]]


def _against_baselines(
    group: Group, scores: Mapping[CellKey, Mapping[int, float]], twins: Mapping[CellKey, CellKey]
) -> tuple[_Side, _Side, int]:
    """Comparisons under the same partition, those with the original one, and the size of their common family."""
    wanted: dict[tuple[CellKey, CellKey], stats.Paired] = {}
    places: list[tuple[bool, CellKey, str, CellKey]] = []
    for cell in scores:
        for name in BASELINES:
            for partition in dict.fromkeys((cell[0], OWN_PARTITION)):
                baseline = baseline_cell(group, partition, name, scores)
                if baseline is None or baseline == cell:
                    continue
                result = stats.paired(scores[cell], scores[baseline])
                if result is not None:
                    wanted[cell, baseline] = result
                    places.append((partition == cell[0], cell, name, baseline))
    adjusted, tests = corrected(wanted, twins)
    own: _Side = {}
    original: _Side = {}
    for same_partition, cell, name, baseline in places:
        p_holm = adjusted[frozenset((cell, baseline))]
        comparison = Comparison(baseline=baseline, paired=wanted[cell, baseline], p_holm=p_holm)
        (own if same_partition else original).setdefault(cell, {})[name] = comparison
    return own, original, tests


def _letters(
    order: Sequence[CellKey], scores: Mapping[CellKey, Mapping[int, float]], twins: Mapping[CellKey, CellKey]
) -> tuple[dict[CellKey, str], int]:
    """Letters of every row from all pairwise tests, and how many tests those are."""
    results = {}
    for i, a in enumerate(order):
        for b in order[i + 1 :]:
            result = stats.paired(scores[a], scores[b])
            if result is not None:
                results[a, b] = result
    adjusted, tests = corrected(results, twins)
    place = {cell: i for i, cell in enumerate(order)}
    apart = [pair for pair in results if (p := adjusted[frozenset(pair)]) is not None and p < stats.ALPHA]
    letters = stats.letter_groups(len(order), [(place[a], place[b]) for a, b in apart])
    return dict(zip(order, letters, strict=True)), tests


def _by_domain(members: Sequence[Row], metric: str) -> dict[str, float]:
    # In the task's order: the keys of a stored object have none.
    names = dict.fromkeys(name for row in members for name in row["domains"]["original"])
    means = {name: _mean(row["metrics"][metric]["by_domain"].get(name) for row in members) for name in names}
    return {name: value for name, value in means.items() if value is not None}


def _worst(members: Sequence[Row], metric: str, higher: bool) -> tuple[str, float]:
    means = _by_domain(members, metric)
    if not means:
        return "", math.nan
    pick = min if higher else max
    name = pick(sorted(means), key=lambda domain: means[domain])
    return name, means[name]


def _others(members: Sequence[Row], primary: str) -> dict[str, float]:
    names = sorted({name for row in members for name in row["metrics"]} - {primary})
    means = {name: _mean(row["metrics"].get(name, {}).get("target") for row in members) for name in names}
    return {name: value for name, value in means.items() if value is not None}


def _price(members: Sequence[Row]) -> Price:
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
