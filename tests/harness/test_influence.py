"""Influence of training examples: by hand, by explicit inverses, and on models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from harness import influence, making
from harness.gradients import GradientTrackingError
from harness.gradients import influence as scores
from harness.gradients.examples import example_gradients, layers_of, width
from harness.kept import kept_model
from harness.lab import PaidLab
from harness.ledger import Ledger
from harness.prepare import prepare
from harness.prepared import Prepared, pass_flops
from harness.proxies import children, prices
from harness.validation import subset
from mixers.base import Influence, MixerError, Purchases, Run

DOT, DATAINF = Influence(method="grad_dot"), Influence()
MADE = np.random.default_rng(0)
TRAIN = [MADE.normal(size=(5, 3)), MADE.normal(size=(5, 2))]  # two layers of 3 and 2 weights, five examples
VALIDATION = [MADE.normal(size=(4, 3)), MADE.normal(size=(4, 2))]


def given(split, indices):
    return [torch.from_numpy(layer[indices]).float() for layer in (TRAIN if split == "train" else VALIDATION)]


def scored(how, gradients=given):
    """Training examples in batches of three and two, against targets of the validation examples 0, 1, 2 and 3."""
    train = [np.array([0, 1, 2]), np.array([3, 4])]
    return scores.influences(gradients, train, [[np.array([0, 1]), np.array([2])], [np.array([3])]], how)


GOALS = [np.stack([layer[:3].mean(axis=0), layer[3]]) for layer in VALIDATION]


def test_grad_dot_is_the_product_of_gradients():
    expected = sum(g @ v.T for g, v in zip(TRAIN, GOALS, strict=True))
    np.testing.assert_allclose(scored(DOT), expected, rtol=1e-5)


@pytest.mark.parametrize("held", [1 << 30, 1])
@pytest.mark.parametrize("damping", [0.1, 3.0])
def test_datainf_is_the_mean_of_damped_inverses(monkeypatch, held, damping):
    monkeypatch.setattr(scores, "HELD", held)
    expected = np.zeros((5, 2))
    for g, v in zip(TRAIN, GOALS, strict=True):
        lam = damping * np.mean([row @ row for row in g]) / g.shape[1]
        inverse = np.mean([np.linalg.inv(np.outer(row, row) + lam * np.eye(g.shape[1])) for row in g], axis=0)
        expected += g @ inverse @ v.T
    np.testing.assert_allclose(scored(replace(DATAINF, damping=damping)), expected, rtol=1e-4)


def test_datainf_by_hand():
    # one layer of one weight, gradients 1 and 2, target gradient 3, damping 0.4: lambda = 0.4 x 2.5 = 1
    data = {"train": torch.tensor([[1.0], [2.0]]), "validation": torch.tensor([[3.0]])}
    made = scores.influences(
        lambda split, indices: [data[split][indices]],
        [np.array([0, 1])],
        [[np.array([0])]],
        replace(DATAINF, damping=0.4),
    )
    inverse = (1 / 2 + 1 / 5) / 2
    np.testing.assert_allclose(made[:, 0], [3 * inverse, 6 * inverse], rtol=1e-6)


def test_a_layer_without_gradient_adds_nothing_and_scale_acts_as_it_should():
    def padded(split, indices):
        return [*given(split, indices), torch.zeros(len(indices), 4)]

    np.testing.assert_array_equal(scored(DATAINF, padded), scored(DATAINF))
    np.testing.assert_array_equal(scored(DOT, padded), scored(DOT))

    def scaled(split, indices):
        return [8.0 * g for g in given(split, indices)]

    np.testing.assert_allclose(scored(DOT, scaled), 64.0 * scored(DOT), rtol=1e-6)
    np.testing.assert_allclose(scored(DATAINF, scaled), scored(DATAINF), rtol=1e-6)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"examples": -1}, "examples must be at least 0"),
        ({"target_examples": -1}, "target_examples must be at least 0"),
        ({"layers": "middle"}, "layers is ends, output or all"),
        ({"method": "exact"}, "method is datainf or grad_dot"),
        ({"damping": 0.0}, "damping must be positive"),
    ],
)
def test_bad_settings_are_one_line(bad, says):
    with pytest.raises(MixerError, match=f"influence: {says}"):
        Influence(**bad)


# Gradients of single examples


class Pixels(nn.Module):
    """A convolution with an odd geometry, then a head that is used twice, as a tied weight would be."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.patches = nn.Conv2d(3, 4, kernel_size=(2, 3), stride=2, padding=1)
        self.head = nn.Linear(4, 4)

    def forward(self, images):
        x = torch.tanh(self.patches(images)).flatten(2).mean(dim=2)
        return self.head(torch.tanh(self.head(x))).square().sum(dim=1)


