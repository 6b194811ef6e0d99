"""Copies of Natural Instructions on the Hugging Face hub: one row an output, no categories."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

from tasks.base import TaskError
from tasks.cache import content_key
from tasks.sources.documents import stable_rank
from tasks.sources.instructions import Table
from tasks.sources.natural_instructions import PLACE, REPOSITORY, HeldOut
from tasks.sources.records import Record, Records

TASK = "task_name"


class HubInstructions(Table):
    """Rows with ``task_name``, ``definition``, ``inputs`` and ``targets``, the columns of Tk-Instruct's data.

    A task is a domain. held_out: ``tasks`` keeps the publisher's splits, whose test split is the benchmark's test
    tasks; ``examples`` draws the splits from the training tasks. tasks: training tasks that are used, chosen as from a
    clone, by a hash of their names; 0: all.
    """

    def __init__(
        self,
        records: Records,
        *,
        domain: str = "",
        held_out: HeldOut = "examples",
        tasks: int = 0,
        input_characters: int = 0,
        portions: Sequence[float],
        portion: float = 1.0,
    ) -> None:
        if domain not in ("", "task"):
            raise TaskError(
                f"domain={domain}: copies of Natural Instructions on the hub have no {domain}; "
                f"use domain=task, or clone {REPOSITORY} to {PLACE}"
            )
        super().__init__(
            _Chosen(records, held_out=held_out, tasks=tasks),
            instruction_field="definition",
            input_field="inputs",
            answer_field="targets",
            domain_field=TASK,
            input_characters=input_characters,
            portions=portions,
            portion=portion,
        )


class _Chosen(Records):
    """The rows of the chosen tasks."""

    def __init__(self, records: Records, *, held_out: HeldOut, tasks: int) -> None:
        self._records, self._held_out, self._limit = records, held_out, tasks
        self.name = records.name

    def identity(self) -> str:
        """Hash of the rows and of the choice."""
        return content_key("hub-instructions", 1, self._records.identity(), self._held_out, self._limit)

    def provenance(self) -> dict[str, Any]:
        """Where the rows came from, and the choice."""
        return {**self._records.provenance(), "held_out": self._held_out, "tasks": self._limit}

    def records(self, fields: Collection[str] | None = None) -> Iterator[Record]:
        """The rows of the chosen tasks. Raises :class:`TaskError` where splits are wanted that are not there."""
        chosen = self._choose()
        for record in self._records.records(fields):
            if self._held_out == "examples":
                if record.split in ("", "train") and record.row.get(TASK) in chosen:
                    yield replace(record, split="")
            elif not record.split:
                raise TaskError(f"held_out=tasks needs train, validation and test splits, which {self.name} lacks")
            elif record.split != "train" or record.row.get(TASK) in chosen:
                yield record

    def _choose(self) -> set[Any]:
        names = {record.row.get(TASK) for record in self._records.records((TASK,)) if record.split in ("", "train")}
        ordered = sorted(names, key=lambda name: stable_rank(str(name)))
        return set(ordered[: self._limit] if self._limit else ordered)
