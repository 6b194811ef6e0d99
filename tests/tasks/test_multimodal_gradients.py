"""Domain gradients of the contrastive loss: what the referee's tracker reads is what the task's docstring says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.gradients import GradientTracker, last_layers
from mixers.base import DomainGradients
from tasks.clip import model as clip_model
from tasks.multimodal import Multimodal

from .test_multimodal import some, tiny_clip

pytest.importorskip("open_clip")

DOMAINS = np.array([2, 0, 2, 3, 0, 2])
M, B = 4, len(DOMAINS)


def read(model: clip_model.Clip, spec: DomainGradients, batch: dict[str, Tensor], seed: int = 0) -> GradientTracker:
    """A tracker after one step on the batch's mean loss."""
    tracker = GradientTracker(last_layers(model.stages(), spec.layers), M, spec, seed=seed)
    tracker.attach()
    tracker.begin(DOMAINS, 1 / B)
    object.__new__(Multimodal).loss(model, batch).per_example.mean().backward()
    tracker.end()
    return tracker


def definition(model: clip_model.Clip, batch: dict[str, Tensor]) -> list[Tensor]:
    """[M, out, in] of both projections: the loss of the batch's sum with live weights in the domain's rows alone."""
    seen: dict[str, Tensor] = {}
    layers = {"image": model.image_projection, "text": model.text_projection}
    handles = [
        layer.register_forward_hook(lambda module, args, out, name=name: seen.__setitem__(name, args[0].detach()))
        for name, layer in layers.items()
        if layer is not None
    ]
    model(batch["images"], batch["tokens"])
    for handle in handles:
        handle.remove()
    sums = [torch.zeros(M, *layer.weight.shape) for layer in layers.values() if layer is not None]
    for domain in range(M):
        live = torch.from_numpy(domain == DOMAINS)[:, None]
        weights, features = [], []
        for name, layer in layers.items():
            assert layer is not None
            weight = layer.weight.detach().clone().requires_grad_()
            out = torch.where(live, F.linear(seen[name], weight), F.linear(seen[name], weight.detach()))
            weights.append(weight)
            features.append(F.normalize(out, dim=-1))
        loss = clip_model.contrastive(*features, model.scale().detach()).sum()
        if bool(live.any()):
            for index, gradient in enumerate(torch.autograd.grad(loss, weights)):
                sums[index][domain] = gradient
    return sums


def products(sums: list[Tensor]) -> np.ndarray:
    flat = torch.cat([each.double().flatten(1) for each in sums], dim=1)
    return (flat @ flat.t()).numpy()


def close(actual: np.ndarray, expected: np.ndarray, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(actual, expected, atol=tolerance * np.abs(expected).max(), rtol=0)


def test_the_domains_gradients_sum_to_autograds() -> None:
    model, batch = tiny_clip(), some(B)
    object.__new__(Multimodal).loss(model, batch).per_example.mean().backward()
    expected = [layer.weight.grad.clone() for layer in (model.image_projection, model.text_projection)]  # type: ignore
    model.zero_grad()
    state = read(model, DomainGradients(estimator="exact"), batch).state()
    for position, gradient in enumerate(expected):
        torch.testing.assert_close(state[f"sums.{position}"].sum(0) / B, gradient, rtol=1e-4, atol=1e-7)


def test_each_domains_gradient_is_what_flows_through_its_own_rows() -> None:
    model, batch = tiny_clip(), some(B)
    expected = definition(model, batch)
    tracker = read(model, DomainGradients(estimator="exact"), batch)
    state = tracker.state()
    for position, sums in enumerate(expected):
        torch.testing.assert_close(state[f"sums.{position}"], sums, rtol=1e-4, atol=1e-6)
        assert not sums[1].any(), "a domain that is not in the batch has no gradient"
    close(tracker.take().products, products(expected))


def test_it_is_not_the_gradient_of_the_domains_own_losses() -> None:
    """Else the task's docstring would have nothing to say."""
    model, batch = tiny_clip(), some(B)
    own = torch.zeros(M, *model.image_projection.weight.shape)  # type: ignore[union-attr]
    losses = object.__new__(Multimodal).loss(model, batch).per_example
    for b, loss in enumerate(losses):
        own[DOMAINS[b]] += torch.autograd.grad(loss, model.image_projection.weight, retain_graph=True)[0]  # type: ignore
    mine = definition(model, batch)[0]
    torch.testing.assert_close(own.sum(0), mine.sum(0), rtol=1e-4, atol=1e-5)
    assert (own - mine).norm() > 0.05 * mine.norm()


def test_the_sketch_agrees_in_expectation() -> None:
    model, batch = tiny_clip(), some(B)
    expected = products(definition(model, batch))
    spec = DomainGradients(estimator="sketch", rows=4, columns=0)
    draws = []
    for seed in range(150):
        tracker = read(model, spec, batch, seed)
        tracker.detach()
        draws.append(tracker.take().products)
    mean, error = np.mean(draws, axis=0), np.std(draws, axis=0) / np.sqrt(len(draws))
    present = np.ix_(np.unique(DOMAINS), np.unique(DOMAINS))
    assert (np.abs(mean - expected)[present] / error[present]).max() < 4.5


@pytest.mark.parametrize("layers", [1, 3, 0])
def test_earlier_stages_are_read_too(layers: int) -> None:
    model, batch = tiny_clip(image_layers=2, text_layers=1), some(B)
    object.__new__(Multimodal).loss(model, batch).per_example.mean().backward()
    wanted = last_layers(model.stages(), layers)
    assert len(wanted) == {1: 2, 3: 6, 0: 8}[layers]
    expected = [layer.weight.grad.clone() for layer in wanted]  # type: ignore[union-attr]
    model.zero_grad()
    state = read(model, DomainGradients(estimator="exact", layers=layers), batch).state()
    for position, gradient in enumerate(expected):
        torch.testing.assert_close(state[f"sums.{position}"].sum(0) / B, gradient, rtol=1e-4, atol=1e-6)
