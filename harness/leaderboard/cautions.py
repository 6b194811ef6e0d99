"""What makes rows of one table less comparable than they look: other libraries, other cuts, other seeds, twins."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness.leaderboard import wording
from harness.leaderboard.aggregates import by_seed
from harness.leaderboard.groups import CellKey, Group
from harness.leaderboard.rows import Row
from harness.leaderboard.standings import BASELINES, OWN_PARTITION, Standing, mixer_name, scored_cells
from mixers.simplex import entropy

# Libraries whose version may change what a seed gives.
_LIBRARIES = ("torch", "numpy", "scikit-learn", "transformers")
# The surrogate of the tabular task that is not the one named, and what it needs.
_OTHER = {"gp": "surrogate=trees, which needs 20 runs", "trees": "surrogate=gp"}


def of_all(groups: Sequence[Group]) -> list[str]:
    """Lines about all tables together: those that one surrogate alone judged, where it might have been two."""
    judged = [(group, *told) for group in groups if (told := _judge(group))]
    names: dict[str, set[str]] = {}
    for _, what, name in judged:
        names.setdefault(what, set()).add(name)
    lines = []
    for name, other in _OTHER.items():
        alone = [group.title for group, what, _ in judged if names[what] == {name}]
        if alone:
            which = "" if len(alone) == len(groups) else f" ({', '.join(dict.fromkeys(alone))})"
            lines.append(
                f"Judged by one surrogate ({name}) alone{which}: a mixer whose own model is of that family may be "
                f"favoured; run with {other}, too."
            )
    return lines


def _judge(group: Group) -> tuple[str, str] | None:
    """What was judged, a table's contents and settings, and the name of the surrogate; ``None`` where there is none."""
    name = next((found for row in group.scored if (found := (row.get("data") or {}).get("surrogate"))), None)
    config = group.spec.get("task_config") or {}
    # The path is in the fingerprint, as far as it matters.
    settings = {key: value for key, value in config.items() if key not in ("surrogate", "path", "format")}
    return None if name is None else (_canonical([group.fingerprint, settings]), name)


def of_group(group: Group) -> list[str]:
    """Lines about rows that were made in different ways."""
    return [line for line in (_made_differently(group.scored or group.rows), *_cut_differently(group)) if line]


def of_table(standing: Standing) -> list[str]:
    """Lines about rows that gave the same results, and about means over different seeds."""
    lines = [*_references(standing), *_same_results(standing), *_odd_mixtures(standing.group)]
    lines += _surrogate(standing.group)
    if len({tuple(row["spec"]["seed"] for row in rows) for rows in scored_cells(standing.group).values()}) > 1:
        lines.append(
            "Not all rows have the same seeds: means of rows with fewer seeds are over other seeds; only differences "
            "(Δ) and letters compare like with like."
        )
    return lines


def _references(standing: Standing) -> list[str]:
    """A sentence that says which rows are yardsticks."""
    named = dict.fromkeys(line.cell[1] for line in standing.lines if line.reference)
    if not named:
        return []
    what = "is a reference and no method: it has" if len(named) == 1 else "are references and no methods: they have"
    return [f"{', '.join(f'`{name}`' for name in named)} {what} no letters and no part in the tests."]


def machine(row: Row) -> str:
    """The hardware of a row in a few words."""
    hardware = (row.get("provenance") or {}).get("hardware")
    if not isinstance(hardware, dict):
        return "unknown"
    parts = [str(hardware[key]) for key in ("gpu", "cpu") if hardware.get(key)]
    cores = [f"{hardware['cores']} cores"] if hardware.get("cores") else []
    return ", ".join(parts + cores) or "unknown"


def _made_differently(rows: Sequence[Row]) -> str:
    versions = [(row.get("provenance") or {}).get("versions") or {} for row in rows]
    found = {name: sorted({str(known.get(name) or "unknown") for known in versions}) for name in _LIBRARIES}
    differing = [f"{name} {' and '.join(values)}" for name, values in found.items() if len(values) > 1]
    how = [f"with different versions ({', '.join(differing)})"] if differing else []
    how += ["on different hardware"] if len({machine(row) for row in rows}) > 1 else []
    return f"made {' and '.join(how)}; equal seeds may not share weights bit for bit" if how else ""


