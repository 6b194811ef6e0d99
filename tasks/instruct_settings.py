"""What can be set in the instruct task: its config and its presets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from tasks.base import Preset, Recipe, TaskError
from tasks.language.answers_settings import AnswerConfig
from tasks.paper_presets import PAPER_DOLLY, PAPER_NATURAL_INSTRUCTIONS, PAPER_NATURAL_INSTRUCTIONS_OOD, PAPER_S1
from tasks.sources.natural_instructions import Definition, HeldOut, Weigh

FormatName = Literal["auto", "dolly", "natural-instructions", "traces", "jsonl"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InstructConfig(AnswerConfig):
    """Data and model of the instruct task; what is not named here is as in :class:`AnswerConfig`.

    path: ``databricks-dolly-15k.jsonl`` or its folder, a clone of allenai/natural-instructions, a sample of its first
    release, any ``.jsonl``/``.jsonl.gz`` file, files of traces, or ``hub:owner/name``. Empty: the place where the
    format's data is looked for, ``data/dolly/databricks-dolly-15k.jsonl`` or ``data/s1`` (else the hub for these two),
    ``data/natural-instructions`` or ``data/instructions.jsonl``.
    format: ``dolly``, ``natural-instructions``, ``traces`` (questions, trajectories of thought and answers, in the
    columns of s1K), ``jsonl`` (named fields, by default Alpaca's), or ``auto``: by layout. Settings that a format
    does not have are refused.
    domain: what a domain is. Natural Instructions: ``category`` (release 2), ``source`` (release 1's default) or
    ``task``; else a field's name, by default ``category`` in Dolly, ``domain`` in other files, and in traces the first
    that there is of several.
    held_out: ``examples`` of the training tasks of Natural Instructions, or ``tasks``, the benchmark's own test tasks.
    tasks: training tasks of Natural Instructions; 0: all. definition: its tasks' ``full`` definitions, ``short`` ones
    (release 1's own prompt, release 2's first sentence) or ``none``. input_characters: an input's last ones that are
    kept, in all formats but traces; 0: all.
    weigh: what the target shares of Natural Instructions count: evaluation ``examples`` or ``tasks``.
    portions: of train, validation and test, where the data does not say. portion: share of the examples to use.
    instruction_field, input_field, answer_field, origin_field: fields of a JSONL line; the input may be missing, and
    lines of one origin share a split (lines about one text, where there is no origin). The first and the third also
    name the columns of a trace's question and answer.
    """

    path: str = ""
    format: FormatName = "auto"
    domain: str = ""
    held_out: HeldOut = "examples"
    tasks: int = 0
    definition: Definition = "full"
    input_characters: int = 0
    weigh: Weigh = "examples"
    portions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    portion: float = 1.0
    instruction_field: str = "instruction"
    input_field: str = "input"
    answer_field: str = "output"
    origin_field: str = "origin"
    vocabulary: int = 2048
    context: int = 128

    def __post_init__(self) -> None:
        AnswerConfig.__post_init__(self)
        if not 0 < self.portion <= 1:
            raise TaskError(f"portion={self.portion} must be in (0, 1]")
        if min(self.portions) <= 0 or not math.isclose(sum(self.portions), 1, abs_tol=1e-6):
            raise TaskError(f"portions={list(self.portions)} must be three positive numbers that sum to 1")
        for name in ("tasks", "input_characters"):
            if getattr(self, name) < 0:
                raise TaskError(f"{name}={getattr(self, name)} must not be negative")
        if self.weigh == "tasks" and self.target:
            raise TaskError("weigh=tasks and target= both say what the target is; give one of them")


PRESETS: tuple[Preset, ...] = (
    Preset(
        name="nano",
        recipe=Recipe(steps=350, batch_size=16, learning_rate=4e-3),
        # A prompt that does not fit loses its beginning, which says what to do. So the inputs lose theirs before: on
        # the sample of Natural Instructions 6 % of the prompts are shortened still, most of them in three tasks whose
        # answers alone nearly fill the context. (120 characters: 10 %; without a limit: 55 %.)
        settings={
            "definition": "short",
            "input_characters": 80,
            "context": 96,
            "validation_examples": 50,
            "test_examples": 100,
        },
        summary="a built decoder of about 1.1 M parameters for data of your own; about a minute a trial on one core",
    ),
    PAPER_DOLLY,
    PAPER_NATURAL_INSTRUCTIONS,
    PAPER_NATURAL_INSTRUCTIONS_OOD,
    PAPER_S1,
)
