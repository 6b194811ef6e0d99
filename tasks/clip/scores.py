"""Retrieval and zero-shot classification, as sums per example.

Everywhere ``weight`` is [n], what an example counts for: it multiplies numerators and denominators.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from tasks.base import FloatArray, IntArray

_CHUNK = 1024  # rows of the similarity matrix at once
Sums = dict[str, tuple[FloatArray, FloatArray]]
Found = tuple[FloatArray, FloatArray]  # [n] ranks, [n] losses


@torch.no_grad()
def ranks_and_losses(queries: Tensor, answers: Tensor, scale: Tensor) -> Found:
    """([n] rank of every query's own answer among all n, [n] cross-entropy of finding it, in nats).

    queries, answers: [n, d] of length one. Answers that are as similar as the own one count half: a model that tells
    nothing apart ranks in the middle, and neither of two equal captions is preferred.
    """
    ranks, losses = [], []
    for start in range(0, len(queries), _CHUNK):
        part = queries[start : start + _CHUNK].float()
        similar = part @ answers.float().t()
        own, rank = own_and_rank(similar, start)
        ranks.append(rank)
        losses.append((torch.logsumexp(scale * similar, dim=1) - scale * own[:, 0]).double())
    return torch.cat(ranks).cpu().numpy(), torch.cat(losses).cpu().numpy()


def own_and_rank(similar: Tensor, start: int) -> tuple[Tensor, Tensor]:
    """([b, 1] the own answers' entries, [b] float64 their ranks); similar: [b, n] of the queries from ``start`` on."""
    own = similar.gather(1, torch.arange(start, start + len(similar), device=similar.device)[:, None])
    better, equal = (similar > own).sum(1).double(), (similar == own).sum(1).double() - 1
    return own, 1 + better + equal / 2


def retrieval(images: Tensor, texts: Tensor, scale: Tensor, weight: FloatArray) -> Sums:
    """The retrieval metrics' sums; images, texts: [n, d] of length one. All n are candidates, whatever they weigh."""
    return retrieved(ranks_and_losses(images, texts, scale), ranks_and_losses(texts, images, scale), weight)


def retrieved(captions: Found, pictures: Found, weight: FloatArray) -> Sums:
    """The same from how each image found its caption and each caption its image."""
    (by_image, image_losses), (by_text, text_losses) = captions, pictures
    values = {
        "mean_reciprocal_rank": (1 / by_image + 1 / by_text) / 2,
        "loss": (image_losses + text_losses) / 2,
    }
    for k in (1, 5):
        values[f"i2t_recall_at_{k}"] = (by_image <= k).astype(np.float64)
        values[f"t2i_recall_at_{k}"] = (by_text <= k).astype(np.float64)
    return {name: (value * weight, weight) for name, value in values.items()}


def chance(weight: FloatArray) -> Sums:
    """What a random order of n candidates reaches on average, and the loss of equal probabilities."""
    n = len(weight)
    values: Mapping[str, float] = {
        "mean_reciprocal_rank": float((1 / np.arange(1, n + 1)).mean()),
        "loss": float(np.log(n)),
        **{f"{way}_recall_at_{k}": min(k, n) / n for way in ("i2t", "t2i") for k in (1, 5)},
    }
    return {name: (value * weight, weight) for name, value in values.items()}


def classified(images: Tensor, prompts: Tensor, classes: IntArray, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Zero-shot accuracy's sums; an image without a class (-1) is left out.

    images: [n, d]; prompts: [classes, templates, d], both of length one; a class stands at the mean of its prompts,
    scaled to length one (Radford et al. 2021, section 3.1.4). classes: [n].
    """
    counted = weight * (classes >= 0)
    if not len(prompts):  # no classes: nothing is counted
        return np.zeros(len(classes)), counted
    centres = torch.nn.functional.normalize(prompts.float().mean(1), dim=-1)
    found = (images.float() @ centres.t()).argmax(1).cpu().numpy()
    return (found == classes) * counted, counted


def constant(answer: int, classes: IntArray, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The same for one answer to every image."""
    counted = weight * (classes >= 0)
    return (classes == answer) * counted, counted


def best_constant(classes: IntArray, domains: IntArray, weight: FloatArray, target: FloatArray) -> int:
    """The class whose constant answer scores best on these (training) images under the target shares; 0 without any.

    A domain's score is the weighted share of its classified images, and the domains are averaged by ``target`` [m], as
    in judgement. So a class that many images have loses to one of a domain that the target asks for.
    """
    counted = weight * (classes >= 0)
    of_domain = np.bincount(domains, weights=counted, minlength=len(target))[domains]
    share = np.divide(target[domains] * counted, of_domain, out=np.zeros(len(classes)), where=of_domain > 0)
    return int(np.bincount(np.maximum(classes, 0), weights=share, minlength=1).argmax())
