"""The tracker that the trainer switches on around a training step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from harness.gradients.exact import ExactSums
from harness.gradients.layer import GradientTrackingError, LayerSums, Step, host_counts
from harness.gradients.sketch import SketchedSums
from harness.gradients.view import RoundGradients
from mixers.base import DomainGradients, IntArray


class GradientTracker:
    """Per-domain sums of training gradients over a round, from the one ordinary backward pass.

    R&B (arXiv 2505.00358), Algorithm 1: A_i is the sum over the round's examples of domain i of d(loss of that
    example)/dW, for the last tracked linear layers' weights W, where an example's loss is the mean over its tokens.
    Gradients are those that autograd computes, before clipping, with the loss scale undone. A tied head's sum holds
    what reaches the weight through the layer's output only, not the embedding's part; biases are left out.

    Order of calls: ``attach``, then per step ``begin``, forward, backward, ``end``, and ``take`` after a round's last
    step. Between ``end`` and ``begin`` (evaluation, lab), and for forward passes without gradients at any time,
    nothing is read. A step may have several backward passes (micro-batches are several ``begin``/``end`` pairs). No
    call but ``take`` and ``state`` waits for the device.

    Compiled models: attach before the first compiled call. The hooks break the graph at the tracked layers, which run
    eagerly. Hooks that were added later, or a layer that fell out of the graph, are noticed by ``end``, which raises.
    """

    def __init__(self, layers: Sequence[nn.Linear], m: int, spec: DomainGradients, *, seed: int) -> None:
        if not layers:
            raise GradientTrackingError("no layer to track: the task's tracked() is empty")
        if spec.estimator not in ("exact", "sketch"):
            raise GradientTrackingError(f"unknown estimator {spec.estimator!r}: choose exact or sketch")
        self.m = m
        self.spec = spec
        self.device = layers[0].weight.device
        self._layers: list[LayerSums] = [
            ExactSums(layer, m, self_products=spec.self_products)
            if spec.estimator == "exact"
            else SketchedSums(
                layer,
                m,
                rows=spec.rows,
                columns=spec.columns,
                seed=(seed & (2**64 - 1), position),
                self_products=spec.self_products,
            )
            for position, layer in enumerate(layers)
        ]
        self._round = 0
        self._device_counts: Tensor | None = None
        self._reset_counts()

    def attach(self) -> None:
        """Switch the hooks on."""
        for layer in self._layers:
            layer.attach()

    def detach(self) -> None:
        """Switch them off; the modules are exactly as they were."""
        for layer in self._layers:
            layer.detach()

    def begin(self, domains: IntArray | Tensor, scale: float | Tensor) -> None:
        """Before a training step's forward pass.

        domains: [B] domain index of every example, on the host. scale: the factor by which the examples' losses enter
        the scalar that backward is called on: 1/B for their mean; [B] where they differ. It is undone. An example
        of scale zero left no gradient and does not count.
        """
        host = np.asarray(domains, dtype=np.int64)
        if host.ndim != 1 or (len(host) and not 0 <= host.min() <= host.max() < self.m):
            raise GradientTrackingError(f"domains must be a vector of indices below {self.m}")
        index = torch.from_numpy(np.ascontiguousarray(host))
        if self.device.type == "cuda":
            index = index.pin_memory().to(self.device, non_blocking=True)
        counted = None
        inverse: float | Tensor
        if isinstance(scale, Tensor) and scale.dim() > 0:
            if scale.shape != host.shape:
                raise GradientTrackingError(f"scale has shape {tuple(scale.shape)} for {len(host)} examples")
            scale = scale.detach()
            counted = (scale != 0).cpu().numpy() if scale.device.type == "cpu" else None
            if counted is None:
                self._count_on_device(index, scale != 0)
            inverse = torch.where(scale != 0, 1.0 / scale, torch.zeros_like(scale)).float()
            inverse = inverse.to(self.device, non_blocking=True)
        else:
            inverse = 1.0 / float(scale)
        if not (isinstance(scale, Tensor) and scale.dim() > 0 and counted is None):
            n = host_counts(host, counted, self.m)
            self._counts += n
            self._pairs += n**2
        step = Step(domains=host, index=index, inverse=inverse)
        for layer in self._layers:
            layer.step, layer.seen = step, 0

    def _count_on_device(self, index: Tensor, counted: Tensor) -> None:
        """Counts of a step whose loss weights the host does not know."""
        n = torch.zeros(self.m, dtype=torch.int64, device=self.device).index_add_(0, index, counted.long())
        both = torch.stack([n, n**2])
        self._device_counts = both if self._device_counts is None else self._device_counts + both

    def end(self) -> None:
        """After the step's backward pass. Raises if a tracked layer was not met."""
        for position, layer in enumerate(self._layers):
            layer.step = None
            if layer.seen == 0:
                raise GradientTrackingError(
                    f"tracked layer {position} saw no gradient in this step: its forward must be called with gradients "
                    "on, and attach() must come before torch.compile's first call"
                )
            if layer.seen > 1 and self.spec.self_products:
                raise GradientTrackingError(
                    f"tracked layer {position} was used {layer.seen} times in a step: self_products needs it used once"
                )

    def take(self) -> RoundGradients:
        """The round's view on the host, in float64; then everything starts afresh. Waits for the device."""
        counts, pairs = self._host_counts()
        present = np.flatnonzero(counts)
        where = torch.from_numpy(present).to(self.device)
        products = np.zeros((self.m, self.m))
        own = np.zeros(self.m) if self.spec.self_products else None
        for layer in self._layers:
            products[np.ix_(present, present)] += layer.products(where).cpu().numpy()
            if own is not None and layer.own is not None:
                own += layer.own.double().cpu().numpy()
        self._round += 1
        for layer in self._layers:
            layer.start_round(self._round)
        self._reset_counts()
        for array in (counts, products, pairs, own):
            if array is not None:
                array.setflags(write=False)
        return RoundGradients(
            counts=counts,
            products=products,
            self_products=own,
            self_pairs=pairs if self.spec.self_products else None,
        )

    def _reset_counts(self) -> None:
        self._counts: IntArray = np.zeros(self.m, dtype=np.int64)
        self._pairs: IntArray = np.zeros(self.m, dtype=np.int64)
        self._device_counts = None

    def _host_counts(self) -> tuple[IntArray, IntArray]:
        if self._device_counts is not None:
            n, pairs = self._device_counts.cpu().numpy()
            return self._counts + n, self._pairs + pairs
        return self._counts.copy(), self._pairs.copy()

    def state(self) -> dict[str, Tensor]:
        """Everything that a checkpoint in mid-round needs, as host tensors."""
        counts, pairs = self._host_counts()
        state = {
            "round": torch.tensor(self._round),
            "counts": torch.from_numpy(counts),
            "pairs": torch.from_numpy(pairs),
            "flops": torch.tensor([layer.flops for layer in self._layers], dtype=torch.float64),
        }
        for position, layer in enumerate(self._layers):
            state[f"sums.{position}"] = layer.sums.detach().cpu().clone()
            if layer.own is not None:
                state[f"own.{position}"] = layer.own.detach().cpu().clone()
        return state

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue where ``state`` was taken; the tracker must have been made with the same arguments."""
        self._round = int(state["round"])
        self._reset_counts()
        self._counts += state["counts"].numpy()
        self._pairs += state["pairs"].numpy()
        for position, layer in enumerate(self._layers):
            saved = state[f"sums.{position}"]
            if saved.shape != layer.sums.shape:
                raise GradientTrackingError(
                    f"the saved sums have shape {tuple(saved.shape)}, expected {tuple(layer.sums.shape)}: "
                    "the checkpoint was written with another DomainGradients or model"
                )
            layer.start_round(self._round)
            layer.sums.copy_(saved)
            if layer.own is not None:
                layer.own.copy_(state[f"own.{position}"])
            layer.flops = float(state["flops"][position])

    @property
    def flops(self) -> float:
        """Floating-point operations so far beyond those of training, counted from shapes (2 per multiply-add)."""
        return sum(layer.flops for layer in self._layers)

    @property
    def memory_bytes(self) -> int:
        """Bytes held on the device between steps."""
        return sum(layer.memory_bytes for layer in self._layers)
