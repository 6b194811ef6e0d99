"""Gradients that a lab sells: every domain against the targets, over all parameters, few of them in memory at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mixers.base import Against, Array, GradientEstimate, IntArray

TARGETS_AT_ONCE = 4
"""Target gradients held at a time. Domain gradients are formed again for each such block, so that memory does not grow
with the number of domains or of targets."""

Gradients = list[Tensor | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimated:
    """The estimate, and the examples that went forward and backward for it."""

    estimate: GradientEstimate
    examples: int


def estimate(
    loss: Callable[[str, IntArray], Tensor],
    parameters: Sequence[nn.Parameter],
    domains: Sequence[IntArray],
    targets: Sequence[IntArray],
    *,
    parts: int,
    scales: Sequence[Tensor | None] | None,
    against: Against = "each",
    shares: Array | None = None,
) -> Estimated:
    """Inner products of the mean gradients of domains and targets.

    loss: (split, example indices) -> mean loss, differentiable. domains, targets: indices of the examples of each, in
    ``train`` and in ``validation``; empty ones are absent. scales: per parameter what multiplies its products. shares:
    [n] of the targets, for ``against="mean"``; a target whose share is 0 is not worked out there.
    """
    m, n, done = len(domains), 1 if against == "mean" else len(targets), 0
    products, norms, target_norms = np.zeros((m, n)), np.zeros(m), np.zeros(n)
    variances = np.full(m, np.nan)
    there = np.array([len(each) > 0 for each in targets])

    def gradient(split: str, indices: IntArray) -> Gradients:
        nonlocal done
        done += len(indices)
        return list(torch.autograd.grad(loss(split, indices), list(parameters), allow_unused=True))

    for start in range(0, max(n, 1), TARGETS_AT_ONCE):
        if against == "mean":
            assert shares is not None
            block = [0]
            held = {0: _combined(gradient, len(parameters), targets, np.where(there, shares, 0.0))}
        else:
            block = [j for j in range(start, min(start + TARGETS_AT_ONCE, n)) if there[j]]
            held = {j: gradient("validation", targets[j]) for j in block}
        for j in block:
            target_norms[j] = np.sqrt(_product(held[j], held[j], scales))
        for i in range(m):
            if not len(domains[i]):
                continue
            pieces = np.array_split(domains[i], min(parts, len(domains[i])))
            mean, squares = _mean(gradient, pieces, scales)
            norms[i] = np.sqrt(_product(mean, mean, scales))
            if len(pieces) > 1:
                variances[i] = max(0.0, squares - norms[i] ** 2) / (len(pieces) - 1)
            for j in block:
                products[i, j] = _product(mean, held[j], scales)
    made = GradientEstimate(
        products=products,
        norms=norms,
        target_norms=target_norms,
        variances=variances,
        present=np.array([len(each) > 0 for each in domains]),
        target_present=there,
        against=against,
    )
    for array in (products, norms, target_norms, variances, made.present, made.target_present):
        array.setflags(write=False)
    return Estimated(estimate=made, examples=done)


def _combined(
    gradient: Callable[[str, IntArray], Gradients], parameters: int, targets: Sequence[IntArray], shares: Array
) -> Gradients:
    """The gradient of the targets' mean loss, weighted by [n] shares that need not sum to 1; nothing where all are 0.

    Summed in place, so that beside it only the gradient of the target in turn is in memory.
    """
    total: Gradients = [None] * parameters
    for target, share in zip(targets, (shares / (shares.sum() or 1.0)).tolist(), strict=True):
        if share > 0.0:
            for place, part in enumerate(gradient("validation", target)):
                held = total[place]
                if held is not None and part is not None:
                    held.add_(part, alpha=share)
                elif part is not None:
                    total[place] = part * share
    return total


def _mean(
    gradient: Callable[[str, IntArray], Gradients], pieces: Sequence[IntArray], scales: Sequence[Tensor | None] | None
) -> tuple[Gradients, float]:
    """(mean gradient over all examples of the pieces, mean squared norm of the pieces' own gradients)."""
    total: Gradients = []
    squares, whole = 0.0, sum(len(piece) for piece in pieces)
    for piece in pieces:
        part = gradient("train", piece)
        squares += _product(part, part, scales) / len(pieces)
        share = len(piece) / whole
        scaled = [None if each is None else each * share for each in part]
        total = scaled if not total else [_sum(a, b) for a, b in zip(total, scaled, strict=True)]
    return total, squares


def _sum(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return b if a is None else a if b is None else a + b


def _product(a: Gradients, b: Gradients, scales: Sequence[Tensor | None] | None) -> float:
    total = 0.0
    for place, (x, y) in enumerate(zip(a, b, strict=True)):
        if x is not None and y is not None:
            scale = None if scales is None else scales[place]
            left = x if scale is None else x * scale
            total += float((left.double() * y.double()).sum())
    return total


def adam_scales(optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter]) -> list[Tensor | None]:
    """Per parameter 1 / (root of the bias-corrected second moments + eps); ``None`` before the first step."""
    settings = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    found: list[Tensor | None] = []
    for parameter in parameters:
        state, group = optimizer.state.get(parameter, {}), settings.get(id(parameter))
        moments = state.get("exp_avg_sq")
        if moments is None or group is None:
            found.append(None)
            continue
        corrected = moments / (1.0 - group["betas"][1] ** float(state["step"]))
        found.append(1.0 / (corrected.sqrt() + group["eps"]))
    return found
