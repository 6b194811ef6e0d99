"""Sketched domain gradients: an unbiased projection of the output side, read by hooks that change nothing.

A domain's summed gradient is A = sum over its tokens of dy x^T, [V, d]. With a random S, [V, r], such that
E[S S^T] = I, the sums S^T A need only z = S^T dy per token, and E<S^T A_i, S^T A_j> = <A_i, A_j>.

S is a count sketch (Charikar, Chen & Farach-Colton 2002; Weinberger et al. 2009) of a shape that one batched
matrix-vector product can apply while reading dy once: the output dimensions are cut into V / r consecutive blocks,
every block gets one random sign, and the signed blocks are added. Two outputs share a bucket exactly if their indices
agree modulo r, and the product of their blocks' signs has mean zero, so the estimate is unbiased for every pair of
gradients. One matrix of signs per column would be as unbiased, but reads and writes dy twice more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.gradients.layer import LayerSums, Step, rows


class SketchedSums(LayerSums):
    """Per-domain sums of S^T dW, [m, r, d]; ``size`` is r, and 0 (or anything from V on) keeps the side whole."""

    def __init__(self, layer: nn.Linear, m: int, *, size: int, seed: tuple[int, ...], self_products: bool) -> None:
        super().__init__(layer, m, self_products=self_products)
        outputs, inputs = layer.weight.shape
        self.rows = outputs if size <= 0 or size >= outputs else size
        self.seed = seed
        device = layer.weight.device
        self.sums = torch.zeros(m, self.rows, inputs, device=device)
        self.signs = torch.ones(1, -(-outputs // self.rows), device=device)
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
        drawn = np.random.default_rng((*self.seed, round_index)).integers(0, 2, size=self.signs.shape[1]) * 2 - 1
        self.signs.copy_(torch.from_numpy(drawn.astype(np.float32))[None, :])

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
        z = self.sketch(dy).float()
        x = x.float()
        alpha = 1.0
        if isinstance(step.inverse, Tensor):
            z = z * step.inverse.to(z.dtype)[:, None, None]
        else:
            alpha = step.inverse
        pieces = torch.bmm(z.transpose(1, 2), x)
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
        tokens, outputs = x.shape[0] * x.shape[1], dy.shape[-1]
        projection = 2.0 * tokens * outputs if self.rows < outputs else 0.0
        self.flops += projection + 2.0 * tokens * self.rows * x.shape[-1] + pieces.numel()

    def sketch(self, dy: Tensor) -> Tensor:
        """S^T dy: [B, T, V] -> [B, T, r]."""
        batch, length, outputs = dy.shape
        r = self.rows
        if r == outputs:
            return dy
        whole, rest = divmod(outputs, r)
        signs = self.signs.to(dy.dtype)
        flat = dy.reshape(batch * length, outputs)
        # [1, K] @ [N, K, r]: a matrix-vector product per token, so that dy is read once and nothing else is written.
        z = torch.matmul(signs[:, :whole], flat[:, : whole * r].unflatten(1, (whole, r))).squeeze(1)
        if rest:
            z[:, :rest] += signs[0, whole] * flat[:, whole * r :]
        return z.view(batch, length, r)