def one_by_one(layers, loss, batch):
    """What autograd says of each example alone."""
    found = [torch.autograd.grad(loss(row[None])[0], [layer.weight for layer in layers]) for row in batch]
    return [torch.stack([each[i].flatten() for each in found]) for i in range(len(layers))]


def test_gradients_of_single_examples_are_those_of_autograd():
    model = Pixels()
    layers, images = [model.patches, model.head], torch.randn(5, 3, 7, 8, generator=torch.Generator().manual_seed(1))
    for mine, theirs in zip(
        example_gradients(layers, lambda: model(images)), one_by_one(layers, model, images), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)
    assert all(p.grad is None for p in model.parameters())


def test_padding_has_no_gradient_and_a_layer_whose_rows_are_no_examples_is_refused():
    torch.manual_seed(0)
    words, places, head = nn.Embedding(6, 2, padding_idx=0), nn.Embedding(3, 2), nn.Linear(2, 1)
    tokens = torch.tensor([[1, 1, 0], [5, 2, 1]])

    def losses(tokens):
        return head(words(tokens) + places(torch.arange(3))[None]).square().sum(dim=(1, 2))

    mine = example_gradients([words, head], lambda: losses(tokens))
    for a, b in zip(mine, one_by_one([words, head], losses, tokens), strict=True):
        torch.testing.assert_close(a, b)
    assert not mine[0].view(2, 6, 2)[:, 0].any()
    with pytest.raises(GradientTrackingError, match="must be the batch"):
        example_gradients([places], lambda: losses(tokens))


@pytest.fixture
def prepared(toy_specs, registry, tmp_path: Path) -> Prepared:
    (spec,) = toy_specs()
    return prepare(spec, registry, tmp_path / "cache")


def test_layers_by_name(prepared):
    model = prepared.build_model()
    assert layers_of(prepared.task, model, "ends") == [model.embedding, model.head]
    assert layers_of(prepared.task, model, "output") == [model.head]
    assert layers_of(prepared.task, model, "all") == [model.embedding, model.hidden, model.head]
    assert width(layers_of(prepared.task, model, "ends")) == 2 * 16 * 8
    model.head.requires_grad_(False)
    assert layers_of(prepared.task, model, "ends") == [model.embedding]
    with pytest.raises(GradientTrackingError, match="frozen"):
        layers_of(prepared.task, model, "output")
    del model.embedding
    assert layers_of(prepared.task, model, "ends") == [model.hidden]


# What the lab sells


def bought(prepared: Prepared, how: Influence, calls: int = 1, **more):
    """(a kept model, a lab that sells so many calls, its ledger)."""
    run = Run(steps=6, mixture=prepared.problem.mixture(prepared.problem.train_shares), keep_at=(3,))
    kept = making.obtain(prepared, run).result.checkpoints[3]
    ledger, trainer = Ledger(), prepared.trainer(())
    declared = Purchases(influence=calls, influence_how=how, **more)
    return kept, PaidLab(prepared, trainer, ledger, pass_flops(prepared, trainer.model), declared), ledger


