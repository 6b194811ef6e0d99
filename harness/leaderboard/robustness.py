"""Effective robustness: how much better a model is under a shift than its accuracy without one lets expect.

With acc_in over the in-distribution domains and acc_shift over the shifted ones, rho = acc_shift - beta(acc_in), where
beta is a straight line of logit(acc_shift) on logit(acc_in), fitted by least squares to the rows of a reference family
and mapped back to a share. This is the form that is usual since Taori et al. (NeurIPS 2020), as later papers describe
it; which models made up the family of Nguyen et al. (arXiv 2208.05516), one line for all sources or one a source, is
not known here, so the user names the family. A row's accuracy is the plain mean over the named domains.

The logit of 0 and of 1 is infinite. Accuracies are therefore kept from the ends by half a count, 1 / (2 n) with n
examples behind them; rows do not say n, so it is given, and the table says which rows were moved.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from harness.errors import UserError, nearest
from harness.inline import split_list
from harness.leaderboard import wording
from harness.leaderboard.groups import common, told_apart
from harness.leaderboard.rows import Row, is_scored, primary_name
from harness.stats import Estimate, mean_interval

STATIC = "uniform,natural,target,unimax"  # not grid: what it leaves out is what is to be judged
FEWEST = 3  # two points are on a line whatever they are


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """logit(acc_shift) = intercept + slope * logit(acc_in). r2: of the logits; ``None`` where they are all equal."""

    slope: float
    intercept: float
    r2: float | None
    points: int

    def expected(self, accuracy: float) -> float:
        """The share that the line expects under the shift; accuracy: in-distribution, in (0, 1)."""
        return float(special.expit(self.intercept + self.slope * special.logit(accuracy)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One row. inside, shifted: accuracies as measured; x, y: the same, kept from 0 and 1. family: whether it is in
    the line. spec: what all seeds share, steps aside."""

    partition: str
    mixer: str
    steps: int
    seed: int
    spec: dict[str, Any]
    inside: float
    shifted: float
    x: float
    y: float
    family: bool

    @property
    def moved(self) -> bool:
        """Whether an accuracy stood at an end, or nearer to it than half a count."""
        return (self.x, self.y) != (self.inside, self.shifted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Means over the seeds of one mixer. expected: by the line. rho: effective robustness, in the metric's unit.

    mixer: its label, and the settings that tell it from a row of the same label, partition and steps.
    """

    partition: str
    mixer: str
    steps: int
    family: bool
    inside: Estimate
    shifted: Estimate
    expected: float
    rho: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Robustness:
    """All that the table and the picture show. standings: by rho, the highest first."""

    title: str
    metric: str
    inside: tuple[str, ...]
    shifted: tuple[str, ...]
    count: int
    line: Line
    points: tuple[Point, ...]
    standings: tuple[Standing, ...]


def fit(x: Sequence[float], y: Sequence[float]) -> Line:
    """The least-squares line through the logits of accuracies in (0, 1). :class:`UserError` where there is none."""
    if len(x) < FEWEST:
        raise UserError(f"the reference family has {len(x)} rows with a score, a line needs {FEWEST}; widen --family")
    a, b = special.logit(np.array(x)), special.logit(np.array(y))
    centred = a - a.mean()
    spread = float(centred @ centred)
    if spread < 1e-12:
        raise UserError("the reference family's in-distribution accuracies are all equal; add rows of other budgets")
    slope = float(centred @ b) / spread
    intercept = float(b.mean() - slope * a.mean())
    total, rest = float(((b - b.mean()) ** 2).sum()), float(((b - intercept - slope * a) ** 2).sum())
    return Line(slope=slope, intercept=intercept, r2=1.0 - rest / total if total > 1e-12 else None, points=len(x))


def robustness(
    rows: Sequence[Row],
    *,
    inside: Sequence[str],
    shifted: Sequence[str],
    metric: str | None = None,
    family: str = STATIC,
    count: int = 1000,
) -> Robustness:
    """Fit the line and place every row.

    metric: a share of 0 to 1 where more is better; by default the primary one. family: mixers by name or label, with
    commas or bars between them. count: n of the half count. Raises :class:`UserError` in one line.
    """
    scored = [row for row in rows if is_scored(row)]
    if not scored:
        raise UserError("no row has a score")
    _refuse_mixed(scored)
    metric = metric or primary_name(scored[0])
    _refuse_domains(inside, shifted)
    if count < 1:
        raise UserError(f"--count must be at least 1, not {count}")
    wanted = [item for part in family.split("|") for item in split_list(part)]
    points = [_point(row, metric, inside, shifted, wanted, 0.5 / count) for row in scored]
    names = {name for row in scored for name in (row["spec"]["mixer"], row["spec"]["mixer_label"])}
    if not any(point.family for point in points):
        raise UserError(f"no row is of the family {family!r}{nearest(wanted[0] if wanted else '', names)}")
    line = fit([p.x for p in points if p.family], [p.y for p in points if p.family])
    spec = scored[0]["spec"]
    return Robustness(
        title=f"{spec['task']} at {spec['preset']}",
        metric=metric,
        inside=tuple(inside),
        shifted=tuple(shifted),
        count=count,
        line=line,
        points=tuple(points),
        standings=tuple(sorted(_standings(points, line), key=lambda s: (-s.rho.mean, s.mixer, s.partition, s.steps))),
    )


def _refuse_mixed(rows: Sequence[Row]) -> None:
    """Budgets may differ, since the family lives of them; what accuracies are measured on may not."""
    for what, key in (
        ("tasks", lambda row: row["spec"]["task"]),
        ("corpora", lambda row: row["fingerprint"]),
        ("protocols", lambda row: row["protocol"]),
        ("splits that judge", lambda row: row["spec"].get("judge", "test")),
    ):
        found = sorted({str(key(row)) for row in rows})
        if len(found) > 1:
            raise UserError(f"these rows are of several {what} ({', '.join(found)}); give the folders of one")


def _refuse_domains(inside: Sequence[str], shifted: Sequence[str]) -> None:
    for flag, names in (("--in-distribution", inside), ("--shifted", shifted)):
        if not names:
            raise UserError(f"{flag} names no domain")
        if len(set(names)) < len(names):
            raise UserError(f"{flag} names a domain twice")
    if both := sorted(set(inside) & set(shifted)):
        raise UserError(f"{both[0]!r} is named as in distribution and as shifted; a domain is one of the two")


def _point(
    row: Row, metric: str, inside: Sequence[str], shifted: Sequence[str], family: Sequence[str], least: float
) -> Point:
    spec = row["spec"]
    one, other = (_accuracy(row, metric, names) for names in (inside, shifted))
    return Point(
        partition=spec["partition_label"],
        mixer=spec["mixer_label"],
        steps=(row.get("budget") or {}).get("steps", spec["steps"]),
        seed=spec["seed"],
        spec=_setting(row),
        inside=one,
        shifted=other,
        x=min(max(one, least), 1.0 - least),
        y=min(max(other, least), 1.0 - least),
        family=spec["mixer"] in family or spec["mixer_label"] in family,
    )


def _setting(row: Row) -> dict[str, Any]:
    """A row's spec without partition, mixer, seed and the steps, which have a column of their own."""
    shared = {key: value for key, value in common(row).items() if key != "steps"}
    if isinstance(shared.get("recipe"), dict):
        shared["recipe"] = {key: value for key, value in shared["recipe"].items() if key != "steps"}
    return shared


def _accuracy(row: Row, metric: str, names: Sequence[str]) -> float:
    """Mean over the named domains."""
    metrics = row["metrics"]
    if metric not in metrics:
        raise UserError(f"the rows have no metric {metric!r}{nearest(metric, metrics)}")
    if not metrics[metric]["higher_is_better"]:
        raise UserError(f"{metric} is better where it is lower; robustness needs a share such as an accuracy")
    by_domain: dict[str, Any] = metrics[metric]["by_domain"]
    for name in names:
        if name not in by_domain:
            raise UserError(f"the rows have no domain {name!r} in {metric}{nearest(name, by_domain)}")
        if not 0.0 <= by_domain[name] <= 1.0:
            raise UserError(f"{metric} of {name} is {by_domain[name]:g}; robustness needs a share of 0 to 1")
    return float(np.mean([by_domain[name] for name in names]))


def _standings(points: Sequence[Point], line: Line) -> list[Standing]:
    cells: dict[tuple[str, str, int], dict[str, list[Point]]] = {}
    for point in points:
        alike = cells.setdefault((point.partition, point.mixer, point.steps), {})
        alike.setdefault(json.dumps(point.spec, sort_keys=True), []).append(point)
    return [
        Standing(
            partition=partition,
            mixer=f"{mixer} ({told})" if told else mixer,
            steps=steps,
            family=members[0].family,
            inside=mean_interval([p.inside for p in members]),
            shifted=mean_interval([p.shifted for p in members]),
            expected=float(np.mean([line.expected(p.x) for p in members])),
            rho=mean_interval([p.shifted - line.expected(p.x) for p in members]),
        )
        for (partition, mixer, steps), alike in cells.items()
        for told, members in zip(told_apart([each[0].spec for each in alike.values()]), alike.values(), strict=True)
    ]


def table(found: Robustness) -> str:
    """The table for a terminal, with the line above it and what to know of it below."""
    line, digits = found.line, 4
    fitted = "not defined" if line.r2 is None else f"{line.r2:.3f}"
    head = [
        f"{found.title}: {found.metric} on {', '.join(found.shifted)} (shifted) over {', '.join(found.inside)}",
        f"line: logit(shifted) = {line.intercept:.4f} {'-' if line.slope < 0 else '+'} {abs(line.slope):.4f} "
        f"logit(in distribution), R2 {fitted}, "
        f"{line.points} points (rows marked *)",
        "",
    ]
    rows = [
        [
            f"{each.mixer}{' *' if each.family else ''}",
            each.partition,
            str(each.steps),
            str(each.rho.n),
            wording.estimate(each.inside, digits),
            wording.estimate(each.shifted, digits),
            wording.number(each.expected, digits),
            wording.estimate(each.rho, digits, sign=True),
        ]
        for each in found.standings
    ]
    header = ["mixer", "partition", "steps", "n", "in distribution", "shifted", "expected", "robustness"]
    tail = ["", "±: 95 % t-interval over seeds, the line held fixed. A row of the family is judged by a line it is in."]
    if line.slope <= 0:
        tail.append("The line does not rise: in this family more accuracy does not go with more under the shift.")
    members = [point.x for point in found.points if point.family]
    beyond = [_name(p) for p in found.points if not min(members) <= p.x <= max(members)]
    if beyond:
        tail.append(f"The line is drawn out beyond the family's accuracies for {', '.join(beyond)}.")
    if moved := [_name(point) for point in found.points if point.moved]:
        tail.append(
            "An accuracy of 0 or 1 has no logit: what was nearer to them was put half a count of "
            f"{found.count:,} examples away (--count) for {', '.join(moved)}."
        )
    return "\n".join([*head, wording.plain_table(header, rows, ["mixer", "partition"]), *tail])


def _name(point: Point) -> str:
    cut = "" if point.partition == "original" else f"{point.partition}, "
    return f"{point.mixer} ({cut}{point.steps} steps, seed {point.seed})"
