"""Counted FLOPs of a forward and of a training pass, from the operators that really run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from tasks.base import Batch, TrainableTask


def _attention(query: Any, key: Any, value: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


def _attention_backward(grad: Any, query: Any, key: Any, value: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return int(sdpa_backward_flop_count(grad, query, key, value))


# The counter knows the fused attention of CUDA; that of the CPU it passes over.
_CPU_ATTENTION: dict[Any, Any] = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


def flop_counter() -> FlopCounterMode:
    """A context that counts matrix products, convolutions and attention, on the CPU too."""
    return FlopCounterMode(display=False, custom_mapping=_CPU_ATTENTION)


@dataclass(frozen=True, slots=True, kw_only=True)
class PassFlops:
    """FLOPs of one batch: a multiply-add is two; matrix products, convolutions and attention are counted, element-wise
    work and the optimiser are not (as in the 6 N D rule)."""

    forward: float
    training: float


def count_pass(task: TrainableTask, model: nn.Module, batch: Batch) -> PassFlops:
    """Count one forward and one backward pass over ``batch``; gradients and mode are left as they were found."""
    training = model.training
    model.train()
    forward = flop_counter()
    with forward:
        losses = task.loss(model, batch)
    backward = flop_counter()
    with backward:
        losses.per_example.mean().backward()
    model.zero_grad(set_to_none=True)
    model.train(training)
    first = float(forward.get_total_flops())
    return PassFlops(forward=first, training=first + float(backward.get_total_flops()))


def parameter_count(model: nn.Module) -> int:
    """Trainable parameters; a tied weight counts once."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def sync(device: torch.device) -> None:
    """Wait for the device, so that a clock read afterwards is honest. Nothing to do on the CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
