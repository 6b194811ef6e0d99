"""The sentences around a table: what was run, what can be told apart, what failed and what is missing."""

from __future__ import annotations

from collections.abc import Sequence

from harness import stats
from harness.leaderboard import cautions, wording
from harness.leaderboard.groups import CellKey, Group, reasons
from harness.leaderboard.rows import is_scored, primary_name
from harness.leaderboard.standings import BASELINES, OWN_PARTITION, Line, Standing, baseline_cell

HOW_TO_READ = """\
## How to read the tables

- Rows are sorted by the primary metric on test, weighted by the target shares of the original domains, from best to \
worst; an arrow says which way is better (↓ lower, ↑ higher). **±** is half of a 95 % t-interval over the n seeds.
- **Δ** is the mean of (row - baseline) over the seeds that both have, with its 95 % t-interval: pairing by seed takes \
out what both share: the initial weights and, on one partition, the order of each domain's examples. Rows of different \
partitions, as in "Against `original`", share the initial weights only. `[n=3]` marks a Δ over fewer seeds than the \
row has; *identical*: every difference is exactly zero, so nothing is tested. Rows with equal scores in the same seeds \
count once in each family of tests.
- **p** comes from a two-sided paired t-test, corrected by Holm over one family: every comparison with `uniform` or \
`natural` in the table and in its part "Against `original`". Below 0.05 the two are called separable.
- **group**: rows that share a letter are not separable from each other; here the family of Holm's correction is all \
pairs of rows. A row may carry several letters. The number in front is the place of the mean and no more than that.
- **Smallest detectable difference**: what a paired t-test with these seeds and this spread finds with probability 0.8 \
at Holm's strictest level. A true difference below it will mostly go unseen.
- **macro** is the unweighted mean over original domains; **worst domain** the one with the worst mean over seeds.
- **FLOPs %**: counted operations that the mixer bought or added, relative to training. **regroup %**: those of \
making the partition. **paper %**: that overhead by the formula of the method's paper, if it has one. **host s**: \
seconds inside the mixer and what it bought. **step %** and **memory %**: step time and peak memory against the static \
mixture, paired, from a serial timing pass that ran alone. A dash: not measured, or nothing to compare with.
"""


def facts(group: Group) -> list[str]:
    """Lines that say what was run, on what."""
    spec = group.spec
    rows = group.scored or group.rows
    units = [row["training"]["units"] for row in group.scored]
    hardware = {cautions.machine(row) for row in rows}
    commits = {_commit(row.get("provenance") or {}) for row in rows}
    count = spec.get("threads")
    threads = f", {count} thread{'s' if count > 1 else ''}" if count else ""
    unit = next((row["training"].get("unit") for row in group.scored), None) or "unit"
    size = f", {sum(units) / len(units):,.0f} {unit}s trained on" if units else ""
    lines = [
        f"{spec['steps']:,} steps{_rule(spec)}, batch of {spec['batch_size']}{size}; "
        f"seeds {wording.spans(group.seeds)}",
        f"{spec.get('device', '?')}, {spec.get('dtype', '?')}{threads}{', compiled' if spec.get('compile') else ''}; "
        f"hardware: {'; '.join(sorted(hardware))}",
        f"corpus {short(group.fingerprint)}, protocol {group.protocol}, commit {', '.join(sorted(commits))}",
    ]
    sizes = [f"{name} ({count})" for name in group.partitions if (count := _domains(group, name))]
    if sizes:
        lines.append(f"partitions and their domains: {', '.join(sizes)}")
    if len(hardware) > 1:
        lines.append("seconds come from different machines: compare costs with care")
    lines += cautions.of_group(group)
    expected = {row.get("fingerprint_expected") for row in group.scored} - {None, group.fingerprint}
    if expected:
        lines.append("this corpus is not the published one: its fingerprint differs")
    return lines


def _rule(spec: dict[str, object]) -> str:
    """Says so where mixers paid for what they bought with steps of their own, and where rows are tries."""
    tries = " (judged on validation: tries)" if "judge" in spec else ""
    return (" in all (equal total budget: purchases taken off)" if "budget_rule" in spec else "") + tries


def why_several(groups: Sequence[Group]) -> str:
    """One line that says why rows of one task and preset stand in several tables, empty if they do not."""
    apart = []
    for key in dict.fromkeys((g.spec["task"], g.spec["preset"]) for g in groups):
        same = [g for g in groups if (g.spec["task"], g.spec["preset"]) == key]
        if len(same) > 1:
            apart.append(f"{key[0]} at {key[1]}: {len(same)} tables, because rows differ in {', '.join(reasons(same))}")
    return "; ".join(apart)


def verdicts(standing: Standing) -> list[str]:
    """What the tests say against each baseline, how little they could have seen, and what to mind."""
    against = [_verdict(standing, name) for name in BASELINES]
    return [*_unlearned(standing), *_power(standing), *against, *cautions.of_table(standing)]


def problems(group: Group) -> list[str]:
    """Failed trials and cells of the grid without a row."""
    lines = []
    for row in group.rows:
        if not is_scored(row):
            status = row["status"] if row["status"] != "ok" else f"{primary_name(row)} is not a number"
            reason = f": {row['reason']}" if row.get("reason") else ""
            lines.append(f"failed: {row['id']} ({status}){wording.escaped(reason)}")
    absent = [cell for cell, _ in group.missing() if cell not in group.cells]
    if absent:
        lines.append(f"no trial at all: {by_partition(absent)}")
    for cell, seeds in group.missing():
        if cell in absent:
            continue
        lines.append(f"missing: {name(cell)}, seed{'s' if len(seeds) > 1 else ''} {wording.spans(seeds)}")
    return lines


