"""Several decoders that predict as one."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from tasks.base import Combination, FloatArray


class DecoderEnsemble(nn.Module):
    """Decoders of one vocabulary, averaged token by token; what it answers can be used like a decoder's own answer.

    ``logits`` is the weighted mean of the members' logits: the softmax of it is the weighted geometric mean of their
    probabilities, normalised. ``probabilities`` is the logarithm of the weighted mean of their probabilities, whose
    softmax is that mean.
    """

    def __init__(self, models: Sequence[nn.Module], weights: FloatArray, how: Combination) -> None:
        super().__init__()
        self.members = nn.ModuleList(models)
        self.how = how
        self.weights = [float(weight) for weight in weights]

    def forward(self, *, past_key_values: Any = None, **inputs: Any) -> SimpleNamespace:
        """``logits``: [B, T, vocabulary] float32; ``past_key_values``: the members' own, to be handed back."""
        past = past_key_values or [None] * len(self.members)
        answers = [
            model(**inputs) if before is None else model(past_key_values=before, **inputs)
            for model, before in zip(self.members, past, strict=True)
        ]
        each = torch.stack([answer.logits.float() for answer in answers])  # [k, B, T, vocabulary]
        weights = torch.tensor(self.weights, device=each.device).view(-1, 1, 1, 1)
        if self.how == "logits":
            combined = (weights * each).sum(0)
        else:
            combined = torch.logsumexp(weights.log() + each.log_softmax(-1), dim=0)
        kept = [getattr(answer, "past_key_values", None) for answer in answers]
        return SimpleNamespace(logits=combined, past_key_values=kept)
