"""Domain gradients against autograd, one example at a time."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.gradients import GradientTracker, GradientTrackingError, last_layers
from mixers.base import DomainGradients, UndeclaredSignalError

M, B, T, V, WIDTH = 7, 6, 20, 37, 8
DOMAINS = np.array([4, 0, 4, 2, 0, 4])
EXACT = DomainGradients(estimator="exact")
WHOLE = DomainGradients(estimator="sketch", rows=0, columns=0)
SKETCH = DomainGradients(estimator="sketch", rows=16, columns=0)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """The tensors are so small that threads would spend their time meeting."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Decoder(nn.Module):
    """Embedding, two hidden linear layers and a head; tied or with a bias."""

    def __init__(self, *, tied: bool = False, bias: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(V, WIDTH)
        self.up = nn.Linear(WIDTH, 24)
        self.down = nn.Linear(24, WIDTH)
        self.head = nn.Linear(WIDTH, V, bias=bias)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        return self.head(x + self.down(torch.tanh(self.up(x))))


def losses(model: nn.Module, tokens: Tensor) -> Tensor:
    logits = model(tokens[:, :-1]).float()
    return nn.functional.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none").mean(1)


def make(seed: int = 0, **kwargs: bool) -> tuple[Decoder, Tensor]:
    torch.manual_seed(seed)
    return Decoder(**kwargs), torch.randint(0, V, (B, T + 1))


def per_domain(model: Decoder, layer: nn.Linear, tokens: Tensor, domains: np.ndarray = DOMAINS) -> Tensor:
    """[M, out, in] by one backward pass per example, through the layer's output only (a tied weight is cut)."""
    model = copy.deepcopy(model)
    name = next(n for n, module in model.named_modules() if module is not model and _twin(n, layer))
    module = model.get_submodule(name)
    module.weight = nn.Parameter(module.weight.detach().clone())
    sums = torch.zeros(M, *module.weight.shape)
    for b, loss in enumerate(losses(model, tokens)):
        sums[domains[b]] += torch.autograd.grad(loss, module.weight, retain_graph=True)[0]
    return sums


def _twin(name: str, layer: nn.Linear) -> bool:
    return name == {V: "head", WIDTH: "down", 24: "up"}[layer.out_features]


def step(
    tracker: GradientTracker,
    model: nn.Module,
    tokens: Tensor,
    weights: Tensor | None = None,
    domains: np.ndarray = DOMAINS,
) -> None:
    scale = 1 / B if weights is None else weights / B
    tracker.begin(domains, scale)
    each = losses(model, tokens)
    (each if weights is None else each * weights).mean().backward()
    tracker.end()


def tracked(layers: list[nn.Linear], spec: DomainGradients, m: int = M, seed: int = 0) -> GradientTracker:
    tracker = GradientTracker(layers, m, spec, seed=seed)
    tracker.attach()
    return tracker


def products(sums: Tensor) -> np.ndarray:
    flat = sums.double().flatten(1)
    return (flat @ flat.t()).numpy()


def close(actual: np.ndarray, expected: np.ndarray, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(actual, expected, atol=tolerance * np.abs(expected).max(), rtol=0)


@pytest.mark.parametrize("spec", [EXACT, WHOLE])
@pytest.mark.parametrize("kwargs", [{}, {"bias": True}, {"tied": True}])
def test_gram_equals_brute_force_and_training_goes_on(spec: DomainGradients, kwargs: dict[str, bool]) -> None:
    model, tokens = make(**kwargs)
    losses(model, tokens).mean().backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    sums = per_domain(model, model.head, tokens)
    tracker = tracked([model.head], spec)
    step(tracker, model, tokens)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-7)
    seen = tracker.take()
    n = np.bincount(DOMAINS, minlength=M)
    np.testing.assert_array_equal(seen.counts, n)
    close(seen.gram() * np.outer(n, n), products(sums))
    assert np.all(seen.gram()[n == 0] == 0)
    close(seen.norms() ** 2, np.diagonal(seen.gram()))


def test_the_pieces_sum_to_the_weights_own_gradient() -> None:
    model, tokens = make()
    tracker = tracked([model.head], EXACT)
    step(tracker, model, tokens)
    total = tracker.state()["sums.0"].sum(0) / B
    assert model.head.weight.grad is not None
    torch.testing.assert_close(total, model.head.weight.grad, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("spec", [EXACT, WHOLE])
def test_several_layers_and_rounds_of_several_steps(spec: DomainGradients) -> None:
    model, tokens = make()
    other = torch.randint(0, V, tokens.shape)
    later = np.array([1, 1, 0, 0, 2, 5])
    layers = [model.down, model.head]
    expected = sum(products(per_domain(model, x, tokens) + per_domain(model, x, other, later)) for x in layers)
    tracker = tracked(layers, spec)
    step(tracker, model, tokens)
    step(tracker, model, other, domains=later)
    assert isinstance(expected, np.ndarray)
    close(tracker.take().products, expected)
    step(tracker, model, tokens)
    close(tracker.take().products, sum(products(per_domain(model, x, tokens)) for x in layers))


@pytest.mark.parametrize("spec", [EXACT, WHOLE])
def test_more_domains_than_examples_and_flat_inputs(spec: DomainGradients) -> None:
    torch.manual_seed(0)
    layer, m = nn.Linear(5, 9), 100
    x, domains = torch.randn(B, 5, requires_grad=True), np.array([99, 3, 99, 50, 7, 3])
    tracker = tracked([layer], spec, m=m)
    tracker.begin(domains, 0.5)
    out = layer(x)
    (0.5 * out.square().sum()).backward()
    tracker.end()
    pieces = torch.einsum("bv,bd->bvd", 2 * out.detach(), x.detach())
    sums = torch.zeros(m, 9, 5).index_add_(0, torch.from_numpy(domains), pieces)
    close(tracker.take().products, products(sums))


@pytest.mark.parametrize("spec", [EXACT, WHOLE])
def test_loss_weights_are_undone_and_zero_does_not_count(spec: DomainGradients) -> None:
    model, tokens = make()
    weights = torch.tensor([0.5, 2.0, 0.5, 0.0, 3.0, 0.5])
    sums = per_domain(model, model.head, tokens)
    sums[2] = 0
    tracker = tracked([model.head], replace(spec, self_products=True))
    step(tracker, model, tokens, weights)
    seen = tracker.take()
    np.testing.assert_array_equal(seen.counts, [2, 0, 0, 0, 3, 0, 0])
    close(seen.products, products(sums))


def test_a_frozen_weight_is_still_read() -> None:
    for spec in (EXACT, WHOLE):
        model, tokens = make()
        sums = per_domain(model, model.head, tokens)
        model.head.weight.requires_grad_(False)
        tracker = tracked([model.head], spec)
        step(tracker, model, tokens)
        assert model.head.weight.grad is None
        close(tracker.take().products, products(sums))


@pytest.mark.parametrize("spec", [EXACT, WHOLE])
def test_autocast_accumulates_in_float32(spec: DomainGradients) -> None:
    model, tokens = make()
    expected = products(per_domain(model, model.head, tokens))
    tracker = tracked([model.head], spec)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        tracker.begin(DOMAINS, 1 / B)
        total = losses(model, tokens).mean()
    total.backward()
    tracker.end()
    assert tracker.state()["sums.0"].dtype == torch.float32
    assert model.head.weight.grad is not None
    assert model.head.weight.grad.dtype == torch.float32
    close(tracker.take().products, expected, tolerance=0.03)


@pytest.mark.parametrize("outputs", [32, 37])
@pytest.mark.parametrize("spec", [replace(SKETCH, rows=4), replace(SKETCH, rows=8, columns=2, self_products=True)])
def test_the_sketch_is_unbiased(spec: DomainGradients, outputs: int) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(5, outputs, bias=False)
    x = torch.randn(B, 3, 5, requires_grad=True)
    dy = torch.randn(B, 3, outputs)
    sums = torch.zeros(M, outputs, 5).index_add_(0, torch.from_numpy(DOMAINS), dy.transpose(1, 2) @ x.detach())
    tracker = tracked([layer], spec)
    draws, norms = [], []
    for _ in range(600):
        tracker.begin(DOMAINS, 1.0)
        layer(x).backward(dy)
        tracker.end()
        seen = tracker.take()
        draws.append(seen.products)
        if seen.self_products is not None:
            norms.append(seen.self_products)
    present = np.unique(DOMAINS)
    mean, error = np.mean(draws, axis=0), np.std(draws, axis=0) / np.sqrt(len(draws))
    assert np.all(error[np.ix_(present, present)] > 0)
    assert (np.abs(mean - products(sums))[np.ix_(present, present)] / error[np.ix_(present, present)]).max() < 4.5
    if norms:
        np.testing.assert_allclose(norms, np.diagonal(draws, axis1=1, axis2=2), rtol=1e-4)


def test_the_sketch_is_redrawn_every_round_and_fixed_by_its_seed() -> None:
    model, tokens = make()

    def two_rounds(seed: int) -> list[np.ndarray]:
        tracker = tracked([model.head], replace(SKETCH, rows=4), seed=seed)
        found = []
        for _ in range(2):
            step(tracker, model, tokens)
            found.append(tracker.take().products)
        tracker.detach()
        return found

    first, again, other = two_rounds(3), two_rounds(3), two_rounds(4)
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first[0], first[1])
    assert not np.allclose(first[0], other[0])


@pytest.mark.parametrize("spec", [EXACT, WHOLE])
def test_the_debiased_diagonal_leaves_out_a_steps_product_with_itself(spec: DomainGradients) -> None:
    model, tokens = make()
    batches = [tokens, torch.randint(0, V, tokens.shape)]
    domains = [DOMAINS, np.array([0, 0, 0, 4, 1, 1])]
    each = [per_domain(model, model.head, x, d) for x, d in zip(batches, domains, strict=True)]
    tracker = tracked([model.head], replace(spec, self_products=True))
    for x, d in zip(batches, domains, strict=True):
        step(tracker, model, x, domains=d)
    seen = tracker.take()
    diagonal = np.diagonal(seen.gram(debiased=True))
    for i, (n, k) in {0: (2, 3), 4: (3, 1)}.items():
        cross = 2 * float((each[0][i] * each[1][i]).sum()) / ((n + k) ** 2 - n**2 - k**2)
        assert diagonal[i] == pytest.approx(cross, rel=1e-3)
    assert diagonal[1] == diagonal[2] == diagonal[3] == 0
    away = ~np.eye(M, dtype=bool)
    np.testing.assert_array_equal(seen.gram()[away], seen.gram(debiased=True)[away])


def test_an_undeclared_debiased_diagonal_says_what_to_declare() -> None:
    model, tokens = make()
    tracker = tracked([model.head], SKETCH)
    step(tracker, model, tokens)
    with pytest.raises(UndeclaredSignalError, match="self_products=True"):
        tracker.take().gram(debiased=True)


@pytest.mark.parametrize("spec", [EXACT, SKETCH])
def test_detached_modules_are_as_they_were(spec: DomainGradients) -> None:
    model, tokens = make(bias=True)
    before = set(model.head.__dict__)
    losses(model, tokens).mean().backward()
    expected = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    tracker = tracked([model.head], spec)
    tracker.begin(DOMAINS, 1 / B)
    with pytest.raises(GradientTrackingError, match="attach"):
        tracker.end()
    tracker.detach()
    tracker.detach()
    assert set(model.head.__dict__) == before
    assert not model.head._forward_hooks
    losses(model, tokens).mean().backward()
    for parameter, grad in zip(model.parameters(), expected, strict=True):
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, grad)


