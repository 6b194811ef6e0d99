"""Instruction tuning: an instruction and perhaps an input, judged by the loss of the answer alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from tasks import instruct_settings
from tasks.answers import AnswerTask
from tasks.base import Metric, Preset, Requirement
from tasks.instruct_settings import PRESETS, InstructConfig
from tasks.sources.pairs import PairSource


class Instruct(AnswerTask):
    """Instructions and answers in labelled domains: Dolly, Natural Instructions, or a file of your own.

    The prompt is ``{instruction}``, ``Input: {input}`` (left out where there is none) and ``Output:``, with blank
    lines between; the answer follows on a new line. R&B does not say what its prompts look like.

    ``loss`` is the mean over a domain's answer tokens, averaged over domains by the target shares, which are the
    domains' shares of the evaluation examples unless the config says otherwise. The score is thus a mean over all
    evaluation data whatever the partition, as R&B's comparison of original and regrouped domains needs, and not a mean
    over domains. Where an example has several accepted answers, the first is learnt and judged.
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
        return instruct_settings.open_source(self.config)

    def data_requirements(self) -> Sequence[Requirement]:
        """The data that path and format name, which may not be there."""
        return [instruct_settings.data_requirement(self.config)]
