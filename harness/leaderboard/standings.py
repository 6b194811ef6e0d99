"""What a table says, as numbers: means, paired differences, groups of rows that cannot be told apart, and prices."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness import stats
from harness.leaderboard.aggregates import Price, Secondary, by_domain, by_seed, macro, others, price, worst
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
class Line:
    """One row of a table: a mixer on a partition. ``letters`` are shared by rows that cannot be told apart.

    reference: the mixer is a yardstick and no method. It has no letters, its differences no tests.

    macro and by_domain (of the primary metric) are means over seeds; worst is the worst of by_domain. others: by name
    of the metric. baselines: under the same partition, by mixer name. against_original: under the original one, empty
    for rows that are there already.
    """

    cell: CellKey
    score: stats.Estimate
    letters: str
    macro: float
    worst: tuple[str, float]
    others: Mapping[str, Secondary]
    by_domain: Mapping[str, float]
    price: Price
    baselines: Mapping[str, Comparison] = field(default_factory=dict)
    against_original: Mapping[str, Comparison] = field(default_factory=dict)
    reference: bool = False

    @property
    def shown(self) -> tuple[str, str]:
        """Partition and mixer as a table shows them."""
        return (self.cell[0], f"{self.cell[1]} (reference)") if self.reference else self.cell


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
    def unlearned(self) -> dict[str, Row]:
        """Metric -> ``target``, ``macro`` and ``by_domain`` of what needs no learning, where the task says so.

        A property of the test data: every row of the table carries the same.
        """
        first = self.group.scored[0]["metrics"]
        names = sorted(first, key=lambda name: (name != self.metric, name))
        return {name: first[name]["baseline"] for name in names if "baseline" in first[name]}

    @property
    def comparisons(self) -> list[Comparison]:
        """All comparisons of methods with a baseline."""
        return [c for line in self.methods for side in (line.baselines, line.against_original) for c in side.values()]

    @property
    def methods(self) -> tuple[Line, ...]:
        """The lines that are no reference."""
        return tuple(line for line in self.lines if not line.reference)

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
    yardsticks = references(group)
    own, original, tests = _against_baselines(group, scores, twins, yardsticks)
    letters, pairs = _letters([cell for cell in order if cell not in yardsticks], scores, twins)
    lines = tuple(
        Line(
            cell=cell,
            score=stats.mean_interval(list(scores[cell].values())),
            letters=letters.get(cell, ""),
            macro=macro(rows[cell], metric),
            worst=worst(rows[cell], metric, higher),
            others=others(rows[cell], metric),
            by_domain=by_domain(rows[cell], metric),
            price=price(rows[cell]),
            baselines=own.get(cell, {}),
            against_original=original.get(cell, {}),
            reference=cell in yardsticks,
        )
        for cell in order
    )
    found = {
        frozenset((twins[cell], twins[c.baseline])): c.paired
        for side in (own, original)
        for cell, comparisons in side.items()
        if cell not in yardsticks
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


def references(group: Group) -> frozenset[CellKey]:
    """The cells of mixers that are yardsticks and no methods."""
    return frozenset(cell for cell, seeds in group.cells.items() if any(row.get("reference") for row in seeds.values()))


_Side = dict[CellKey, dict[str, Comparison]]


def _against_baselines(
    group: Group,
    scores: Mapping[CellKey, Mapping[int, float]],
    twins: Mapping[CellKey, CellKey],
    untested: frozenset[CellKey],
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
    adjusted, tests = corrected({pair: made for pair, made in wanted.items() if pair[0] not in untested}, twins)
    own: _Side = {}
    original: _Side = {}
    for same_partition, cell, name, baseline in places:
        p_holm = adjusted.get(frozenset((cell, baseline)))
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