def test_influence_says_what_a_step_on_an_example_does_to_a_targets_loss(prepared):
    how = Influence(method="grad_dot", layers="all", examples=2, target_examples=3)
    kept, lab, _ = bought(prepared, how)
    made = lab.influence(kept, how)
    chosen = subset(prepared, 3)
    rate = 1e-3

    def loss(model, split, indices):
        return prepared.task.loss(model, prepared.task.batch(prepared.corpus, split, indices)).per_example.mean()

    for row in (0, 3, 5):
        model = kept_model(prepared.main_task, prepared.cache, kept).double()
        targets = [chosen[prepared.partition.validation[chosen] == j] for j in range(4)]
        before = [loss(model, "validation", target).item() for target in targets]
        weights = [layer.weight for layer in layers_of(prepared.task, model, "all")]
        slopes = torch.autograd.grad(loss(model, "train", made.examples[row : row + 1]), weights)
        with torch.no_grad():
            for weight, slope in zip(weights, slopes, strict=True):
                weight -= rate * slope
        fell = [b - loss(model, "validation", target).item() for b, target in zip(before, targets, strict=True)]
        np.testing.assert_allclose(made.influence[row], np.array(fell) / rate, rtol=0.05, atol=2e-3)
    assert (np.abs(made.influence) > 0.01).any()


def test_the_sample_is_the_same_in_every_call_and_has_examples_of_each_domain(prepared):
    how = Influence(examples=6, target_examples=2)
    kept, lab, ledger = bought(prepared, how, calls=3)
    whole = lab.influence(kept, how)
    cost = ledger.flops["mixing"]
    part = lab.influence(kept, how, [2, 0])
    np.testing.assert_array_equal(whole.examples, part.examples)
    np.testing.assert_array_equal(part.domains, prepared.partition.train[part.examples])
    np.testing.assert_array_equal(np.bincount(part.domains), [6, 6, 6, 4])
    np.testing.assert_array_equal(part.units, np.full(22, 6.0))
    np.testing.assert_allclose(part.influence[:, [0, 2]], whole.influence[:, [0, 2]], rtol=1e-9)
    assert np.isnan(part.influence[:, [1, 3]]).all()
    assert ledger.flops["mixing"] - cost < cost, "two targets cost less than four"
    with pytest.raises(ValueError, match="read-only"):
        part.influence[0, 0] = 1.0


@pytest.mark.parametrize("examples", [0, 3, 1000])
def test_what_a_thinned_run_leaves_out_is_in_no_sample(prepared, examples):
    kept, _, _ = bought(prepared, DOT)
    run = Run(steps=6, mixture=prepared.problem.mixture(prepared.problem.train_shares), subsample=0.25)
    thinned = children.child_of(prepared, run)
    how = Influence(examples=examples, target_examples=2, layers="output")
    made = influence.measure(thinned, kept, how)
    has = thinned.problem.examples
    np.testing.assert_array_equal(
        np.bincount(made.estimate.domains, minlength=4), np.minimum(has, examples) if examples else has
    )
    flops = pass_flops(prepared, prepared.build_model())
    declared = Purchases(influence=1, influence_how=how)
    assert made.flops == pytest.approx(prices.price_of(thinned, declared, flops))


def test_absent_targets_are_unknown_and_cost_nothing(prepared):
    validation = np.where(prepared.partition.validation == 1, 0, prepared.partition.validation)
    prepared = replace(prepared, partition=replace(prepared.partition, validation=validation))
    how = Influence(examples=2, target_examples=0)
    kept, lab, ledger = bought(prepared, how, calls=2)
    made = lab.influence(kept, how)
    assert np.isnan(made.influence).all(axis=0).tolist() == [False, True, False, False]
    before = ledger.flops["mixing"]
    assert np.isnan(lab.influence(kept, how, [1]).influence).all()
    assert ledger.flops["mixing"] == before


