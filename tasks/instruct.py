"""Instruction tuning: an instruction and perhaps an input, judged by the loss of the answer alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from tasks import instruct_formats
from tasks.base import Metric, Preset, Requirement
from tasks.instruct_settings import PRESETS, InstructConfig
from tasks.language.answers import AnswerTask
from tasks.sources.pairs import PairSource


class Instruct(AnswerTask):
    """Instructions and answers in labelled domains: Dolly, Natural Instructions, traces, or a file of your own.

    The prompt is ``{instruction}``, ``Input: {input}`` (left out where there is none) and ``Output:``, with blank
    lines between; the answer follows on a new line. R&B does not say what its prompts look like.

    ``loss`` is the sum over domains of target share x nats per answer token in the domain. Domains are here always the
    original ones, so that the score is the same mean over the evaluation data whatever the partition, as R&B's
    comparison of original and regrouped domains needs. The target shares are those of the test examples, unless the
    config says otherwise; where the data comes with a split and no test part, which is then drawn from the training
    examples, they are the train shares. Where an example has several accepted answers, the first is learnt and judged.
    """

    name: ClassVar[str] = "instruct"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="loss", unit="nats/answer token", higher_is_better=False, primary=True),
        Metric(name="accuracy", unit="share of answer tokens", higher_is_better=True),
        Metric(name="exact_match", unit="share of answers", higher_is_better=True),
    )
    Config: ClassVar[type] = InstructConfig
    presets: ClassVar[Mapping[str, Preset]] = {preset.name: preset for preset in PRESETS}

    config: InstructConfig

    def open_source(self) -> PairSource:
        """The reader that path and format name."""
        return instruct_formats.open_source(self.config, self.preset.settings)

    def data_requirements(self) -> Sequence[Requirement]:
        """The data that path and format name, which may not be there."""
        return [instruct_formats.data_requirement(self.config, self.preset.settings)]
