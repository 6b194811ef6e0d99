"""Language modelling on real text: next-token prediction, judged in bits per byte."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.base import (
    SPLITS,
    Batch,
    Corpus,
    IntArray,
    Losses,
    Metric,
    Preset,
    Requirement,
    Scores,
)
from tasks.language import windows
from tasks.language.synthetic import Synthetic, Writer, priced
from tasks.language.task import DecoderTask
from tasks.shares import target_shares
from tasks.text_settings import PRESETS, TextConfig, open_source, published, source_requirements

_EVALUATION_TOKENS = 8192  # tokens in one evaluation batch


class Text(DecoderTask):
    """One decoder, windows of real text in labelled domains."""

    name: ClassVar[str] = "text"
    unit: ClassVar[str] = "token"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="bits_per_byte", unit="bits/byte", higher_is_better=False, primary=True),
        Metric(name="accuracy", unit="share of tokens", higher_is_better=True),
        Metric(name="loss", unit="nats/token", higher_is_better=False),
    )
    Config: ClassVar[type] = TextConfig
    presets: ClassVar[Mapping[str, Preset]] = {preset.name: preset for preset in PRESETS}

    config: TextConfig

    def __init__(self, config: TextConfig, preset: Preset, cache: Path) -> None:
        super().__init__(config, preset, cache)
        self._windows: windows.Windows | None = None

    # Data

    def data_requirements(self) -> Sequence[Requirement]:
        """The packages of the embedded corpus, or the user's data."""
        return source_requirements(self.config)

    def load(self) -> Corpus:
        """The corpus; the first time it is read, deduplicated, split and tokenised, afterwards it comes from the cache.

        ``examples`` are token arrays [n, context + 1]; an example trains on ``context`` tokens.
        """
        config = self.config
        source = open_source(config)
        if config.synthetic:
            writer = Writer(steps=config.synthetic_steps, temperature=config.synthetic_temperature)
            source = Synthetic(source, config.synthetic, writer, self.cache)
        identity, make = self.tokenization()
        made = windows.prepare(
            source,
            tokenizer=identity,
            make_vocabulary=make,
            context=config.context,
            limits={"validation": config.validation_windows, "test": config.test_windows},
            cache=self.cache,
        )
        self._windows = made
        counts = np.bincount(made.labels["train"], minlength=len(made.domains))
        train_shares = counts / counts.sum()
        natural = np.array([domain not in source.untested for domain in made.domains])
        judged = train_shares if natural.all() else natural * counts / counts[natural].sum()
        target = target_shares(source.target, made.domains, judged)
        digest = hashlib.sha256(f"{made.fingerprint}{np.round(target, 9).tolist()}".encode())
        return Corpus(
            domains=made.domains,
            labels=made.labels,
            units={split: np.full(len(made.labels[split]), config.context, dtype=np.int64) for split in SPLITS},
            examples=made.tokens,
            train_shares=train_shares,
            target_shares=target,
            fingerprint=digest.hexdigest()[:32],
            expected_fingerprint=published(config, self.preset),
            provenance=self.provenance(priced(made.provenance, made.domains, counts)),
        )

    def _prepared(self) -> windows.Windows:
        if self._windows is None:
            self.load()
        assert self._windows is not None
        return self._windows

    def trained_tokenizer(self) -> Path:
        """Beside the windows in the cache."""
        return self._prepared().tokenizer

    def texts(self, corpus: Corpus, split: str) -> list[str]:
        """The windows' texts."""
        return self.vocabulary().decode(corpus.examples[split])

    def content(self) -> str:
        """The fingerprint of the windows."""
        return self._prepared().fingerprint

    # Model

    def batch(self, corpus: Corpus, split: str, indices: IntArray) -> Batch:
        """``tokens``: [B, context + 1] int64."""
        return {"tokens": torch.from_numpy(corpus.examples[split][indices].astype(np.int64))}

    def loss(self, model: nn.Module, batch: Batch) -> Losses:
        """Cross-entropy of every next token, in nats; all tokens count, the end token included."""
        per_unit = _losses(_logits(model, batch["tokens"]), batch["tokens"])
        return Losses(per_unit=per_unit, mask=torch.ones_like(per_unit), per_example=per_unit.mean(dim=1))

    # Judgement

    def evaluate(
        self, model: nn.Module, corpus: Corpus, split: str, *, device: torch.device, dtype: torch.dtype
    ) -> Scores:
        """Sums per window over its predicted tokens; special tokens count neither above nor below the line."""
        tokens = corpus.examples[split]
        lengths = torch.from_numpy(self._prepared().byte_lengths).to(device)
        step = max(1, _EVALUATION_TOKENS // self.config.context)
        columns: list[Tensor] = []
        training = model.training
        model.eval()
        try:
            with torch.no_grad(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                for start in range(0, len(tokens), step):
                    indices = np.arange(start, min(start + step, len(tokens)))
                    batch = self.batch(corpus, split, indices)["tokens"].to(device)
                    logits, targets = _logits(model, batch), batch[:, 1:]
                    per_unit, correct = _losses(logits, batch), logits.argmax(dim=-1) == targets
                    size = lengths[targets]
                    counted = (size > 0).double()
                    nats = (per_unit.double() * counted).sum(1)
                    right = (correct.double() * counted).sum(1)
                    columns.append(torch.stack([nats, right, counted.sum(1), size.double().sum(1)]).cpu())
        finally:
            model.train(training)
        nats_, right_, count, bytes_ = torch.cat(columns, dim=1).numpy()
        return Scores(
            domains=corpus.labels[split],
            sums={
                "bits_per_byte": (nats_ / math.log(2), bytes_),
                "accuracy": (right_, count),
                "loss": (nats_, count),
            },
        )


def _logits(model: nn.Module, tokens: Tensor) -> Tensor:
    """[B, T, vocabulary] float32 logits for the next tokens of windows [B, T + 1]."""
    logits: Tensor = model(input_ids=tokens[:, :-1]).logits.float()
    return logits


def _losses(logits: Tensor, tokens: Tensor) -> Tensor:
    """[B, T] float32 losses in nats."""
    targets = tokens[:, 1:]
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape)
