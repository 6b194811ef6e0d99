"""How much a step on each of some training examples would lower each target's loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from mixers.base import Array, Influence, IntArray

HELD = 1 << 30
"""Bytes of example gradients that are kept between DataInf's three readings; more are formed anew for each."""

Gradients = Callable[[str, IntArray], list[Tensor]]


def readings(how: Influence, k: int, width: int) -> int:
    """How often the gradients of the k training examples, of ``width`` numbers, are formed."""
    return 1 if how.method == "grad_dot" or 4 * k * width <= HELD else 3


def product_flops(how: Influence, k: int, n: int, width: int) -> float:
    """FLOPs of the products of k examples with n targets, besides forming the gradients."""
    return 2.0 * k * n * width if how.method == "grad_dot" else (6.0 * n + 2.0) * k * width


def influences(
    gradients: Gradients, train: Sequence[IntArray], targets: Sequence[Sequence[IntArray]], how: Influence
) -> Array:
    """[k, n] influences of the training examples on the targets; positive lowers the target's loss.

    gradients: (split, example indices) -> per layer [b, d_l] gradients of these examples. train: the k examples of the
    training split, in batches. targets: for each of the n targets its examples of the validation split, in batches.

    With v_l the mean gradient of a target's examples in layer l and g_lk that of a training example, ``grad_dot`` is
    sum_l v_l . g_lk. ``datainf`` (arXiv 2310.00902) puts the inverse of the damped curvature of the k examples between
    them, approximated layer by layer by the mean of the inverses of single examples:

        sum_l 1 / lambda_l [ v_l . g_lk - mean_i (v_l . g_li)(g_li . g_lk) / (lambda_l + |g_li|^2) ],
        lambda_l = damping x mean_i |g_li|^2 / d_l.

    A layer without any gradient adds nothing.
    """
    goals = _goals(gradients, targets)
    k, width = sum(len(batch) for batch in train), sum(goal.shape[1] for goal in goals)
    held = [gradients("train", batch) for batch in train] if how.method == "datainf" and _fits(how, k, width) else None

    def read() -> Iterator[tuple[slice, list[Tensor]]]:
        """Place of a batch among the k examples, and its gradients."""
        begin = 0
        for number, batch in enumerate(train):
            yield slice(begin, begin + len(batch)), gradients("train", batch) if held is None else held[number]
            begin += len(batch)

    plain = np.zeros((len(goals), k, len(targets)))  # v . g by layer
    squares = np.zeros((len(goals), k))
    for place, found in read():
        for layer, (g, goal) in enumerate(zip(found, goals, strict=True)):
            plain[layer, place] = (g.double() @ goal.T).cpu().numpy()
            squares[layer, place] = g.double().square().sum(dim=1).cpu().numpy()
    if how.method == "grad_dot":
        return np.asarray(plain.sum(axis=0))
    widths = np.array([goal.shape[1] for goal in goals])
    damping = how.damping * squares.mean(axis=1) / widths
    there = damping > 0.0
    damping = np.where(there, damping, 1.0)
    shares = plain / (damping[:, None] + squares)[:, :, None] / max(k, 1)
    taken = [torch.zeros_like(goal) for goal in goals]  # sum_i shares_i g_i
    for place, found in read():
        for layer, g in enumerate(found):
            taken[layer] += torch.from_numpy(shares[layer, place].T.copy()).to(g.device) @ g.double()
    score = np.zeros_like(plain)
    for place, found in read():
        for layer, g in enumerate(found):
            score[layer, place] = plain[layer, place] - (g.double() @ taken[layer].T).cpu().numpy()
    return np.asarray((score * (there / damping)[:, None, None]).sum(axis=0))


def _fits(how: Influence, k: int, width: int) -> bool:
    return readings(how, k, width) == 1


def _goals(gradients: Gradients, targets: Sequence[Sequence[IntArray]]) -> list[Tensor]:
    """Per layer [n, d_l] float64, the mean gradient of each target's examples."""
    means: list[list[Tensor]] = []
    for batches in targets:
        size = sum(len(batch) for batch in batches)
        total: list[Tensor] = []
        for batch in batches:
            part = [g.double().sum(dim=0) / size for g in gradients("validation", batch)]
            total = [a + b for a, b in zip(total, part, strict=True)] if total else part
        means.append(total)
    return [torch.stack(layer) for layer in zip(*means, strict=True)]