@pytest.mark.parametrize("tied", [False, True])
def test_the_sketch_only_reads(tied: bool) -> None:
    grads = []
    for spec in (None, replace(SKETCH, self_products=True)):
        model, tokens = make(tied=tied)
        if spec is None:
            losses(model, tokens).mean().backward()
        else:
            step(tracked([model.head], spec), model, tokens)
        grads.append([p.grad for p in model.parameters()])
    for plain, seen in zip(*grads, strict=True):
        assert plain is not None
        assert seen is not None
        assert torch.equal(plain, seen)


@pytest.mark.parametrize("spec", [EXACT, SKETCH])
def test_passes_outside_a_step_or_without_gradients_are_not_read(spec: DomainGradients) -> None:
    model, tokens = make()
    tracker = tracked([model.head], spec)
    plain = losses(model, tokens[:2])
    plain.sum().backward()
    tracker.begin(DOMAINS, 1 / B)
    with torch.no_grad():
        assert torch.equal(losses(model, tokens[:2]), plain)
    losses(model, tokens).mean().backward()
    with torch.no_grad():
        losses(model, tokens[:2])
    tracker.end()
    seen = tracker.take()
    model.zero_grad()
    only = tracked([make()[0].head], spec)
    only.detach()
    tracker.detach()
    again = tracked([model.head], spec)
    step(again, model, tokens)
    np.testing.assert_array_equal(seen.products, again.take().products)


