"""Instruction tuning: an instruction and perhaps an input, judged by the loss of the answer alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from tasks import instruct_settings
from tasks.answers import AnswerTask
from tasks.answers_settings import model_requirement
from tasks.base import Corpus, Metric, Preset, Requirement, TaskError
from tasks.instruct_settings import PRESETS, InstructConfig
from tasks.sources import hub
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

    def load(self) -> Corpus:
        """As for every task on pairs; a model that is neither here nor within reach is said at once."""
        need = model_requirement(self.config.model) if self.config.model else None
        if need is not None and not need.found and not hub.reachable():
            raise TaskError(f"{need.what} is not here and the hub is out of reach; {need.remedy}")
        return super().load()

    def requirements(self) -> Sequence[Requirement]:
        """The data, and the pretrained model if one is named."""
        found = [instruct_settings.data_requirement(self.config)]
        if self.config.model:
            found.append(model_requirement(self.config.model))
        return found
