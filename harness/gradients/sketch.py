"""Sketched domain gradients: an unbiased projection of both sides, read by hooks that change nothing.

A domain's summed gradient is A = sum over its tokens of dy x^T, [V, d]. With random S, [V, r], and Q, [d, q], such that
E[S S^T] = I and E[Q Q^T] = I, the sums S^T A Q need only z = S^T dy and y = Q^T x per token, and
E<S^T A_i Q, S^T A_j Q> = <A_i, A_j>.

Both are count sketches (Charikar, Chen & Farach-Colton 2002; Weinberger et al. 2009) of a shape that one batched
matrix-vector product can apply while reading its input once: the dimensions are cut into consecutive blocks of r,
every block gets one random sign, and the signed blocks are added. Two dimensions share a bucket exactly if their
indices agree modulo r, and the product of their blocks' signs has mean zero, so the estimate is unbiased for every
pair of gradients. A sign for every dimension would be as unbiased and, as measured, no more precise, but would read
and write dy twice more. The default keeps the inputs whole: a finer sketch of the outputs with a coarse one of the
inputs (256 x 32) is more precise for as many products, but took a fifth more time at ``nano``, past the share of a
step that the signal may cost. ``benchmarks/gradient_error.py`` and ``benchmarks/gradient_price.py`` measure both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.gradients.layer import LayerSums, Step, rows


class Fold:
    """A count sketch of the last axis to ``size`` buckets; 0, or anything from its length on, keeps it whole.

    narrow: write the sketch as a matrix and multiply by it. That is more FLOPs, but for an axis of few blocks one small
    product takes a fraction of the time of many vector products that are smaller still.
    """

    def __init__(self, length: int, size: int, device: torch.device, *, narrow: bool) -> None:
        self.length = length
        self.size = length if size <= 0 or size >= length else size
        self.whole = self.size == length
        self.signs = torch.ones(1, -(-length // self.size), device=device)
        self.matrix = torch.zeros(length, self.size, device=device) if narrow and not self.whole else None

    def draw(self, seed: tuple[int, ...]) -> None:
        """Fresh signs, from the seed alone."""
        drawn = np.random.default_rng(seed).integers(0, 2, size=self.signs.shape[1]) * 2 - 1
        self.signs.copy_(torch.from_numpy(drawn.astype(np.float32))[None, :])
        if self.matrix is not None:
            index = torch.arange(self.length, device=self.matrix.device)
            self.matrix[index, index % self.size] = self.signs[0, index // self.size]

    def __call__(self, values: Tensor) -> Tensor:
        """[B, T, length] -> [B, T, size]."""
        if self.whole:
            return values
        if self.matrix is not None:
            return values @ self.matrix.to(values.dtype)
        batch, positions, _ = values.shape
        whole, rest = divmod(self.length, self.size)
        signs = self.signs.to(values.dtype)
        flat = values.reshape(batch * positions, self.length)
        # [1, K] @ [N, K, size]: a matrix-vector product a token; the input is read once, nothing else is written.
        folded = torch.matmul(signs[:, :whole], flat[:, : whole * self.size].unflatten(1, (whole, self.size))).squeeze(
            1
        )
        if rest:
            folded[:, :rest] += signs[0, whole] * flat[:, whole * self.size :]
        return folded.view(batch, positions, self.size)

    def flops(self, tokens: int) -> float:
        """Counted, for so many tokens."""
        width = self.size if self.matrix is not None else 1
        return 0.0 if self.whole else 2.0 * tokens * self.length * width


class SketchedSums(LayerSums):
    """Per-domain sums of S^T dW Q, [m, r, q]."""

    def __init__(
        self, layer: nn.Linear, m: int, *, rows: int, columns: int, seed: tuple[int, ...], self_products: bool
    ) -> None:
        super().__init__(layer, m, self_products=self_products)
        outputs, inputs = layer.weight.shape
        device = layer.weight.device
        self.seed = seed
        self.outputs = Fold(outputs, rows, device, narrow=False)
        self.inputs = Fold(inputs, columns, device, narrow=True)
        self.sums = torch.zeros(m, self.outputs.size, self.inputs.size, device=device)
        self.handle: Any = None
        self.start_round(0)

    def attach(self) -> None:
        """Hook the layer."""
        if self.handle is None:
            self.handle = self.layer.register_forward_hook(self._watch)

    def detach(self) -> None:
        """Unhook it."""
        if self.handle is not None:
            self.handle.remove()
            self.handle = None

    def start_round(self, round_index: int) -> None:
        """Fresh sums under fresh signs."""
        super().start_round(round_index)
        for side, fold in enumerate((self.outputs, self.inputs)):
            fold.draw((*self.seed, round_index, side))

    @torch.compiler.disable()  # dynamo cannot trace a hook on a tensor inside the graph; this breaks the graph here
    def _watch(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Forward hook: have the output's gradient shown to us."""
        step = self.step
        if step is None or not output.requires_grad:
            return
        x = inputs[0].detach()
        self.check_batch(x, step)
        output.register_hook(lambda dy: self._add(x, dy.detach(), step))

    @torch.no_grad()
    def _add(self, x: Tensor, dy: Tensor, step: Step) -> None:
        """Add a step's sketched gradients: x [B, ..., d], dy [B, ..., V]."""
        x, dy = rows(x), rows(dy)
        z, y = self.outputs(dy).float(), self.inputs(x).float()
        alpha = 1.0
        if isinstance(step.inverse, Tensor):
            z = z * step.inverse.to(z.dtype)[:, None, None]
        else:
            alpha = step.inverse
        pieces = torch.bmm(z.transpose(1, 2), y)
        if self.own is None:
            self.sums.index_add_(0, step.index, pieces, alpha=alpha)
        else:
            present, local = np.unique(step.domains, return_inverse=True)
            index = torch.from_numpy(present).to(pieces.device, non_blocking=True)
            place = torch.from_numpy(local).to(pieces.device, non_blocking=True)
            mine = pieces.new_zeros(len(present), *pieces.shape[1:]).index_add_(0, place, pieces, alpha=alpha)
            self.sums.index_add_(0, index, mine)
            self.own.index_add_(0, index, mine.square().sum((1, 2)))
            self.flops += 2.0 * mine.numel() + pieces.numel()
        self.seen += 1
        tokens = x.shape[0] * x.shape[1]
        self.flops += self.outputs.flops(tokens) + self.inputs.flops(tokens)
        self.flops += 2.0 * tokens * self.outputs.size * self.inputs.size + pieces.numel()
