"""Vectors of images and captions for regroupers."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.cluster import KMeans

from tasks import embedding
from tasks.base import SPLITS, TaskError
from tasks.clip.images import Images, Places
from tasks.embedders.image import EfficientNet, PixelColours, available
from tasks.multimodal import Multimodal
from tasks.sources.emoji import Emoji

from .test_multimodal import needs_emoji
from .test_webdataset import corpus_folder, make

needs_weights = pytest.mark.skipif(not available(), reason="the image embedder of the demo extra is not installed")
NAMES = ["image:pixels", pytest.param("image", marks=needs_weights)]
COLOURS = {"red": (220, 20, 20), "blue": (20, 20, 220)}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    """Thirty noisy squares, red and blue in turn."""
    path = tmp_path_factory.mktemp("images") / "all.bin"
    raws = []
    for number in range(30):
        noise = np.random.default_rng(number).integers(-20, 20, (16, 16, 3))
        pixels = np.clip(np.array(list(COLOURS.values())[number % 2]) + noise, 0, 255).astype(np.uint8)
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, "PNG")
        raws.append(out.getvalue())
    path.write_bytes(b"".join(raws))
    sizes = np.array([len(raw) for raw in raws])
    places = Places(files=(str(path),), file=np.zeros(30, dtype=np.int64), offset=np.cumsum(sizes) - sizes, size=sizes)
    return Images(places, size=16, framing="pad")


def indices(split: str) -> np.ndarray:
    """Every training image twice, as of two captions."""
    return {"train": np.repeat(np.arange(18), 2), "validation": np.arange(18, 24), "test": np.arange(24, 30)}[split]


@pytest.mark.parametrize("name", NAMES)
def test_vectors_are_deterministic_and_a_cache_hit_equals_a_miss(name: str, images: Images, tmp_path: Path) -> None:
    def ask(cache: str, split: str = "train") -> embedding.Embeddings:
        return embedding.embed_images(
            name, images=images, indices=indices, content="c", split=split, cache=tmp_path / cache
        )

    torch.manual_seed(5)
    state = torch.get_rng_state()
    miss, again, hit = ask("one"), ask("two"), ask("one")
    assert torch.equal(torch.get_rng_state(), state)
    assert [miss.cached, again.cached, hit.cached] == [False, False, True]
    assert np.array_equal(miss.vectors, again.vectors)
    assert np.array_equal(miss.vectors, hit.vectors)
    assert (hit.flops, hit.seconds, hit.embedder) == (miss.flops, miss.seconds, miss.embedder)
    assert miss.flops > 0
    assert miss.embedder.startswith(name)
    assert miss.vectors.shape[0] == 36
    assert np.array_equal(miss.vectors[0], miss.vectors[1]), "one image, two captions"
    assert np.linalg.norm(miss.vectors, axis=1) == pytest.approx(1.0, abs=1e-5)
    similar = miss.vectors[::2] @ miss.vectors[::2].T
    assert similar[::2, ::2].mean() > similar[::2, 1::2].mean() + 0.05, "images of one colour are closer"
    assert ask("one", "test").vectors.shape[0] == 6


@needs_weights
def test_the_network_knows_a_flower() -> None:
    """The renamed weights and the input's scale are right: ImageNet's class 985 is the daisy."""
    from sklearn.datasets import load_sample_images

    embedder = EfficientNet()
    flower = load_sample_images().images[1]
    square = Image.fromarray(flower[:, 107:534]).resize((224, 224), Image.Resampling.BICUBIC)
    with torch.no_grad():
        scores = embedder._model.get_classifier()(embedder.features(np.asarray(square)[None]))
    assert int(scores.argmax()) == 985


@needs_weights
def test_flops_are_counted_an_image() -> None:
    one, three = (EfficientNet().encode(np.zeros((n, 112, 112, 3), dtype=np.uint8))[1] for n in (1, 3))
    assert three == 3 * one
    assert 1e8 < one < 4e8, "0.78 GFLOPs at 224 pixels, a quarter at 112"


def test_components_see_colours_not_order() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 12, 12, 3), dtype=np.uint8)
    first, second = PixelColours(), PixelColours()
    assert first.fit(pixels) > 0
    second.fit(pixels[::-1])
    assert np.allclose(first.encode(pixels)[0], second.encode(pixels)[0], atol=1e-4)


def test_a_task_embeds_images_and_captions(tmp_path: Path) -> None:
    task = make(corpus_folder(tmp_path / "data"), tmp_path / "cache", embedder="image:pixels")
    corpus = task.load()
    for name, start in (("auto", "image:pixels"), ("caption:tfidf", "tfidf")):
        for split in SPLITS:
            made = task.embed(corpus, split, name)
            assert made.embedder.startswith(start)
            assert len(made.vectors) == len(corpus.labels[split])
    assert task.modalities() == ("image:pixels", embedding.resolve_multimodal("caption"))
    with pytest.raises(TaskError, match="no split 'dev'"):
        task.embed(corpus, "dev", "auto")


@needs_emoji
def test_captions_are_embedded_as_they_are_judged(tmp_path: Path) -> None:
    """Else clusters would be cut by the forms of training captions, and held-out pairs would all lie in one of them."""
    preset = Multimodal.presets["demo"]
    task = Multimodal(Multimodal.configure(preset, {"image_size": 4, "shift": 0}), preset, tmp_path)
    corpus = task.load()
    vectors = {split: task.embed(corpus, split, "caption:tfidf").vectors for split in SPLITS}
    image = corpus.examples["train"].image
    same = np.flatnonzero(np.diff(image) == 0)
    assert len(same) > 1000
    assert np.array_equal(vectors["train"][same], vectors["train"][same + 1]), "one vector an image"
    found = list(Emoji().images())
    for split in SPLITS:
        some = corpus.examples[split].image[:50]
        assert task._prepared().captions.of(some) == [found[i].caption for i in some]
    labels = KMeans(8, n_init=1, random_state=0).fit(vectors["train"])
    counts = np.bincount(labels.predict(np.concatenate([vectors["validation"], vectors["test"]])), minlength=8)
    assert counts.min() > 0, "every cluster has held-out pairs"


@pytest.mark.parametrize("name", ["pictures", "images", "tfidf", ""])
def test_unknown_embedders_are_refused(name: str) -> None:
    with pytest.raises(TaskError, match="choose auto, image, image:pixels, caption or caption:<text embedder>"):
        embedding.is_image(embedding.resolve_multimodal(name))
    with pytest.raises(TaskError, match="unknown embedder 'x'"):
        embedding.make(embedding.resolve_multimodal("caption:x").partition(":")[2])


def test_auto_is_named_in_the_config() -> None:
    config = Multimodal.configure(Multimodal.presets["nano"], {})
    assert config.embedder == ("image" if available() else "image:pixels")
    caption = Multimodal.configure(Multimodal.presets["nano"], {"embedder": "caption"}).embedder
    assert caption in ("caption:static", "caption:tfidf")


def test_pairs_have_an_embedder_for_each_side() -> None:
    images, captions = embedding.modalities("auto")
    assert embedding.modalities("image:pixels") == ("image:pixels", captions)
    assert embedding.modalities("caption:tfidf") == (images, "caption:tfidf")
    assert embedding.is_image(images)
    assert not embedding.is_image(captions)
