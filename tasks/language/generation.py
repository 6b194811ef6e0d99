"""Greedy decoding of answers, many prompts at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from tasks.base import IntArray

_TOKENS = 16_384  # tokens in one batch, prompts and room for answers together


def greedy(
    model: nn.Module,
    prompts: Sequence[IntArray],
    *,
    end: int,
    limit: int,
    context: int,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> list[IntArray]:
    """The most likely next token, again and again, until the end token; which is not part of what comes back.

    prompts: token arrays, none empty. An answer stops without an end after ``limit`` tokens, or where prompt and
    answer have ``context`` + 1 tokens, as in training. Leaves the model's mode as found.
    """
    answers: list[IntArray] = [np.empty(0, dtype=np.int64)] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda index: (len(prompts[index]), index))
    longest = max((len(prompt) for prompt in prompts), default=1)
    step = max(1, _TOKENS // (longest + limit))
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            for start in range(0, len(order), step):
                chosen = order[start : start + step]
                tokens = _continue([prompts[index] for index in chosen], model, end, limit, context, device)
                for index, line in zip(chosen, tokens, strict=True):
                    stop = np.flatnonzero(line == end)
                    room = min(limit, context + 1 - len(prompts[index]))
                    answers[index] = line[: min(room, int(stop[0]) if len(stop) else room)]
    finally:
        model.train(training)
    return answers


def _continue(
    prompts: Sequence[IntArray], model: nn.Module, end: int, limit: int, context: int, device: torch.device
) -> IntArray:
    """[n, at most limit] next tokens; rows that have ended go on with end tokens."""
    width = max(len(prompt) for prompt in prompts)
    padded = np.full((len(prompts), width), end, dtype=np.int64)
    real = np.zeros((len(prompts), width), dtype=np.int64)
    for row, prompt in enumerate(prompts):  # padded left, so that all answers start in one column
        padded[row, width - len(prompt) :] = prompt
        real[row, width - len(prompt) :] = 1
    tokens, mask = torch.from_numpy(padded).to(device), torch.from_numpy(real).to(device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    past = None
    ended = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    columns: list[Tensor] = []
    for _ in range(min(limit, context + 1 - min(len(prompt) for prompt in prompts))):
        out = model(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=past,
            use_cache=True,
            logits_to_keep=1,
        )
        past = out.past_key_values
        best = out.logits[:, -1].argmax(dim=-1)
        best = torch.where(ended, end, best)
        columns.append(best)
        ended |= best == end
        if bool(ended.all()):
            break
        tokens = best[:, None]
        mask = torch.cat([mask, torch.ones_like(tokens)], dim=1)
        # A row that is past its context waits for the others; its tokens are thrown away.
        positions = (positions[:, -1:] + 1).clamp(max=context - 1)
    if not columns:
        return np.empty((len(prompts), 0), dtype=np.int64)
    return torch.stack(columns, dim=1).cpu().numpy()
