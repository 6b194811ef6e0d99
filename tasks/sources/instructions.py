"""Instructions with answers: the prompt's form, their splits, and tables of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from tasks.base import SPLITS, TaskError
from tasks.cache import content_key
from tasks.sources.documents import Document, stable_rank
from tasks.sources.pairs import Pair, PairSource
from tasks.sources.passages import passages
from tasks.sources.records import Records, text_of
from tasks.sources.split import PORTIONS, split_origins


def prompt(instruction: str, text: str = "") -> str:
    """What stands before the answer: the instruction, the input if there is one, and the word ``Output``.

    The answer follows on a line of its own.
    """
    middle = f"Input: {text.strip()}\n\n" if text.strip() else ""
    return f"{instruction.strip()}\n\n{middle}Output:"


def divide(pairs: Sequence[Pair], portions: Sequence[float]) -> list[Pair]:
    """The pairs with a split each: their own, or one drawn by origin in these portions of every domain's examples."""
    undecided = [Document(domain=pair.domain, origin=pair.origin, text="x") for pair in pairs if not pair.split]
    assigned = split_origins(undecided, dict(zip(SPLITS, portions, strict=True)))
    return [pair if pair.split else replace(pair, split=assigned[pair.origin]) for pair in pairs]


def thin(pairs: Iterable[Pair], portion: float) -> list[Pair]:
    """A share of the pairs, chosen by a hash of what they say, in their order."""
    if portion >= 1:
        return list(pairs)
    limit = int(portion * 16**12)
    return [pair for pair in pairs if int(stable_rank(pair.prompt + "\0" + pair.answer)[:12], 16) < limit]


def ending(text: str, characters: int) -> str:
    """The last characters of an input, where a question about a passage usually stands; 0: all."""
    return text[-characters:] if characters else text


class Table(PairSource):
    """Rows with an instruction, perhaps an input, an answer and a domain, each a field of the row.

    Rows about one text share a split (that of the input, or of the instruction where there is none), or those of one
    ``origin_field``. Rows without an answer are left out. input_characters: an input's last ones that are kept; 0: all.
    """

    def __init__(
        self,
        records: Records,
        *,
        instruction_field: str = "instruction",
        input_field: str = "input",
        answer_field: str = "output",
        domain_field: str = "domain",
        origin_field: str = "origin",
        input_characters: int = 0,
        portions: Sequence[float] = tuple(PORTIONS.values()),
        portion: float = 1.0,
    ) -> None:
        self._records = records
        self._fields = (instruction_field, input_field, answer_field, domain_field, origin_field)
        self._input_characters = input_characters
        self._portions = tuple(portions)
        self._portion = portion
        self._left_out = 0

    def identity(self) -> str:
        """Hash of the rows, the field names, the inputs' length and the split."""
        settings = (self._fields, self._input_characters, self._portions, self._portion)
        return content_key("table", 2, self._records.identity(), *settings)

    def pairs(self) -> list[Pair]:
        """One pair a row that has an answer, in the order of the rows."""
        instruction_field, input_field, answer_field, domain_field, origin_field = self._fields
        found: list[Pair] = []
        about: list[str] = []
        self._left_out = 0
        for record in self._records.records(self._fields):
            instruction = text_of(record, instruction_field, "instruction_field")
            text = text_of(record, input_field, "input_field", empty=True)
            origin = record.row.get(origin_field, "")
            if not isinstance(origin, str | int):
                raise TaskError(f"{record.where}: field {origin_field!r} must be text or a whole number")
            answer = text_of(record, answer_field, "answer_field", empty=answer_field in record.row).strip()
            if not answer:
                self._left_out += 1
                continue
            found.append(
                Pair(
                    domain=text_of(record, domain_field, "domain"),
                    origin=str(origin),
                    prompt=prompt(instruction, ending(text, self._input_characters)),
                    answer=answer,
                    split=record.split,
                )
            )
            about.append(text if text.strip() else instruction)
        if not found:
            raise TaskError(f"{self._records.name}: no row has an answer in {answer_field!r}; choose answer_field=")
        (keys,) = passages([about])
        named = [pair if pair.origin else replace(pair, origin=key) for pair, key in zip(found, keys, strict=True)]
        return divide(thin(named, self._portion), self._portions)

    def provenance(self) -> dict[str, Any]:
        """Where the rows came from, the fields that were read, and how many rows had no answer."""
        return {
            **self._records.provenance(),
            "fields": list(self._fields),
            "split": list(self._portions),
            "without_output": self._left_out,
        }