def name(cell: CellKey) -> str:
    """A row's name in a sentence: ``kmeans/rnb``."""
    return f"{cell[0]}/{cell[1]}"


def by_partition(cells: Sequence[CellKey]) -> str:
    """Rows in a sentence: ``original (target, rnb), kmeans (rnb)``, or ``none``."""
    mixers: dict[str, list[str]] = {}
    for partition, mixer in cells:
        mixers.setdefault(partition, []).append(mixer)
    return ", ".join(f"{partition} ({', '.join(names)})" for partition, names in mixers.items()) or "none"


def short(fingerprint: str | None) -> str:
    """The first digits of a fingerprint."""
    return (fingerprint or "unknown").removeprefix("sha256:")[:12]


def _unlearned(standing: Standing) -> list[str]:
    """What the metrics are without any learning, where the task says so."""
    known = standing.unlearned
    if not known:
        return []
    values = [f"{metric} {v['target']:.3g} (macro {v['macro']:.3g})" for metric, v in known.items()]
    return [f"Without learning (the best constant answer, or chance): {', '.join(values)}."]


def _tests(count: int) -> str:
    return "1 test" if count == 1 else f"{count} tests"


def _verdict(standing: Standing, baseline: str) -> str:
    """Better, worse and not separable rows against one baseline under the same partition."""
    compared = [line for line in standing.methods if baseline in line.baselines]
    if not compared:
        return f"No row can be compared with `{baseline}`: {_why_not(standing, baseline)}."

    def pick(want: str) -> str:
        return by_partition([line.cell for line in compared if _outcome(standing, line, baseline) == want])

    kinds = ["better", "worse", "not separable"]
    kinds += ["identical"] if any(line.baselines[baseline].paired.identical for line in compared) else []
    return f"Against `{baseline}` on the same partition: {'; '.join(f'{kind}: {pick(kind)}' for kind in kinds)}."


def _outcome(standing: Standing, line: Line, baseline: str) -> str:
    comparison = line.baselines[baseline]
    if comparison.paired.identical:
        return "identical"
    if not comparison.separated:
        return "not separable"
    return "better" if standing.better(comparison.paired.difference.mean) else "worse"


def _why_not(standing: Standing, baseline: str) -> str:
    """Why no row stands against this baseline under its own partition."""
    scores = {line.cell: line.score for line in standing.lines}
    partitions = {cell[0] for cell in scores}
    found = {cell for name in partitions if (cell := baseline_cell(standing.group, name, baseline, scores))}
    if not found:
        return "it has no trial with a score on any of these partitions"
    if any(cell not in found and cell[0] in {partition for partition, _ in found} for cell in scores):
        return "no other row on its partition shares a seed with it"
    return "no other row stands on its partition"


def _power(standing: Standing) -> list[str]:
    """Size of the families and the smallest detectable difference; says so when nothing could be separated."""
    anything = "anything" if len({line.letters for line in standing.methods}) == 1 else "anything from a baseline"
    between = [f"{_tests(standing.pairs)} between all rows (letters, Holm)."] if standing.pairs else []
    if len(standing.lines) == 1:
        return ["Nothing is compared: this table has only one row with a score."]
    if not standing.comparisons:
        return ["No row is compared with a baseline.", *between]
    if all(c.paired.identical for c in standing.comparisons):
        return ["Nothing to test against a baseline: every row that shares a seed with one has its scores.", *between]
    if standing.tests == 0 or standing.detectable is None:
        few = "a paired test needs two seeds that both rows have"
        return [f"Too few seeds to separate {anything}: {few}.", *between]
    differences = [abs(c.paired.difference.mean) for c in standing.comparisons]
    least, median, greatest = (f"{value:.3g}" for value in standing.detectable)
    spread = f" ({least} to {greatest})" if least != greatest else ""
    found = (
        f"{_tests(standing.tests)} against baselines (p, Holm) and {standing.pairs} between all rows (letters, Holm). "
        f"Smallest detectable difference against a baseline: {median} {standing.unit}{spread}."
    )
    if any(c.separated for c in standing.comparisons):
        return [found]
    if max(differences) < standing.detectable[1]:
        few = f"the largest difference from a baseline, {max(differences):.3g}, is below what they could detect"
        return [f"Too few seeds to separate {anything}: {few}.", found]
    return [f"No row is separable from a baseline at the level {stats.ALPHA}.", found]


def _domains(group: Group, partition: str) -> str:
    counts = {len(r["domains"]["train"]) for r in group.scored if _in(group, r, partition)}
    return wording.spans(sorted(counts))


def _in(group: Group, row: object, partition: str) -> bool:
    return any(row is other for cell, seeds in group.cells.items() if cell[0] == partition for other in seeds.values())


def _commit(provenance: dict[str, object]) -> str:
    commit = str(provenance.get("commit") or "unknown")[:10]
    return f"{commit} (with local changes)" if provenance.get("dirty") else commit


def has_original(standing: Standing) -> bool:
    """Whether rows of other partitions can be set against the original one."""
    return OWN_PARTITION in standing.group.partitions and any(line.against_original for line in standing.lines)
