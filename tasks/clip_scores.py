"""Retrieval and zero-shot classification, as sums per example."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from tasks.base import FloatArray, IntArray

_CHUNK = 1024  # rows of the similarity matrix at once
Sums = dict[str, tuple[FloatArray, FloatArray]]


@torch.no_grad()
def ranks_and_losses(queries: Tensor, answers: Tensor, scale: Tensor) -> tuple[FloatArray, FloatArray]:
    """([n] rank of every query's own answer among all n, [n] cross-entropy of finding it, in nats).

    queries, answers: [n, d] of length one. Answers that are as similar as the own one count half: a model that tells
    nothing apart ranks in the middle, and neither of two equal captions is preferred.
    """
    ranks, losses = [], []
    for start in range(0, len(queries), _CHUNK):
        part = queries[start : start + _CHUNK].float()
        similar = part @ answers.float().t()
        own = similar.gather(1, torch.arange(start, start + len(part), device=similar.device)[:, None])
        better, equal = (similar > own).sum(1).double(), (similar == own).sum(1).double() - 1
        ranks.append(1 + better + equal / 2)
        losses.append((torch.logsumexp(scale * similar, dim=1) - scale * own[:, 0]).double())
    return torch.cat(ranks).cpu().numpy(), torch.cat(losses).cpu().numpy()


def retrieval(images: Tensor, texts: Tensor, scale: Tensor) -> Sums:
    """The retrieval metrics' sums among all n pairs of a split; images, texts: [n, d] of length one."""
    n = len(images)
    by_image, image_losses = ranks_and_losses(images, texts, scale)
    by_text, text_losses = ranks_and_losses(texts, images, scale)
    ones = np.ones(n)
    sums: Sums = {
        "mean_reciprocal_rank": ((1 / by_image + 1 / by_text) / 2, ones),
        "loss": ((image_losses + text_losses) / 2, ones),
    }
    for k in (1, 5):
        sums[f"i2t_recall_at_{k}"] = ((by_image <= k).astype(np.float64), ones)
        sums[f"t2i_recall_at_{k}"] = ((by_text <= k).astype(np.float64), ones)
    return sums


def chance(n: int) -> Sums:
    """What a random order of n candidates reaches on average, and the loss of equal probabilities."""
    ones = np.ones(n)
    values: Mapping[str, float] = {
        "mean_reciprocal_rank": float((1 / np.arange(1, n + 1)).mean()),
        "loss": float(np.log(n)),
        **{f"{way}_recall_at_{k}": min(k, n) / n for way in ("i2t", "t2i") for k in (1, 5)},
    }
    return {name: (value * ones, ones) for name, value in values.items()}


def classified(images: Tensor, prompts: Tensor, classes: IntArray) -> tuple[FloatArray, FloatArray]:
    """Zero-shot accuracy's sums; an image without a class (-1) is left out.

    images: [n, d]; prompts: [classes, templates, d], both of length one; a class stands at the mean of its prompts,
    scaled to length one (Radford et al. 2021, section 3.1.4). classes: [n].
    """
    centres = torch.nn.functional.normalize(prompts.float().mean(1), dim=-1)
    found = (images.float() @ centres.t()).argmax(1).cpu().numpy()
    counted = classes >= 0
    return ((found == classes) & counted).astype(np.float64), counted.astype(np.float64)


def constant(answer: int, classes: IntArray) -> tuple[FloatArray, FloatArray]:
    """The same for one answer to every image."""
    counted = classes >= 0
    return (classes == answer).astype(np.float64), counted.astype(np.float64)
