"""Several leaderboards in one table: did a mixer beat a baseline, board by board."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from harness.leaderboard import wording
from harness.leaderboard.curves import family
from harness.leaderboard.groups import Group, split, told_apart
from harness.leaderboard.rows import RowsError, read_rows
from harness.leaderboard.standings import OWN_PARTITION, Comparison, Line, Standing, standing

BEGIN, END = "<!-- overview: made by `harness overview`, do not edit -->", "<!-- end of overview -->"
LEGEND = (
    "*better*, *worse*: separable from `{baseline}` in the board's own family of tests (paired by seed, Holm); the "
    "number is the difference of the means, positive where it is a gain. Alone: not separable, or a reference, which "
    "is not tested. In brackets: FLOPs of mixing and regrouping in per cent of the training, where there are any. A "
    "dash: not run there."
)


def overview(folders: Sequence[Path], baseline: str) -> str:
    """Two Markdown tables: mixers on the original domains, and other partitions against the original baseline.

    Of a mixer that was run with several numbers of runs the one with the most stands here. Raises :class:`RowsError`
    where a folder holds no rows or no table has the baseline.
    """
    mixers: dict[str, dict[str, str]] = {}
    cuts: dict[str, dict[str, str]] = {}
    heads: dict[str, None] = {}
    for head, group in _headed(folders):
        result = standing(group)
        if result is None:
            continue
        for name, line in _lines(result).items():
            own = line.cell[0] == OWN_PARTITION
            comparison = (line.baselines if own else line.against_original).get(baseline)
            if comparison is not None:
                (mixers if own else cuts).setdefault(name, {})[head] = _verdict(result, comparison) + _price(line)
                heads[head] = None
    if not heads:
        raise RowsError(f"no table below {', '.join(map(str, folders))} has a row of {baseline} to compare with")
    parts = [LEGEND.format(baseline=baseline)]
    if mixers:
        parts += [f"On the original domains, against `{baseline}`:", _table("mixer", mixers, [*heads])]
    if cuts:
        lead = f"On other partitions, against `{baseline}` on the original domains:"
        parts += [lead, _table("partition / mixer", cuts, [*heads])]
    return "\n\n".join(parts) + "\n"


def boards(out: Path) -> list[Path]:
    """The leaderboards below a folder, by name."""
    return sorted(path.parent for path in out.glob("*/rows.jsonl*"))


def put_into(page: Path, text: str) -> bool:
    """Replace what stands between the page's two marks; returns whether that changed it. See :data:`BEGIN`."""
    old = page.read_text(encoding="utf-8")
    if old.count(BEGIN) != 1 or old.count(END) != 1 or old.index(END) < old.index(BEGIN):
        raise RowsError(f"{page}: needs one line {BEGIN} and, below it, one line {END}")
    before, _, rest = old.partition(BEGIN)
    new = f"{before}{BEGIN}\n\n{text}\n{END}{rest.partition(END)[2]}"
    page.write_text(new, encoding="utf-8")
    return new != old


def _headed(folders: Sequence[Path]) -> list[tuple[str, Group]]:
    """Every table of the folders with a name that no other one has."""
    distinct: dict[Path, Path] = {}
    for folder in folders:
        distinct.setdefault(folder.resolve(), folder)
    boards = [(folder, split(read_rows([folder]))) for folder in distinct.values()]
    names = Counter(folder.resolve().name for folder, _ in boards)
    found = []
    for folder, groups in boards:
        name = folder.resolve().name if names[folder.resolve().name] == 1 else str(folder)
        for group in groups:
            alike = [each for each in groups if each.variant == group.variant]
            specs = [{**each.spec, "protocol": each.protocol, "fingerprint": each.fingerprint} for each in alike]
            told = ", ".join(filter(None, [told_apart(specs)[alike.index(group)], group.variant]))
            found.append((f"{name} ({told})" if told else name, group))
    return found


def _lines(result: Standing) -> dict[str, Line]:
    """By what it is called, one line a partition and curve: the one with the most runs bought."""
    most: dict[str, Line] = {}
    for line in result.lines:
        name = _name(result, line)
        if name not in most or line.price.total > most[name].price.total:
            most[name] = line
    return most


def _verdict(result: Standing, comparison: Comparison) -> str:
    if comparison.paired.identical:
        return "identical"
    mean = comparison.paired.difference.mean
    gain = mean if result.higher_is_better else -mean
    number = f"{gain:+.3f}"
    if not comparison.separated:
        return number
    return f"{'better' if gain > 0 else 'worse'} {number}"


def _name(result: Standing, line: Line) -> str:
    """The partition where it is another one, and the mixer, without the number of its runs where it buys any."""
    partition, label = line.cell
    rows = result.group.cells[line.cell].values()
    runs = any("runs" in ((row.get("overhead") or {}).get("purchases") or {}) for row in rows)
    mixer = (family(label) if runs else label) + (" (reference)" if line.reference else "")
    return mixer if partition == OWN_PARTITION else f"{partition} / {mixer}"


def _price(line: Line) -> str:
    return f" ({wording.percent(line.price.total)} %)" if line.price.total else ""


def _table(first: str, found: dict[str, dict[str, str]], heads: list[str]) -> str:
    used = [head for head in heads if any(head in cells for cells in found.values())]
    rows = [[name, *(cells.get(head, wording.DASH) for head in used)] for name, cells in sorted(found.items())]
    return wording.markdown_table([first, *used], rows, (first,))
