"""Vectors of texts for regroupers: which embedder, and the cache in front of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tasks.base import SPLITS, Embeddings, TaskError
from tasks.cache import content_key, load_arrays, save_arrays
from tasks.embedders.base import Embedder
from tasks.embedders.minilm import MiniLM
from tasks.embedders.sentence import Sentence
from tasks.embedders.static import Static
from tasks.embedders.tfidf import Tfidf

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


def make(embedder: str) -> Embedder:
    """The embedder of this name. Raises :class:`TaskError` where it is unknown or its package is missing."""
    if embedder == "static":
        return Static()
    if embedder == "minilm":
        return MiniLM()
    if embedder == "tfidf":
        return Tfidf()
    if embedder.startswith("st:") and len(embedder) > 3:
        return Sentence(embedder[3:])
    raise TaskError(f"unknown embedder {embedder!r}; choose auto, static, minilm, tfidf or st:<model>")


def embed(embedder: str, *, texts: Callable[[str], Sequence[str]], content: str, split: str, cache: Path) -> Embeddings:
    """Vectors of one split's texts.

    texts: split -> its texts, called only where the cache has no answer. content: hash of the texts of all splits.
    An embedder that is fitted on the training texts encodes all splits at once; its fit is billed with ``train``.
    """
    made = make(resolve(embedder))

    def path(part: str) -> Path:
        return cache / "embeddings" / f"{content_key(LAYOUT, made.name, content, part)}.npz"

    stored = load_arrays(path(split))
    cached = stored is not None
    if stored is None:
        spent = 0.0
        began = time.perf_counter()
        if made.fitted:
            spent = made.fit(texts("train"))
        for part in SPLITS if made.fitted else (split,):
            vectors, flops = made.encode(texts(part))
            seconds = time.perf_counter() - began
            bill = {"flops": flops + (spent if part == "train" else 0.0), "seconds": seconds}
            save_arrays(path(part), vectors=vectors, **bill)
            if part == split:
                stored = {"vectors": vectors, **bill}  # type: ignore[dict-item]
            began = time.perf_counter()
    assert stored is not None
    return Embeddings(
        vectors=stored["vectors"],
        embedder=made.name,
        flops=float(stored["flops"]),
        seconds=float(stored["seconds"]),
        cached=cached,
    )
