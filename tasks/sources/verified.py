"""Sources that can say whether an answer in other words is right too, and how a final answer is found in a text."""

from __future__ import annotations

import re
from abc import abstractmethod
from decimal import Decimal, InvalidOperation

from tasks.sources.pairs import Pair, PairSource

MARK = "####"  # stands before the final answer, as in GSM8K
_BOXED = re.compile(r"\\boxed\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}")


class VerifiedSource(PairSource):
    """A reader of pairs whose answers can be verified."""

    @abstractmethod
    def verify(self, pair: Pair, answer: str) -> float:
        """How right a written answer to the pair's prompt is, in [0, 1]; never raises for what a model may write."""


def final_answer(text: str) -> str:
    r"""What follows the last ``####``, or the whole text; of that, what stands in the last ``\boxed{}`` if any does."""
    tail = text.rpartition(MARK)[2]
    boxes: list[str] = _BOXED.findall(tail)
    return (boxes[-1] if boxes else tail).strip()


def same_answer(given: str, expected: str) -> bool:
    """Equal as numbers (commas, $, % and trailing zeros aside), or else as text but for case and white space."""
    numbers = [_number(text) for text in (given, expected)]
    if None not in numbers:
        return numbers[0] == numbers[1]
    return "".join(given.split()).casefold() == "".join(expected.split()).casefold()


def _number(text: str) -> Decimal | None:
    bare = text.strip().rstrip(".%").replace(",", "").replace("$", "").strip()
    if not re.fullmatch(r"[+-]?(\d+(\.\d*)?|\.\d+)", bare):
        return None
    try:
        return Decimal(bare)
    except InvalidOperation:
        return None
