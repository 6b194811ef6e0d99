"""A task of milliseconds: predict the next symbol of short sequences, four domains with different rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from tasks.base import (
    Batch,
    Combination,
    Corpus,
    Embeddings,
    FloatArray,
    IntArray,
    Losses,
    Metric,
    Preset,
    Recipe,
    Scores,
    TrainableTask,
)

SYMBOLS = 16
LENGTH = 6
DOMAINS = ("add-one", "add-two", "double", "noise")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToyConfig:
    """size: training examples of the largest domain."""

    size: int = 40


class ToyModel(nn.Module):
    """An embedding, a hidden layer and a head: 328 parameters."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.embedding = nn.Embedding(SYMBOLS, 8)
        self.hidden = nn.Linear(8, 8)
        self.head = nn.Linear(8, SYMBOLS, bias=False)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """[batch, length] symbols -> [batch, length, SYMBOLS] logits."""
        return self.head(torch.tanh(self.hidden(self.embedding(tokens))))


class ToyEnsemble(nn.Module):
    """Models averaged symbol by symbol."""

    def __init__(self, models: Sequence[nn.Module], weights: FloatArray, how: Combination) -> None:
        super().__init__()
        self.members, self.how = nn.ModuleList(models), how
        self.weights = [float(weight) for weight in weights]

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """[batch, length] symbols -> [batch, length, SYMBOLS] logits."""
        each = [model(tokens) for model in self.members]
        if self.how == "logits":
            return torch.stack([w * logits for w, logits in zip(self.weights, each, strict=True)]).sum(0)
        return torch.stack([w * logits.softmax(-1) for w, logits in zip(self.weights, each, strict=True)]).sum(0).log()


def _sequences(domain: int, n: int, rng: np.random.Generator) -> np.ndarray:
    tokens = np.zeros((n, LENGTH + 1), dtype=np.int64)
    tokens[:, 0] = rng.integers(SYMBOLS, size=n)
    for position in range(LENGTH):
        now = tokens[:, position]
        rule = (now + 1, now + 2, 2 * now, rng.integers(SYMBOLS, size=n))[domain]
        tokens[:, position + 1] = rule % SYMBOLS
    return tokens


class Toy(TrainableTask):
    """Sequences of symbols that follow their domain's rule."""

    name: ClassVar[str] = "toy"
    unit: ClassVar[str] = "token"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="loss", unit="nats/token", higher_is_better=False, primary=True),
        Metric(name="accuracy", unit="share of tokens", higher_is_better=True),
    )
    Config: ClassVar[type] = ToyConfig
    presets: ClassVar[Mapping[str, Preset]] = {
        "demo": Preset(name="demo", recipe=Recipe(steps=30, batch_size=4, learning_rate=1e-2)),
    }

    def load(self) -> Corpus:
        """The same few dozen sequences every time."""
        rng = np.random.default_rng(0)
        sizes = {"train": [self.config.size, self.config.size // 2, 8, 4], "validation": [6] * 4, "test": [10] * 4}
        labels = {split: np.repeat(np.arange(4), counts).astype(np.int64) for split, counts in sizes.items()}
        examples = {
            split: np.concatenate([_sequences(domain, n, rng) for domain, n in enumerate(counts)])
            for split, counts in sizes.items()
        }
        train = np.bincount(labels["train"]) / len(labels["train"])
        return Corpus(
            domains=DOMAINS,
            labels=labels,
            units={split: np.full(len(values), LENGTH, dtype=np.int64) for split, values in labels.items()},
            examples=examples,
            train_shares=train,
            target_shares=np.array([0.1, 0.2, 0.3, 0.4]),
            fingerprint=f"toy-{self.config.size}",
        )

    def build_model(self, seed: int) -> nn.Module:
        """The model with the seed's initial weights."""
        return ToyModel(torch.Generator().manual_seed(seed))

    def batch(self, corpus: Corpus, split: str, indices: IntArray) -> Batch:
        """``tokens``: [batch, LENGTH + 1]."""
        return {"tokens": torch.from_numpy(corpus.examples[split][indices])}

    def loss(self, model: nn.Module, batch: Batch) -> Losses:
        """Cross-entropy of the next symbol."""
        tokens = batch["tokens"]
        logits = model(tokens[:, :-1]).float()
        per_unit = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
        per_unit = per_unit.view(tokens.shape[0], LENGTH)
        return Losses(per_unit=per_unit, mask=torch.ones_like(per_unit), per_example=per_unit.mean(1))

    def evaluate(
        self, model: nn.Module, corpus: Corpus, split: str, *, device: torch.device, dtype: torch.dtype
    ) -> Scores:
        """Loss and accuracy of the next symbol, per example."""
        with torch.no_grad():
            tokens = torch.from_numpy(corpus.examples[split]).to(device)
            logits = model(tokens[:, :-1]).double()
            losses = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
            right = (logits.argmax(-1) == tokens[:, 1:]).double().sum(1).cpu().numpy()
        count = np.full(len(tokens), float(LENGTH))
        return Scores(
            domains=corpus.labels[split],
            sums={"loss": (losses.view(len(tokens), -1).sum(1).cpu().numpy(), count), "accuracy": (right, count)},
        )

    def combine(self, models: Sequence[nn.Module], weights: FloatArray, how: Combination) -> nn.Module:
        """The average, symbol by symbol."""
        return ToyEnsemble(models, weights, how)

    def embed(self, corpus: Corpus, split: str, embedder: str) -> Embeddings:
        """The differences between neighbours: they separate the rules."""
        tokens = corpus.examples[split]
        steps = np.diff(tokens, axis=1) % SYMBOLS
        vectors = np.stack([(steps == value).mean(1) for value in range(SYMBOLS)], axis=1).astype(np.float32)
        return Embeddings(vectors=vectors, embedder="toy", flops=float(vectors.size), seconds=0.0, cached=False)
