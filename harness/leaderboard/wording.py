"""How numbers and lists are written in every table: digits, signs, dashes, escapes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from tabulate import tabulate

from harness import stats
from harness.inline import split_list

DASH = "—"
LONGEST = 26  # characters of a mixer in a picture


def digits(values: Iterable[float]) -> int:
    """Decimals that give about five significant digits to the largest of these values, between none and six."""
    largest = max((abs(v) for v in values if math.isfinite(v)), default=1.0)
    return 4 if largest == 0 else min(6, max(0, 4 - math.floor(math.log10(largest))))


def number(value: float | None, decimals: int, sign: bool = False) -> str:
    """Fixed decimals, a dash for ``None`` and NaN, never a negative zero."""
    if value is None or not math.isfinite(value):
        return DASH
    rounded = round(value, decimals) + 0.0
    return f"{rounded:{'+' if sign and rounded else ''}.{decimals}f}"


def percent(share: float | None, sign: bool = False) -> str:
    """A share as per cent with two significant digits below ten: 0.53, 0.009, 12.4; zero is ``0``."""
    if share is None or not math.isfinite(share):
        return DASH
    value = 100 * share
    if abs(value) < 5e-7:
        return "0"
    decimals = 1 if abs(value) >= 10 else max(1, 1 - math.floor(math.log10(abs(value))))
    return f"{value:{'+' if sign else ''}.{decimals}f}"


def estimate(value: stats.Estimate, decimals: int, sign: bool = False) -> str:
    """``mean ± half interval``, or the mean alone where one seed gives no interval."""
    mean = number(value.mean, decimals, sign)
    return mean if value.half is None else f"{mean} ± {number(value.half, decimals)}"


def paired(value: stats.Paired, decimals: int) -> str:
    """``-0.0412 ± 0.0060``, or ``identical`` where every difference is exactly zero."""
    return "identical" if value.identical else estimate(value.difference, decimals, sign=True)


def probability(p: float | None) -> str:
    """A corrected p value: ``p=0.012``, ``p<0.001``; nothing where there was no test."""
    if p is None:
        return "no test"
    return "p<0.001" if p < 0.001 else f"p={p:.3f}" if p < 0.1 else f"p={p:.2f}"


def seconds(value: float | None) -> str:
    """Seconds with three decimals below one, one above ten."""
    return number(value, 3 if value is None or value < 1 else 2 if value < 10 else 1)


def spans(numbers: Sequence[int]) -> str:
    """Whole numbers with their runs shortened: ``0-4, 7``."""
    runs: list[list[int]] = []
    for value in sorted(numbers):
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def escaped(text: str) -> str:
    """Text that stays itself in Markdown; ``<`` before a digit opens no tag and stays readable in the raw text."""
    text = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text.replace("\\", "\\\\"))
    return text.replace("|", "\\|").replace("\n", " ").replace("*", "\\*")


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[str]) -> str:
    """A table for Markdown and for the eye; columns named in ``left`` are text, the others align right."""
    align = ["left" if name in left else "right" for name in header]
    body = [[escaped(cell) for cell in row] for row in rows]
    return tabulate(body, headers=list(header), tablefmt="github", colalign=align, disable_numparse=True)


def plain_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[str]) -> str:
    """The same for a terminal."""
    align = ["left" if name in left else "right" for name in header]
    return tabulate(rows, headers=list(header), tablefmt="simple", colalign=align, disable_numparse=True)


def short_names(labels: Sequence[str]) -> dict[str, str]:
    """What stands beside a point: the mixer's name with the parameters that tell it from others of that name, cut."""
    parsed = {label: parts(label) for label in labels}
    named: dict[str, list[set[str]]] = {}
    for name, parameters in parsed.values():
        named.setdefault(name, []).append(set(parameters))
    shown = {}
    for label, (name, parameters) in parsed.items():
        telling = [each for each in parameters if each not in set.intersection(*named[name])]
        text = f"{name}[{','.join(telling)}]" if telling else name
        shown[label] = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
    return shown


def parts(label: str) -> tuple[str, list[str]]:
    """``rnb[lam=3]`` -> the name and its parameters as written; what follows a bracket belongs to the name."""
    name, _, rest = label.partition("[")
    body, bracket, tail = rest.rpartition("]")
    return name + tail, split_list(body) if bracket else []
