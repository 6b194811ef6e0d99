"""Reasoning: problems of many skills with short answers, judged by exact match; or GSM8K, or reasoning traces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from tasks.base import Corpus, FloatArray, IntArray, Metric, Preset
from tasks.language.answers import ANSWER_METRICS, AnswerTask
from tasks.language.generation import greedy
from tasks.language.rows import Rows
from tasks.reasoning_settings import OWN_DATA, PRESETS, ReasoningConfig, open_source, published
from tasks.sources.verified import VerifiedSource


class Reasoning(AnswerTask):
    """One decoder, problems of many skills, each a domain; the answers are judged by exact match.

    ``verified`` is what the source's own verifier says of answers that the model wrote, greedily and to the end, on a
    fixed sample of the test split. It is not made for the validation split, on which mixers buy losses. For worked
    solutions (GSM8K, traces), which hardly ever match word for word, it is the metric to read.
    """

    name: ClassVar[str] = "reasoning"
    metrics: ClassVar[tuple[Metric, ...]] = (
        *ANSWER_METRICS,
        Metric(name="verified", unit="score of sampled answers", higher_is_better=True),
    )
    Config: ClassVar[type] = ReasoningConfig
    presets: ClassVar[Mapping[str, Preset]] = {preset.name: preset for preset in PRESETS}

    config: ReasoningConfig

    @classmethod
    def configure(cls, preset: Preset, overrides: Mapping[str, Any]) -> Any:
        """As for every task; the vocabulary and the context of the generated problems are not for data of one's own."""
        own = OWN_DATA if overrides.get("path") else {}
        return super().configure(preset, {**own, **overrides})

    def open_source(self) -> VerifiedSource:
        """The reader that the config names."""
        return open_source(self.config)

    def published(self) -> str | None:
        """The fingerprint of the published problems, where the config is a preset's."""
        return published(self.config, self.preset)

    def judge(
        self, model: nn.Module, corpus: Corpus, split: str, *, device: torch.device, dtype: torch.dtype
    ) -> Mapping[str, tuple[FloatArray, FloatArray]]:
        """``verified`` of the first examples of each domain, which are in random order."""
        labels = corpus.labels[split]
        scores, judged = np.zeros(len(labels)), np.zeros(len(labels))
        if split != "test":
            return {"verified": (scores, judged)}
        rows: Rows = corpus.examples[split]
        sample = self.sample(labels, len(corpus.domains))
        vocabulary = self.vocabulary()
        answers = greedy(
            model,
            [rows.tokens[index, : rows.starts[index]].astype(np.int64) for index in sample],
            end=vocabulary.end,
            limit=int((rows.ends - rows.starts).max()),
            context=self.config.context,
            device=device,
            dtype=dtype,
        )
        source = self.open_source()
        for index, answer in zip(sample, answers, strict=True):
            (text,) = vocabulary.decode(answer[None])
            scores[index] = source.verify(rows.pairs[index], text)
            judged[index] = 1.0
        return {"verified": (scores, judged)}

    def sample(self, labels: IntArray, m: int) -> IntArray:
        """Indices of the examples whose answers are generated."""
        firsts = [np.flatnonzero(labels == index)[: self.config.verified_examples] for index in range(m)]
        return np.concatenate(firsts)