def _cut_differently(group: Group) -> list[str]:
    """Rows of one partition and seed must have cut the corpus in the same way."""
    cuts: dict[tuple[str, int], list[list[float]]] = {}
    for (partition, _), rows in scored_cells(group).items():
        for row in rows:
            shares = row["domains"].get("train_shares")
            if shares is not None:
                cuts.setdefault((partition, row["spec"]["seed"]), []).append(shares)
    wrong: dict[str, list[int]] = {}
    for (partition, seed), shares_of in sorted(cuts.items()):
        if not all(_close(shares, shares_of[0]) for shares in shares_of):
            wrong.setdefault(partition, []).append(seed)
    return [
        f"warning: rows of {partition}, seed{'s' if len(seeds) > 1 else ''} {wording.spans(seeds)}, differ in the "
        "shares of their train domains: their cuts differ, and so do their data"
        for partition, seeds in wrong.items()
    ]


def _close(a: Sequence[float], b: Sequence[float]) -> bool:
    return len(a) == len(b) and all(math.isclose(x, y, rel_tol=1e-9) for x, y in zip(a, b, strict=True))


def _same_results(standing: Standing) -> list[str]:
    """A sentence for each mixer whose rows equal another's bit by bit."""
    group = standing.group
    cells = scored_cells(group)
    scores = {cell: by_seed(rows, standing.metric) for cell, rows in cells.items()}
    results = {cell: {r["spec"]["seed"]: _canonical(r["metrics"]) for r in rows} for cell, rows in cells.items()}

    def rank(cell: CellKey) -> tuple[Any, ...]:
        mixer = mixer_name(group, cell)
        return BASELINES.index(mixer) if mixer in BASELINES else len(BASELINES), cell[0] != OWN_PARTITION, cell

    ordered = sorted(cells, key=rank)
    found: dict[tuple[str, str, str, str], list[str]] = {}
    for i, cell in enumerate(ordered):
        candidates = sorted(ordered[:i], key=lambda other: other[0] != cell[0])
        twin = next((other for other in candidates if _agree(scores[cell], scores[other])), None)
        if twin is None:
            continue
        what = "gave the same results as" if _agree(results[cell], results[twin]) else f"has the {standing.metric} of"
        seeds = "every seed" if set(scores[cell]) == set(scores[twin]) else "every seed that both have"
        together = cell[0] == twin[0]
        names = (cell[1], twin[1]) if together else ("/".join(cell), "/".join(twin))
        found.setdefault((names[0], what, names[1], seeds), []).extend([cell[0]] if together else [])
    lines = []
    for (ours, what, theirs, seeds), partitions in found.items():
        where = f" ({', '.join(name for name in group.partitions if name in partitions)})" if partitions else ""
        lines.append(f"`{ours}` {what} `{theirs}` in {seeds}{where}.")
    return lines


COLLAPSED = 0.99  # largest weight from which a mixture counts as one domain's
NEAR_UNIFORM = 0.005  # share of log m within which the entropy counts as that of the uniform mixture


def oddity(row: Row) -> str:
    """What is odd about a row's mixtures: judged outside a table's support, collapsed, never left uniform; else empty.

    The last two are odd in a mixer that adapts.
    """
    if ((row.get("table") or {}).get("support") or {}).get("outside"):
        return "was judged on a mixture outside the support of the table"
    mixtures = [weights for _, weights in row["mixture"]["requested"]]
    m = len(mixtures[0])
    if len(mixtures) < 2 or m < 2:
        return ""
    if max(max(weights) for weights in mixtures) >= COLLAPSED:
        return "collapsed to one domain"
    if min(entropy(weights) for weights in mixtures) >= (1 - NEAR_UNIFORM) * math.log(m):
        return "never left the uniform mixture"
    return ""


def _odd_mixtures(group: Group) -> list[str]:
    """A sentence for each row of the table in which some seeds' mixtures are odd."""
    found: dict[tuple[CellKey, str], list[int]] = {}
    for cell, rows in scored_cells(group).items():
        for row in rows:
            if odd := oddity(row):
                found.setdefault((cell, odd), []).append(row["spec"]["seed"])
    return [
        f"`{'/'.join(cell)}` {odd} in seed{'s' if len(seeds) > 1 else ''} {wording.spans(sorted(seeds))}."
        for (cell, odd), seeds in sorted(found.items())
    ]


def _surrogate(group: Group) -> list[str]:
    """A sentence where nothing was trained: what the tests know nothing of."""
    errors = [row["table"]["score_rmse"] for row in group.scored if "score_rmse" in (row.get("table") or {})]
    return [
        "Nothing was trained: scores are a surrogate's mean, the same in every seed for the same mixture. On runs that "
        f"it had not seen its error is {max(errors):.2g} (RMSE); the tests know nothing of it, and differences below "
        "it may be the surrogate's."
    ] if errors else []  # fmt: skip


def _agree(ours: Mapping[int, Any], theirs: Mapping[int, Any]) -> bool:
    shared = set(ours) & set(theirs)
    return bool(shared) and all(ours[seed] == theirs[seed] for seed in shared)


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
