"""Several CLIP models that match images and captions as one, and the scores of one model or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.base import Combination, FloatArray, IntArray
from tasks.clip import scores
from tasks.clip.model import Clip

_CHUNK = 1024  # rows of the similarity matrix at once


class ClipEnsemble(nn.Module):
    """CLIP models whose weighted predictions are one.

    A member's logits are its cosine similarities times its own scale. ``logits`` adds them up by weight: the same as
    one model whose features are the members' side by side, each scaled by the root of weight times scale.
    ``probabilities`` takes the softmax over all answers, query by query, and averages that; an image's distribution
    over captions and a caption's over images are two such averages.
    """

    def __init__(self, models: Sequence[nn.Module], weights: FloatArray, how: Combination) -> None:
        super().__init__()
        self.members = nn.ModuleList(models)
        self.weights = [float(weight) for weight in weights]
        self.how = how


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """One model's features, all of length one: images, texts [n, d], prompts [classes, templates, d]; its scale."""

    images: Tensor
    texts: Tensor
    prompts: Tensor
    scale: Tensor


def models_of(model: nn.Module) -> list[Clip]:
    """The models behind a prediction."""
    found = list(model.members) if isinstance(model, ClipEnsemble) else [model]
    assert all(isinstance(each, Clip) for each in found)
    return found  # type: ignore[return-value]


def judged(model: nn.Module, encoded: Sequence[Encoded], classes: IntArray, weight: FloatArray) -> scores.Sums:
    """All metrics' sums of one model, or of an ensemble of several, from the features of each of :func:`models_of`.

    classes: [n], -1 for none; weight: [n] what an example counts for.
    """
    if not isinstance(model, ClipEnsemble):
        (only,) = encoded
        sums = scores.retrieval(only.images, only.texts, only.scale, weight)
        sums["zero_shot_accuracy"] = scores.classified(only.images, only.prompts, classes, weight)
        return sums
    sides = [(each.images, each.texts, each.scale) for each in encoded]
    back = [(texts, images, scale) for images, texts, scale in sides]
    sums = scores.retrieved(_found(model, sides), _found(model, back), weight)
    sums["zero_shot_accuracy"] = _classified(model, encoded, classes, weight)
    return sums


def combined(logits: Sequence[Tensor], weights: Sequence[float], how: Combination) -> Tensor:
    """[b, n] what a softmax over the n answers is to be taken of, from the members' logits, [b, n] each."""
    if how == "logits":
        return torch.stack([weight * each for weight, each in zip(weights, logits, strict=True)]).sum(0)
    shares = torch.tensor(weights, device=logits[0].device).log().view(-1, 1, 1)
    return torch.logsumexp(shares + torch.stack([each.log_softmax(1) for each in logits]), dim=0)


@torch.no_grad()
def _found(model: ClipEnsemble, sides: Sequence[tuple[Tensor, Tensor, Tensor]]) -> scores.Found:
    """Ranks and losses of the queries' own answers; sides: every member's queries, answers and scale."""
    ranks, losses = [], []
    for start in range(0, len(sides[0][0]), _CHUNK):
        logits = [
            scale * queries[start : start + _CHUNK].float() @ answers.float().t() for queries, answers, scale in sides
        ]
        similar = combined(logits, model.weights, model.how)
        own, rank = scores.own_and_rank(similar, start)
        ranks.append(rank)
        losses.append((torch.logsumexp(similar, dim=1) - own[:, 0]).double())
    return torch.cat(ranks).cpu().numpy(), torch.cat(losses).cpu().numpy()


@torch.no_grad()
def _classified(
    model: ClipEnsemble, encoded: Sequence[Encoded], classes: IntArray, weight: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Zero-shot accuracy's sums, as for one model: every member has the classes' centres in its own space."""
    counted = weight * (classes >= 0)
    if not len(encoded[0].prompts):
        return np.zeros(len(classes)), counted
    logits = [
        each.scale * each.images.float() @ F.normalize(each.prompts.float().mean(1), dim=-1).t() for each in encoded
    ]
    found = combined(logits, model.weights, model.how).argmax(1).cpu().numpy()
    return (found == classes) * counted, counted
