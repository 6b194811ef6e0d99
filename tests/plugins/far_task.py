"""Variants of the toy task: targets that are not trained on, and needs that may be missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from harness.conformance.toy_task import Toy, ToyConfig
from tasks.base import Corpus, Requirement, Scores


@dataclass(frozen=True, slots=True, kw_only=True)
class FarConfig(ToyConfig):
    """shared: judge on add-two too, which is trained on. need: what is missing: nothing, data, or model (of source)."""

    shared: bool = False
    need: str = "nothing"
    source: str = "https://127.0.0.1:9"


class Far(Toy):
    """Train on adding, be judged on doubling and on noise."""

    name: ClassVar[str] = "far"
    Config: ClassVar[type] = FarConfig

    def requirements(self) -> Sequence[Requirement]:
        return (
            Requirement(what="symbols", found="built in", remedy=""),
            Requirement(what="data", found="" if self.config.need == "data" else "here", remedy="put it at data/far"),
            Requirement(
                what="model",
                found="" if self.config.need == "model" else "here",
                remedy="set model=",
                source=self.config.source,
            ),
        )

    def load(self) -> Corpus:
        toy = super().load()
        judged = [1, 2, 3] if self.config.shared else [2, 3]
        kept = {"train": [0, 1], "validation": judged, "test": judged}
        masks = {split: np.isin(toy.labels[split], domains) for split, domains in kept.items()}

        def pick(values: Any) -> dict[str, Any]:
            return {split: values[split][mask] for split, mask in masks.items()}

        labels = pick(toy.labels)
        target = np.where(np.isin(np.arange(4), judged), 1.0, 0.0)
        return replace(
            toy,
            labels=labels,
            units=pick(toy.units),
            examples=pick(toy.examples),
            train_shares=np.bincount(labels["train"], minlength=4) / len(labels["train"]),
            target_shares=target / target.sum(),
            fingerprint=f"far-{self.config.shared}",
        )

    def evaluate(
        self, model: nn.Module, corpus: Corpus, split: str, *, device: torch.device, dtype: torch.dtype
    ) -> Scores:
        """With a baseline for accuracy: a symbol is right once in sixteen, twice where it doubles."""
        scores = super().evaluate(model, corpus, split, device=device, dtype=dtype)
        count = scores.sums["accuracy"][1]
        return replace(scores, baselines={"accuracy": (count * np.where(scores.domains == 2, 1 / 8, 1 / 16), count)})
