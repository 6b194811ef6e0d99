"""Remove exact and near duplicates, so that no text is learnt in one split and asked for in another.

MinHash over shingles of five words (Broder 1997) with banding, every candidate pair then checked with the true
Jaccard similarity. Whole documents are compared; a passage shared by two otherwise different files stays.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from tasks.sources.documents import Document

SIMILAR = 0.8  # Jaccard similarity of shingles from which on two documents count as one
_SHINGLE = 5  # words
_BANDS, _ROWS = 8, 4  # a pair at 0.8 is a candidate with probability 0.985, at 0.5 with 0.4
_WORD = re.compile(r"\w+")

Hashes = npt.NDArray[np.uint64]


def distinct(documents: Sequence[Document]) -> tuple[list[Document], dict[str, int]]:
    """The documents without those that (nearly) repeat an earlier one, in order, and how many went for which reason."""
    kept: list[Document] = []
    shingles: list[Hashes] = []
    exact: set[bytes] = set()
    bands: dict[tuple[int, bytes], list[int]] = {}
    removed = {"exact": 0, "near": 0}
    for document, words in zip(documents, _word_hashes(document.text for document in documents), strict=True):
        key = hashlib.sha256(" ".join(document.text.split()).casefold().encode()).digest()
        if key in exact:
            removed["exact"] += 1
            continue
        grams = _shingles(words)
        keys = _band_keys(grams)
        candidates = sorted({index for band in keys for index in bands.get(band, ())})
        if any(_jaccard(grams, shingles[index]) >= SIMILAR for index in candidates):
            removed["near"] += 1
            continue
        exact.add(key)
        for band in keys:
            bands.setdefault(band, []).append(len(kept))
        kept.append(document)
        shingles.append(grams)
    return kept, removed


def _word_hashes(texts: Iterable[str]) -> Iterable[Hashes]:
    memory: dict[str, int] = {}
    for text in texts:
        words = _WORD.findall(text.lower())
        for word in set(words).difference(memory):
            memory[word] = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
        yield np.fromiter((memory[word] for word in words), dtype=np.uint64, count=len(words))


def _shingles(words: Hashes) -> Hashes:
    """Sorted distinct hashes of all runs of five words; of the whole text where it is shorter."""
    width = min(_SHINGLE, len(words))
    if width == 0:
        return np.zeros(0, dtype=np.uint64)
    mixed = np.zeros(len(words) - width + 1, dtype=np.uint64)
    for offset in range(width):
        # A linear recurrence modulo 2^64 with an odd multiplier: order matters, and nothing is lost at each step.
        mixed = mixed * np.uint64(0x9E3779B97F4A7C15) + words[offset : offset + len(mixed)]
    return np.unique(mixed ^ (mixed >> np.uint64(29)))


def _band_keys(grams: Hashes) -> list[tuple[int, bytes]]:
    if len(grams) == 0:
        return []
    rng = np.random.default_rng(20_250_101)
    multipliers = rng.integers(0, 2**63, size=_BANDS * _ROWS, dtype=np.uint64) | np.uint64(1)
    lowest = np.array([((grams * factor) >> np.uint64(16)).min() for factor in multipliers], dtype=np.uint64)
    return [(band, lowest[band * _ROWS : (band + 1) * _ROWS].tobytes()) for band in range(_BANDS)]


def _jaccard(first: Hashes, second: Hashes) -> float:
    shared = len(np.intersect1d(first, second, assume_unique=True))
    return shared / (len(first) + len(second) - shared)