@pytest.mark.parametrize("spec", [EXACT, replace(SKETCH, self_products=True)])
def test_a_round_continues_from_its_state(spec: DomainGradients) -> None:
    model, tokens = make()
    whole = tracked([model.head], spec, seed=5)
    step(whole, model, tokens)
    whole.take()
    step(whole, model, tokens)
    saved = whole.state()
    whole.detach()
    resumed = tracked([model.head], spec, seed=5)
    resumed.load_state(saved)
    assert resumed.flops == whole.flops
    step(resumed, model, tokens)
    resumed.detach()
    whole.attach()
    step(whole, model, tokens)
    one, two = whole.take(), resumed.take()
    np.testing.assert_array_equal(one.products, two.products)
    np.testing.assert_array_equal(one.counts, two.counts)
    if spec.self_products:
        np.testing.assert_array_equal(one.gram(debiased=True), two.gram(debiased=True))


def test_a_state_of_another_size_is_refused() -> None:
    model, _ = make()
    saved = GradientTracker([model.head], M, SKETCH, seed=0).state()
    with pytest.raises(GradientTrackingError, match="another DomainGradients"):
        GradientTracker([model.head], M, EXACT, seed=0).load_state(saved)


def test_an_input_without_the_batch_in_front_is_refused() -> None:
    layer = nn.Linear(3, 4)
    for spec in (EXACT, SKETCH):
        tracker = tracked([layer], spec)
        tracker.begin(DOMAINS, 1.0)
        with pytest.raises(GradientTrackingError, match="leading dimension"):
            layer(torch.randn(5, B, 3, requires_grad=True))
        tracker.detach()