@pytest.mark.parametrize("held", [1 << 30, 1])
@pytest.mark.parametrize("method", ["grad_dot", "datainf"])
def test_the_price_is_what_all_targets_cost(prepared, monkeypatch, method, held):
    monkeypatch.setattr(scores, "HELD", held)
    how = Influence(examples=6, target_examples=2, method=method)
    kept, lab, ledger = bought(prepared, how, calls=2)
    lab.influence(kept, how)
    lab.influence(kept, how)
    declared = Purchases(influence=2, influence_how=how)
    flops = pass_flops(prepared, prepared.build_model())
    assert ledger.flops["mixing"] == pytest.approx(prices.price_of(prepared, declared, flops))
    assert ledger.purchases["influence"]["calls"] == 2
    an_example = flops.training / prepared.recipe.batch_size
    read, products = (1, 2 * 4) if method == "grad_dot" else (3 if held == 1 else 1, 6 * 4 + 2)
    assert ledger.flops["mixing"] == pytest.approx(2 * (an_example * (22 * read + 8) + products * 22 * 256))


def test_what_was_not_declared_is_refused(prepared):
    how = Influence(examples=2, target_examples=2)
    kept, lab, ledger = bought(prepared, how)
    with pytest.raises(MixerError, match=r"set purchases\(\).influence_how"):
        lab.influence(kept, replace(how, examples=3))
    lab.influence(kept, how)
    with pytest.raises(MixerError, match=r"2 bought, 1 declared; raise purchases\(\).influence"):
        lab.influence(kept, how)
    kept, lab, ledger = bought(prepared, how, influence_size=0.5)
    with pytest.raises(MixerError, match=r"raise purchases\(\).influence_size"):
        lab.influence(kept, how)
    assert ledger.flops["mixing"] == 0.0


def test_measuring_leaves_the_main_run_alone(prepared):
    how = Influence(examples=2, target_examples=2)
    kept, lab, _ = bought(prepared, how)
    trainer = lab._trainer
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    lab.influence(kept, how)
    assert all(torch.equal(before[name], value) for name, value in trainer.model.state_dict().items())
    assert trainer.sampler.drawn.sum() == 0
    assert influence.price(prepared, Purchases()) == 0.0


def test_a_decoder_is_read_at_its_words_and_clip_at_words_patches_and_projections(tmp_path):
    pytest.importorskip("transformers")
    from tasks.language import decoder
    from tasks.text import Text

    task = Text(Text.Config(), Text.presets["demo"], tmp_path)
    model = decoder.build(vocabulary=20, context=8, width=8, layers=1, heads=2, end=0, seed=0)
    assert layers_of(task, model, "ends") == [model.model.embed_tokens, model.lm_head]
    assert len(layers_of(task, model, "all")) == 1 + 7 + 1
    tokens = torch.tensor([[3, 3, 7, 1], [2, 19, 0, 5]])

    def losses(tokens):
        return model(tokens).logits.log_softmax(-1)[..., 4].mean(dim=1)

    ends = layers_of(task, model, "all")
    for a, b in zip(example_gradients(ends, lambda: losses(tokens)), one_by_one(ends, losses, tokens), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-7)


def test_clip_is_read_at_words_patches_and_both_projections(tmp_path):
    pytest.importorskip("open_clip")
    from tasks.clip import model as clip_model
    from tasks.multimodal import Multimodal, settings_of

    config = Multimodal.configure(Multimodal.presets["demo"], {})
    task = Multimodal(config, Multimodal.presets["demo"], tmp_path)
    model = clip_model.build(settings_of(config, 50), seed=0).eval()  # in training it drops patches at random
    layers = layers_of(task, model, "ends")
    expected = [model.inner.token_embedding, model.inner.visual.conv1, model.image_projection, model.text_projection]
    assert layers == expected
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (3, 3, config.image_size, config.image_size), generator=generator, dtype=torch.uint8)
    tokens = torch.randint(50, (3, model.inner.positional_embedding.shape[0]), generator=generator)
    batch = {"images": images, "tokens": tokens}
    whole = torch.autograd.grad(task.loss(model, batch).per_example.sum(), [layer.weight for layer in layers])
    for mine, theirs in zip(example_gradients(layers, lambda: task.loss(model, batch).per_example), whole, strict=True):
        torch.testing.assert_close(mine.sum(dim=0), theirs.flatten(), rtol=1e-3, atol=1e-6)
