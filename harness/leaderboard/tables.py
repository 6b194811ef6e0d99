"""Tables of one group of rows, as Markdown and CSV."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from harness.leaderboard import curves, notes, wording
from harness.leaderboard.groups import Group
from harness.leaderboard.standings import BASELINES, Comparison, Line, Standing, standing

TEXT = ("group", "partition", "mixer", "worst domain")
UNLEARNED = "*(no learning)*"


def group_markdown(group: Group, figures: Sequence[tuple[str, str]] = ()) -> str:
    """The section of one group. figures: (caption, path) of the pictures to show."""
    parts = [f"## {group.title}", _bullets(notes.facts(group))]
    result = standing(group)
    if result is None:
        return "\n\n".join([*parts, "No trial of this group has a score.", _bullets(notes.problems(group))]) + "\n"
    parts += [quality_table(result), _bullets(notes.verdicts(result))]
    parts += ["### Cost", cost_table(result)]
    if found := curves.curves_of(group):
        parts += ["### Against what was bought", *curves.tables(found)]
    if notes.has_original(result):
        lead = "Every regrouped row against the baselines under the `original` partition; same Holm family as above."
        parts += ["### Against `original`", lead, original_table(result)]
    parts += ["### By original domain", f"Mean {result.metric} over seeds.", domain_table(result)]
    if any(line.others for line in result.lines):
        lead = (
            "Under the target shares with its interval, then macro, then the worst original domain (means over seeds)."
        )
        parts += ["### Other metrics", lead, others_table(result)]
    parts += [f"![{caption}]({path})" for caption, path in figures]
    trouble = notes.problems(group)
    if trouble:
        parts += ["### Failed and missing trials", _bullets(trouble)]
    return "\n\n".join(parts) + "\n"


def quality_table(result: Standing) -> str:
    """Scores, and paired differences under the same partition."""
    header = ["#", "group", "partition", "mixer", "n", metric_heading(result), *(f"Δ {name}" for name in BASELINES)]
    header += ["macro", "worst domain"]
    n = decimals(result)
    rows = []
    for place, line in enumerate(result.lines, start=1):
        cells = [str(place), line.letters, *line.shown, str(line.score.n), wording.estimate(line.score, n)]
        cells += [difference(line.baselines.get(name), line, n) for name in BASELINES]
        rows.append([*cells, wording.number(line.macro, n), f"{line.worst[0]} {wording.number(line.worst[1], n)}"])
    return wording.markdown_table(header, rows, TEXT)


def cost_table(result: Standing) -> str:
    """What every row cost beyond training, in the order of the quality table."""
    header = ["#", "partition", "mixer", "FLOPs %", "host s", "step %", "memory %"]
    header += ["regroup %", "regroup s", "paper %"]
    rows = []
    for place, line in enumerate(result.lines, start=1):
        price = line.price
        cells = [str(place), *line.shown, wording.percent(price.counted), wording.seconds(price.host_seconds)]
        cells += [step_time(line), wording.percent(price.memory, sign=True), wording.percent(price.regrouping)]
        rows.append([*cells, wording.seconds(price.regroup_seconds), wording.percent(price.paper)])
    return wording.markdown_table(header, rows, TEXT)


def original_table(result: Standing) -> str:
    """Rows of other partitions against the baselines under the original one."""
    header = ["#", "partition", "mixer", *(f"Δ {name} on original" for name in BASELINES)]
    rows = [
        [
            str(place),
            *line.shown,
            *(difference(line.against_original.get(b), line, decimals(result)) for b in BASELINES),
        ]
        for place, line in enumerate(result.lines, start=1)
        if line.against_original
    ]
    return wording.markdown_table(header, rows, TEXT)


def others_table(result: Standing) -> str:
    """The metrics that are not ranked by, and what needs no learning, where the task says so."""
    first = result.group.scored[0]["metrics"]
    names = list(dict.fromkeys(name for line in result.lines for name in line.others))
    header = ["#", "partition", "mixer", *(f"{_arrow(first[name]['higher_is_better'])} {name}" for name in names)]
    rows = []
    for place, line in enumerate(result.lines, start=1):
        cells = [str(place), *line.shown]
        for name in names:
            other = line.others.get(name)
            cells.append(
                wording.DASH if other is None else _three(wording.estimate(other.score, 4), other.macro, other.worst)
            )
        rows.append(cells)
    if any(name in result.unlearned for name in names):
        cells = ["", "", UNLEARNED]
        for name in names:
            known = result.unlearned.get(name)
            cells.append(
                wording.DASH if known is None else _three(wording.number(known["target"], 4), known["macro"], None)
            )
        rows.append(cells)
    return wording.markdown_table(header, rows, TEXT)


def _three(target: str, macro: float, worst: tuple[str, float] | None) -> str:
    last = f"; {worst[0]} {wording.number(worst[1], 3)}" if worst else ""
    return f"{target}; {wording.number(macro, 4)}{last}"


def _arrow(higher_is_better: bool) -> str:
    return "↑" if higher_is_better else "↓"


def domain_table(result: Standing) -> str:
    """Mean primary metric per original domain, and what needs no learning, where the task says so."""
    n = decimals(result)
    rows = [
        [str(place), *line.shown, *(wording.number(line.by_domain.get(d), n) for d in result.domains)]
        for place, line in enumerate(result.lines, start=1)
    ]
    unlearned = result.unlearned.get(result.metric)
    if unlearned is not None:
        cells = (wording.number(unlearned["by_domain"].get(d), n) for d in result.domains)
        rows.append(["", "", UNLEARNED, *cells])
    return wording.markdown_table(["#", "partition", "mixer", *result.domains], rows, TEXT)


def difference(comparison: Comparison | None, line: Line, digits: int) -> str:
    """``-0.0412 ± 0.0060 p=0.003``, ``identical``, or a dash where there is nothing to compare with."""
    if comparison is None:
        return wording.DASH
    paired = comparison.paired
    fewer = f" [n={paired.difference.n}]" if paired.difference.n < line.score.n else ""
    p = "" if paired.identical else f" {wording.probability(comparison.p_holm)}"
    return f"{wording.paired(paired, digits)}{p}{fewer}"


def step_time(line: Line) -> str:
    """Paired step-time overhead in per cent with its interval."""
    price = line.price
    if price.step is None:
        return wording.DASH
    if price.step_low is None or price.step_high is None:
        return wording.percent(price.step, sign=True)
    low, high = (f"{100 * value:.1f}" for value in (price.step_low, price.step_high))
    return f"{wording.percent(price.step, sign=True)} [{low}, {high}]"


def leaderboard_csv(groups: Sequence[Group]) -> str:
    """One line a row of every table, unrounded but for the digits that another machine's libraries may change."""
    lines: list[dict[str, Any]] = []
    for group in groups:
        result = standing(group)
        for place, line in enumerate(result.lines if result else (), start=1):
            lines.append(_csv_line(group, result, place, line))
    return pd.DataFrame(lines).to_csv(index=False, lineterminator="\n", float_format="%.6g")