def test_domains_out_of_range_are_refused() -> None:
    tracker = tracked([nn.Linear(3, 4)], SKETCH)
    with pytest.raises(GradientTrackingError, match="below 7"):
        tracker.begin(np.array([0, 7]), 1.0)


@pytest.mark.parametrize("spec", [EXACT, WHOLE])
def test_gradient_checkpointing_reads_once(spec: DomainGradients) -> None:
    from torch.utils.checkpoint import checkpoint

    model, tokens = make()
    sums = per_domain(model, model.down, tokens)
    tracker = tracked([model.down], spec)
    tracker.begin(DOMAINS, 1 / B)
    x = model.embed(tokens[:, :-1])
    hidden = checkpoint(lambda y: y + model.down(torch.tanh(model.up(y))), x, use_reentrant=False)
    logits = model.head(hidden)
    nn.functional.cross_entropy(logits.transpose(1, 2), tokens[:, 1:]).backward()
    tracker.end()
    close(tracker.take().products, products(sums))


@pytest.mark.parametrize("spec", [EXACT, WHOLE])
def test_compiled_models(spec: DomainGradients) -> None:
    model, tokens = make()
    expected = products(per_domain(model, model.head, tokens))
    tracker = tracked([model.head], spec)
    step(tracker, torch.compile(model, backend="aot_eager"), tokens)
    close(tracker.take().products, expected)


