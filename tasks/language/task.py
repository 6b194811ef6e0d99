"""What every task with a decoder shares: its tokenizer, its model, the embedder of its texts."""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from tasks.base import (
    SPLITS,
    Combination,
    Corpus,
    Embeddings,
    FloatArray,
    Preset,
    Requirement,
    TaskError,
    TrainableTask,
)
from tasks.hugging_face import model_requirement, require_model, weights
from tasks.language import decoder, tokenizer
from tasks.language.ensemble import DecoderEnsemble
from tasks.language.tokenizer import Vocabulary


class DecoderTask(TrainableTask):
    """A task whose model is a decoder built from numbers, or a pretrained causal language model by name or path.

    The config has ``vocabulary`` (0: bytes), ``context``, ``width``, ``layers``, ``heads``, ``model`` and ``embedder``.
    """

    def __init__(self, config: Any, preset: Preset, cache: Path) -> None:
        super().__init__(config, preset, cache)
        self._vocabulary: Vocabulary | None = None

    @classmethod
    def configure(cls, preset: Preset, overrides: Mapping[str, Any]) -> Any:
        """As for every task; ``auto`` becomes the embedder that it stands for here, so that a trial's id names it."""
        from tasks import embedding

        config = super().configure(preset, overrides)
        embedder = embedding.resolve(config.embedder)
        embedding.check(embedder)
        if not config.model and (config.width % config.heads or (config.width // config.heads) % 2):
            parts = f"width={config.width} must be a multiple of heads={config.heads}, with an even quotient"
            raise TaskError(f"task {cls.name}: {parts}")
        return replace(config, embedder=embedder)

    @abstractmethod
    def data_requirements(self) -> Sequence[Requirement]:
        """What the data needs, and what of it is there."""

    @abstractmethod
    def trained_tokenizer(self) -> Path:
        """Where the tokenizer lies that was trained on the data, which is loaded if it is not yet."""

    @abstractmethod
    def texts(self, corpus: Corpus, split: str) -> list[str]:
        """What a regrouper embeds."""

    @abstractmethod
    def content(self) -> str:
        """Hash of the texts of all splits."""

    def requirements(self) -> Sequence[Requirement]:
        """What the data needs, what the embedder of regroupers needs, and the pretrained model if one is named."""
        from tasks import embedding

        found = [*self.data_requirements(), *embedding.requirements(self.config.embedder)]
        return [*found, model_requirement(self.config.model)] if self.config.model else found

    def tokenization(self) -> tuple[str, Callable[[Sequence[str]], Vocabulary]]:
        """(what decides the tokenizer besides the training texts, training texts -> vocabulary).

        Raises :class:`TaskError` for a pretrained model that is out of reach.
        """
        if self.config.model:
            require_model(self.config.model)
            vocabulary = tokenizer.pretrained(self.config.model)
            self._vocabulary = vocabulary
            return tokenizer.pretrained_identity(vocabulary), lambda texts: vocabulary
        size = self.config.vocabulary or tokenizer.BYTES
        return tokenizer.trained_identity(size), lambda texts: tokenizer.train(texts, size)

    def provenance(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Where the data came from, and which weights a pretrained model has."""
        return {**data, "pretrained": weights(self.config.model)} if self.config.model else dict(data)

    def vocabulary(self) -> Vocabulary:
        """The tokenizer: the trained one, or the pretrained model's. Raises :class:`TaskError` for a damaged file."""
        path = self.trained_tokenizer()
        if self._vocabulary is None:
            self._vocabulary = tokenizer.restore(path)
        if self._vocabulary is None:
            raise TaskError(f"the cached tokenizer {path} is damaged; delete it and run again")
        return self._vocabulary

    def build_model(self, seed: int) -> nn.Module:
        """A decoder for this preset, or the pretrained model, in training mode."""
        config = self.config
        if config.model:
            return decoder.pretrained(config.model)
        vocabulary = self.vocabulary()
        return decoder.build(
            vocabulary=vocabulary.size,
            context=config.context,
            width=config.width,
            layers=config.layers,
            heads=config.heads,
            end=vocabulary.end,
            seed=seed,
        )

    def combine(self, models: Sequence[nn.Module], weights: FloatArray, how: Combination) -> nn.Module:
        """Decoders averaged token by token, also while they write answers."""
        return DecoderEnsemble(models, weights, how)

    def scaled(self, size: float) -> TrainableTask:
        """A narrower or wider decoder: the width by the root of ``size``, rounded to what the heads allow."""
        if size == 1.0:
            return self
        config = self.config
        if config.model:
            raise TaskError(f"model={config.model} has one size; order proxy runs with size=1")
        unit = 2 * config.heads
        other = copy.copy(self)
        other.config = replace(config, width=max(unit, round(config.width * math.sqrt(size) / unit) * unit))
        return other

    def embed(self, corpus: Corpus, split: str, embedder: str) -> Embeddings:
        """Vectors of the examples' :meth:`texts`; see :mod:`tasks.embedding` for the embedders."""
        from tasks import embedding

        if split not in SPLITS:
            raise TaskError(f"no split {split!r}; the splits are {', '.join(SPLITS)}")
        return embedding.embed(
            self.config.embedder if embedder == "auto" else embedder,
            texts=lambda wanted: self.texts(corpus, wanted),
            content=self.content(),
            split=split,
            cache=self.cache,
        )
