"""Several leaderboards in one table: did a mixer beat a baseline, board by board."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.leaderboard import wording
from harness.leaderboard.curves import family
from harness.leaderboard.groups import Group, split
from harness.leaderboard.rows import RowsError, read_rows
from harness.leaderboard.standings import OWN_PARTITION, Comparison, Line, Standing, standing

BEGIN, END = "<!-- overview: made by `harness overview`, do not edit -->", "<!-- end of overview -->"
LEGEND = (
    "*better*, *worse*: separable from `{baseline}` in the board's own family of tests (paired by seed, Holm); the "
    "number is the difference of the means, positive where it is a gain. Alone: not separable. In brackets: FLOPs of "
    "mixing and regrouping in per cent of the training, where there are any. A dash: not run there."
)


def overview(folders: Sequence[Path], baseline: str) -> str:
    """Two Markdown tables: mixers on the original domains, and other partitions against the original baseline.

    Of a mixer that was run with several numbers of runs the one with the most stands here. Raises :class:`RowsError`
    where a folder holds no rows or no table has the baseline.
    """
    mixers: dict[str, dict[str, str]] = {}
    cuts: dict[str, dict[str, str]] = {}
    heads: list[str] = []
    for folder in folders:
        groups = split(read_rows([folder]))
        for group in groups:
            result = standing(group)
            if result is None or not any(baseline in line.baselines for line in result.lines):
                continue
            head = _head(folder, group, several=len(groups) > 1)
            heads.append(head)
            for line in _lines(result):
                own = line.cell[0] == OWN_PARTITION
                comparison = (line.baselines if own else line.against_original).get(baseline)
                if comparison is not None:
                    cell = _verdict(result, comparison) + _price(line)
                    (mixers if own else cuts).setdefault(_name(line, own), {})[head] = cell
    if not heads:
        raise RowsError(f"no table below {', '.join(map(str, folders))} has a row of {baseline} to compare with")
    parts = [LEGEND.format(baseline=baseline)]
    if mixers:
        parts += [f"On the original domains, against `{baseline}`:", _table("mixer", mixers, heads)]
    if cuts:
        lead = f"On other partitions, against `{baseline}` on the original domains:"
        parts += [lead, _table("partition / mixer", cuts, heads)]
    return "\n\n".join(parts) + "\n"


def boards(out: Path) -> list[Path]:
    """The leaderboards below a folder, by name."""
    return sorted(path.parent for path in out.glob("*/rows.jsonl*"))


def put_into(page: Path, text: str) -> bool:
    """Replace what stands between the page's two marks; returns whether that changed it. See :data:`BEGIN`."""
    old = page.read_text(encoding="utf-8")
    if old.count(BEGIN) != 1 or old.count(END) != 1:
        raise RowsError(f"{page}: needs one line {BEGIN} and, below it, one line {END}")
    before, _, rest = old.partition(BEGIN)
    new = f"{before}{BEGIN}\n\n{text}\n{END}{rest.partition(END)[2]}"
    page.write_text(new, encoding="utf-8")
    return new != old


def _head(folder: Path, group: Group, several: bool) -> str:
    name = folder.resolve().name
    return f"{name} ({group.variant})" if several and group.variant else name


def _lines(result: Standing) -> list[Line]:
    """One line a partition and curve: the one with the most runs bought."""
    most: dict[tuple[str, str], tuple[float, Line]] = {}
    for line in result.lines:
        key = (line.cell[0], family(line.cell[1]))
        if key not in most or line.price.total > most[key][0]:
            most[key] = (line.price.total, line)
    return [line for _, line in most.values()]


def _verdict(result: Standing, comparison: Comparison) -> str:
    if comparison.paired.identical:
        return "identical"
    mean = comparison.paired.difference.mean
    gain = mean if result.higher_is_better else -mean
    number = f"{gain:+.3f}"
    if not comparison.separated:
        return number
    return f"{'better' if gain > 0 else 'worse'} {number}"


def _name(line: Line, own: bool) -> str:
    mixer = family(line.cell[1]) + (" (reference)" if line.reference else "")
    return mixer if own else f"{line.cell[0]} / {mixer}"


def _price(line: Line) -> str:
    return f" ({wording.percent(line.price.total)} %)" if line.price.total else ""


def _table(first: str, found: dict[str, dict[str, str]], heads: list[str]) -> str:
    used = [head for head in heads if any(head in cells for cells in found.values())]
    rows = [[name, *(cells.get(head, wording.DASH) for head in used)] for name, cells in sorted(found.items())]
    return wording.markdown_table([first, *used], rows, (first,))
