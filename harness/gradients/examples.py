"""Gradients of single examples in a few layers, read off one backward pass over a batch of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.gradients.layer import GradientTrackingError, last_layers, rows
from mixers.base import Layers
from tasks.base import TrainableTask


def layers_of(task: TrainableTask, model: nn.Module, which: Layers) -> list[nn.Module]:
    """The layers that influence is read from, in definition order; those with frozen weights are left out.

    ends: what examples enter by, and the last stage of ``task.tracked``. The entrance is the model's first embedding
    (later ones are usually positions, which all examples share) and its first convolution (the patches of images);
    without either, the first tracked stage. output: the last stage alone. all: the entrance and every tracked stage.
    """
    stages = task.tracked(model)
    outputs: list[nn.Module] = list(last_layers(stages, 0 if which == "all" else 1))
    entrance: list[nn.Module] = []
    if which != "output":
        kinds = (nn.Embedding, nn.Conv2d)
        firsts = [next((each for each in model.modules() if isinstance(each, kind)), None) for kind in kinds]
        entrance = [each for each in firsts if each is not None] or [*last_layers(stages[:1], 1)]
    found: list[nn.Module] = []
    for layer in [*entrance, *outputs]:
        if layer not in found and layer.weight.requires_grad:
            found.append(layer)
    if not found:
        raise GradientTrackingError(f"all weights of the layers {which} are frozen: choose other layers")
    return found


def width(layers: Sequence[nn.Module]) -> int:
    """Weights of the layers together; biases are left out."""
    return sum(layer.weight.numel() for layer in layers)  # type: ignore[misc, operator]


def example_gradients(layers: Sequence[nn.Module], losses: Callable[[], Tensor]) -> list[Tensor]:
    """Per layer [B, d_l] float32, the gradient of every example's loss in that layer's weight, flattened.

    losses: runs the model and returns [B] losses. What flows through an example's rows is taken for that example's
    gradient, as in :class:`~harness.gradients.GradientTracker`: exact where losses are separable by example; of a
    contrastive loss, the part by which the example moved the losses of its whole batch. A weight that two layers share
    has a gradient in each of them.
    """
    met: list[list[tuple[Tensor, Tensor]]] = [[] for _ in layers]
    hooks = []
    for place, layer in enumerate(layers):

        def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor, place: int = place) -> None:
            met[place].append((inputs[0].detach(), output))

        hooks.append(layer.register_forward_hook(keep))
    try:
        per_example = losses()
    finally:
        for hook in hooks:
            hook.remove()
    flowed = iter(torch.autograd.grad(per_example.sum(), [out for calls in met for _, out in calls], allow_unused=True))
    size = len(per_example)
    found = []
    with torch.no_grad():
        for layer, calls in zip(layers, met, strict=True):
            total = torch.zeros(size, width([layer]), device=per_example.device)
            for x, _ in calls:
                dy = next(flowed)
                if dy is not None:
                    total += _gradient(layer, _checked(x, size), dy.float())
            found.append(total)
    return found


def _checked(x: Tensor, size: int) -> Tensor:
    if x.shape[0] != size:
        raise GradientTrackingError(
            f"a layer's input has shape {tuple(x.shape)} but the batch has {size} examples: its leading dimension "
            "must be the batch; choose other layers"
        )
    return x


def _gradient(layer: nn.Module, x: Tensor, dy: Tensor) -> Tensor:
    """[B, d_l] from the layer's input and the gradient at its output."""
    if isinstance(layer, nn.Linear):
        return torch.einsum("bto,bti->boi", rows(dy), rows(x.float())).flatten(1)
    if isinstance(layer, nn.Embedding):
        size, words = len(x), layer.num_embeddings
        found = torch.zeros(size * words, layer.embedding_dim, device=dy.device)
        places = x.reshape(size, -1) + words * torch.arange(size, device=x.device)[:, None]
        found.index_add_(0, places.flatten(), dy.reshape(-1, layer.embedding_dim))
        found = found.view(size, words, -1)
        if layer.padding_idx is not None:
            found[:, layer.padding_idx] = 0.0
        return found.flatten(1)
    if isinstance(layer, nn.Conv2d) and layer.groups == 1 and not isinstance(layer.padding, str):
        patches = F.unfold(x.float(), layer.kernel_size, layer.dilation, layer.padding, layer.stride)
        return torch.einsum("bol,bil->boi", dy.flatten(2), patches).flatten(1)
    raise GradientTrackingError(f"influence cannot be read from a {type(layer).__name__}: choose other layers")
