"""databricks-dolly-15k: 15,011 instructions written by people, in eight categories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tasks.sources.instructions import Table
from tasks.sources.records import Records

FILE = "databricks-dolly-15k.jsonl"
PLACE = f"data/dolly/{FILE}"
HUB = "hub:databricks/databricks-dolly-15k"
FIELDS = {"instruction", "context", "response", "category"}


class Dolly(Table):
    """The published file, or the data set of the same layout: instruction, context, response, category."""

    def __init__(
        self,
        records: Records,
        *,
        domain: str = "category",
        input_characters: int = 0,
        portions: Sequence[float],
        portion: float = 1.0,
    ) -> None:
        super().__init__(
            records,
            instruction_field="instruction",
            input_field="context",
            answer_field="response",
            domain_field=domain,
            input_characters=input_characters,
            portions=portions,
            portion=portion,
        )

    def provenance(self) -> dict[str, Any]:
        """Where the rows came from, with the data set's name and licence."""
        return {**super().provenance(), "data": "databricks-dolly-15k", "licence": "CC BY-SA 3.0"}
