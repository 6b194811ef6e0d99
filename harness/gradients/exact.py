"""Exact domain gradients: the layer's own weight gradient formed as the sum of the domains' pieces."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.gradients.layer import GradientTrackingError, LayerSums, Step, rows

SHORT = 16
"""Below so many positions an example, a domain's rows are gathered: products of single examples are too small."""


class ExactSums(LayerSums):
    """Per-domain sums of whole weight gradients, [m, V, d].

    While tracking, the layer's forward is a custom autograd function whose backward forms each domain's piece of the
    weight gradient once, adds it to the domain's sum, and returns the sum of the pieces as the weight's gradient. No
    matrix product is spent twice; the price is the traffic to the sums. The weight's gradient differs from the
    ordinary one by rounding only.
    """

    def __init__(self, layer: nn.Linear, m: int, *, self_products: bool) -> None:
        super().__init__(layer, m, self_products=self_products)
        self.sums = torch.zeros(m, *layer.weight.shape, device=layer.weight.device)

    def attach(self) -> None:
        """Shadow the layer's forward by an attribute of the instance."""
        if "forward" in self.layer.__dict__:
            raise GradientTrackingError("the tracked layer's forward is already replaced: undo that first")
        self.layer.forward = self._forward  # type: ignore[method-assign]

    def detach(self) -> None:
        """Let the class's forward show again."""
        self.layer.__dict__.pop("forward", None)

    @torch.compiler.disable()  # the sums are a side effect of backward, which a traced function may not have
    def _forward(self, x: Tensor) -> Tensor:
        layer, step = self.layer, self.step
        weight: Tensor = layer.weight
        bias: Tensor | None = layer.bias
        if step is None or not torch.is_grad_enabled() or not (x.requires_grad or weight.requires_grad):
            return F.linear(x, weight, bias)
        self.check_batch(x, step)
        kind = x.device.type
        if torch.is_autocast_enabled(kind):
            # As autocast itself would, but outside the function: then backward sees the types that forward used.
            dtype = torch.get_autocast_dtype(kind)
            x, weight = x.to(dtype), weight.to(dtype)
            bias = None if bias is None else bias.to(dtype)
        out: Tensor = _SplitLinear.apply(x, weight, bias, self, step)
        return out

    @torch.no_grad()
    def _add(self, x: Tensor, dy: Tensor, step: Step, want: bool) -> Tensor | None:
        """Add a step's pieces; x [B, ..., d], dy [B, ..., V]. Returns their unscaled sum, [V, d], if ``want``."""
        x, dy = rows(x), rows(dy)
        total: Tensor | None = None
        single = isinstance(step.inverse, Tensor)
        for domain in np.unique(step.domains):
            members = np.flatnonzero(step.domains == domain)
            # Loss weights that differ between examples can only be undone example by example.
            groups = [members[i : i + 1] for i in range(len(members))] if single else [members]
            mine: Tensor | None = None
            for group in groups:
                piece = _piece(x, dy, group)
                inverse = step.inverse[int(group[0])] if isinstance(step.inverse, Tensor) else step.inverse
                if self.own is not None:
                    mine = piece * inverse if mine is None else mine.add_(piece * inverse)
                elif isinstance(inverse, Tensor):
                    self.sums[domain].addcmul_(piece, inverse)
                else:
                    self.sums[domain].add_(piece, alpha=inverse)
                if want:
                    total = piece if total is None else total.add_(piece)
            if self.own is not None and mine is not None:
                self.sums[domain].add_(mine)
                self.own[domain] += mine.square().sum()
                self.flops += 3.0 * mine.numel()
            self.flops += 2.0 * len(groups) * self.layer.weight.numel()
        self.seen += 1
        return total


def _piece(x: Tensor, dy: Tensor, members: np.ndarray) -> Tensor:
    """[V, d] float32: the sum over some examples' positions of dy x^T."""
    if dy.shape[1] < SHORT and len(members) > 1:
        index = torch.from_numpy(members).to(x.device, non_blocking=True)
        return _product(dy.index_select(0, index).flatten(0, 1), x.index_select(0, index).flatten(0, 1))
    piece = _product(dy[members[0]], x[members[0]])
    for b in members[1:]:
        if dy.dtype == torch.float32:
            piece.addmm_(dy[b].t(), x[b])
        else:
            piece += _product(dy[b], x[b])
    return piece


def _product(dy: Tensor, x: Tensor) -> Tensor:
    return (dy.t() @ x).float()


class _SplitLinear(torch.autograd.Function):
    """F.linear whose weight gradient passes through :meth:`ExactSums._add` in per-domain pieces."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, owner: ExactSums, step: Step
    ) -> Tensor:  # pragma: no cover - called by autograd
        ctx.save_for_backward(x, weight)
        ctx.owner, ctx.step = owner, step
        return F.linear(x, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        want_x, want_weight, want_bias = ctx.needs_input_grad[:3]
        dx = dy @ weight if want_x else None
        dw = ctx.owner._add(x, dy, ctx.step, want_weight)
        db = rows(dy).sum((0, 1)) if want_bias else None
        return dx, None if dw is None else dw.to(weight.dtype), db, None, None