def test_both_sides_sketched_cost_less() -> None:
    model, tokens = make()
    tracker = tracked([model.head], replace(SKETCH, columns=3))
    step(tracker, model, tokens)
    assert tracker.flops == 2 * B * T * (V + WIDTH * 3) + 2 * B * T * 16 * 3 + B * 16 * 3
    assert tracker.memory_bytes == 4 * M * 16 * 3


def test_flops_and_memory_are_counted_from_shapes() -> None:
    model, tokens = make()
    tracker = tracked([model.head], SKETCH)
    step(tracker, model, tokens)
    assert tracker.flops == 2 * B * T * V + 2 * B * T * 16 * WIDTH + B * 16 * WIDTH
    before = tracker.flops
    tracker.take()
    assert tracker.flops - before == 2 * 3 * 3 * 16 * WIDTH
    assert tracker.memory_bytes == 4 * M * 16 * WIDTH
    exact = tracked([model.head], EXACT)
    assert exact.memory_bytes == 4 * M * V * WIDTH


def test_counted_flops_at_small_stay_below_a_thousandth() -> None:
    """A step's signal with m = 64 and its share of the Gram matrices, against 6 N D of the text task's model."""
    from tasks.language import decoder
    from tasks.text import Text

    preset = Text.presets["small"]
    config = Text.configure(preset, {})
    model = decoder.build(
        vocabulary=config.vocabulary, context=config.context, width=config.width, layers=config.layers,
        heads=config.heads, end=0, seed=0,
    )  # fmt: skip
    head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    tracker = GradientTracker([head], 64, DomainGradients(), seed=0)
    tracker.attach()
    examples, tokens = 64, 2  # every domain once; few tokens, as the count is proportional to them
    tracker.begin(np.arange(examples), 1 / examples)
    head(torch.randn(examples, tokens, config.width, requires_grad=True)).sum().backward()
    tracker.end()
    per_token = tracker.flops / (examples * tokens)
    before = tracker.flops
    tracker.take()
    round_tokens = preset.recipe.steps / 10 * preset.recipe.batch_size * config.context
    gram_per_token = (tracker.flops - before) / round_tokens
    training = 6.0 * sum(p.numel() for p in model.parameters())
    assert gram_per_token > 0
    assert 0 < (per_token + gram_per_token) / training < 0.001


def test_stages_are_counted_from_the_end_and_read_together() -> None:
    first, left, right = nn.Linear(2, 3), nn.Linear(3, 4), nn.Linear(3, 5)
    stages = [first, (left, right)]
    assert last_layers(stages, 1) == [left, right]
    assert last_layers(stages, 2) == last_layers(stages, 0) == [first, left, right]
    with pytest.raises(GradientTrackingError, match="layers=3, but the model has 2"):
        last_layers(stages, 3)
    with pytest.raises(GradientTrackingError, match="no linear layer"):
        last_layers([], 1)


@pytest.mark.parametrize("spec", [EXACT, WHOLE])
def test_a_stage_of_two_layers_has_the_sum_of_their_grams(spec: DomainGradients) -> None:
    model, tokens = make()
    tracker = tracked(last_layers([model.up, (model.down, model.head)], 1), spec)
    step(tracker, model, tokens)
    counts = np.maximum(np.bincount(DOMAINS, minlength=M), 1)
    expected = sum(products(per_domain(model, layer, tokens)) for layer in (model.down, model.head))
    close(tracker.take().gram(), expected / np.outer(counts, counts))
