"""What every way of accumulating a layer's gradients by domain has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mixers.base import Array, IntArray


class GradientTrackingError(RuntimeError):
    """Domain gradients cannot be read here; the message is one line with the remedy."""


def last_layers(stages: Sequence[nn.Linear | tuple[nn.Linear, ...]], wanted: int) -> list[nn.Linear]:
    """The layers of the last ``wanted`` tracked stages of a task, in definition order; 0 means all stages."""
    if not stages:
        raise GradientTrackingError("this task's model has no linear layer to read domain gradients from")
    if wanted > len(stages):
        raise GradientTrackingError(f"layers={wanted}, but the model has {len(stages)} tracked linear layers")
    chosen = stages[-wanted:] if wanted else stages
    return [layer for stage in chosen for layer in (stage if isinstance(stage, tuple) else (stage,))]


@dataclass(slots=True, kw_only=True)
class Step:
    """One training step's facts, shared by all layers.

    domains: [B] domain of every example, on the host, so that control flow never waits for the device.
    index: the same on the device. inverse: 1 / scale, a float where it is one number, else [B] on the device (zero
    where the loss weight was zero, so that the gradient is lost and the example does not count).
    """

    domains: IntArray
    index: Tensor
    inverse: float | Tensor

    @property
    def size(self) -> int:
        """Examples in the batch."""
        return len(self.domains)


class LayerSums(ABC):
    """Per-domain sums of one linear layer's weight gradients over a round.

    sums: [m, ...] float32 on the layer's device, a linear image of the gradients whose inner products are (or are
    unbiased estimates of) those of the gradients. own: [m] float32, sum over steps of the squared norm of the step's
    own sum, or ``None``. flops: counted beyond those of training. seen: backward passes met since the last ``begin``.
    """

    sums: Tensor

    def __init__(self, layer: nn.Linear, m: int, *, self_products: bool) -> None:
        self.layer = layer
        self.m = m
        self.own = torch.zeros(m, device=layer.weight.device) if self_products else None
        self.flops = 0.0
        self.seen = 0
        self.step: Step | None = None

    @abstractmethod
    def attach(self) -> None:
        """Switch the reading on."""

    @abstractmethod
    def detach(self) -> None:
        """Switch it off; the module is as it was."""

    def start_round(self, round_index: int) -> None:
        """Forget the sums; a sketch draws itself anew, from its seed and the round's index alone."""
        self.sums.zero_()
        if self.own is not None:
            self.own.zero_()

    def products(self, present: Tensor) -> Tensor:
        """[p, p] float64 inner products of the sums of the ``present`` domains ([p] indices)."""
        flat = self.sums.reshape(self.m, -1)
        p, size = len(present), flat.shape[1]
        device = torch.device("cpu") if flat.device.type == "mps" else flat.device
        gram = torch.zeros(p, p, dtype=torch.float64, device=device)
        # In slices, since a float64 copy of all sums would double the memory of the exact estimator and more.
        width = max(1, (1 << 22) // max(p, 1))
        for start in range(0, size, width):
            part = flat[:, start : start + width].index_select(0, present).to(device, torch.float64)
            gram.addmm_(part, part.t())
        self.flops += 2.0 * p * p * size
        return gram

    def check_batch(self, x: Tensor, step: Step) -> None:
        """Raise unless the layer's input has the examples as its leading dimension."""
        if x.shape[0] != step.size or x.dim() < 2:
            raise GradientTrackingError(
                f"the tracked layer's input has shape {tuple(x.shape)} but the batch has {step.size} examples: "
                "its leading dimension must be the batch; choose other modules in the task's tracked()"
            )

    @property
    def memory_bytes(self) -> int:
        """Bytes held between steps."""
        return self.sums.nbytes + (0 if self.own is None else self.own.nbytes)


def rows(values: Tensor) -> Tensor:
    """[B, ..., c] as [B, T, c]; a [B, c] tensor has T = 1."""
    return values.reshape(values.shape[0], -1, values.shape[-1])


def host_counts(domains: IntArray, counted: Array | None, m: int) -> IntArray:
    """[m] examples of each domain; ``counted`` [B] is false where an example's gradient was lost."""
    kept = domains if counted is None else domains[counted != 0]
    return np.bincount(kept, minlength=m).astype(np.int64)