def _csv_line(group: Group, result: Standing | None, place: int, line: Line) -> dict[str, Any]:
    assert result is not None
    keys = ("task", "preset", "steps", "batch_size", "device", "dtype", "compile", "threads")
    flat: dict[str, Any] = {key: group.spec.get(key) for key in keys}
    flat |= {"budget_rule": group.spec["budget_rule"]} if "budget_rule" in group.spec else {}
    flat |= {"protocol": group.protocol, "fingerprint": group.fingerprint, "place": place, "group": line.letters}
    flat |= {"partition": line.cell[0], "mixer": line.cell[1], "n": line.score.n, "metric": result.metric}
    flat |= {"reference": True} if line.reference else {}
    flat |= {"unit": result.unit, "higher_is_better": result.higher_is_better}
    flat |= {"target": line.score.mean, "target_half": line.score.half, "target_sd": line.score.sd}
    for suffix, side in (("", line.baselines), ("_on_original", line.against_original)):
        for name in BASELINES:
            c = side.get(name)
            flat[f"delta_{name}{suffix}"] = c.paired.difference.mean if c else None
            flat[f"delta_{name}{suffix}_half"] = c.paired.difference.half if c else None
            flat[f"delta_{name}{suffix}_n"] = c.paired.difference.n if c else None
            flat[f"delta_{name}{suffix}_p"] = c.paired.p if c else None
            flat[f"delta_{name}{suffix}_p_holm"] = c.p_holm if c else None
    flat |= {"macro": line.macro, "worst_domain": line.worst[0], "worst": line.worst[1]}
    for name, other in line.others.items():
        flat |= {name: other.score.mean, f"{name}_half": other.score.half, f"{name}_macro": other.macro}
        flat |= {f"{name}_worst_domain": other.worst[0], f"{name}_worst": other.worst[1]}
    for name, unlearned in result.unlearned.items():
        flat |= {f"unlearned_{name}": unlearned["target"], f"unlearned_{name}_macro": unlearned["macro"]}
    price = {f: getattr(line.price, f) for f in line.price.__dataclass_fields__}
    flat |= {f"cost_{key}": value for key, value in price.items()}
    return flat | {f"domain_{domain}": value for domain, value in line.by_domain.items()}


def metric_heading(result: Standing) -> str:
    """Unit of the primary metric behind an arrow that says which way is better."""
    return f"{_arrow(result.higher_is_better)} {result.unit or result.metric}"


def decimals(result: Standing) -> int:
    """Decimals of the primary metric in every table of this standing."""
    return wording.digits([line.score.mean for line in result.lines])


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
