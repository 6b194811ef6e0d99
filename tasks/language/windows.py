"""From documents to token windows: deduplicate, split, tokenise, cut; cached on disk by content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.base import SPLITS, IntArray, TaskError
from tasks.cache import content_key, load_arrays, save_arrays
from tasks.language.tokenizer import Vocabulary
from tasks.sources.base import Source
from tasks.sources.dedupe import distinct
from tasks.sources.documents import Document
from tasks.sources.split import SPLIT_SEED

LAYOUT = 1  # raise when the way from documents to windows changes, so that caches of the old way are not used

Tokens = npt.NDArray[np.integer]


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """A tokenised corpus. tokens: per split [n, context + 1]; labels: per split [n]; fingerprint: of texts and tokens.

    byte_lengths: [vocabulary], see :class:`tasks.language.tokenizer.Vocabulary`. tokenizer: where the trained one
    lies.
    """

    domains: tuple[str, ...]
    tokens: Mapping[str, Tokens]
    labels: Mapping[str, IntArray]
    byte_lengths: IntArray
    fingerprint: str
    provenance: Mapping[str, Any]
    tokenizer: Path


def prepare(
    source: Source,
    *,
    tokenizer: str,
    make_vocabulary: Callable[[Sequence[str]], Vocabulary],
    context: int,
    limits: Mapping[str, int],
    cache: Path,
) -> Windows:
    """The windows of a source, from the cache where they lie there.

    tokenizer: what decides the tokenizer besides the training texts. make_vocabulary: training texts -> vocabulary.
    limits: most windows a domain, for ``validation`` and ``test``. Raises :class:`TaskError`.
    """
    key = content_key("windows", LAYOUT, SPLIT_SEED, source.identity(), tokenizer, context, dict(limits))
    path, tokenizer_path = cache / "text" / f"{key}.npz", cache / "text" / f"{key}.tokenizer.json"
    stored = load_arrays(path)
    if stored is None or not tokenizer_path.exists():
        stored = _make(source, make_vocabulary, context, limits, tokenizer_path)
        save_arrays(path, **stored)
    about = json.loads(str(stored["about"]))
    return Windows(
        domains=tuple(about["domains"]),
        tokens={split: stored[f"{split}_tokens"] for split in SPLITS},
        labels={split: stored[f"{split}_labels"].astype(np.int64) for split in SPLITS},
        byte_lengths=stored["byte_lengths"],
        fingerprint=about["fingerprint"],
        provenance=about["provenance"],
        tokenizer=tokenizer_path,
    )


def _make(
    source: Source,
    make_vocabulary: Callable[[Sequence[str]], Vocabulary],
    context: int,
    limits: Mapping[str, int],
    tokenizer_path: Path,
) -> dict[str, Any]:
    documents, removed = distinct(source.documents())
    splits = source.split(documents)
    vocabulary = make_vocabulary([document.text for document in documents if splits[document.origin] == "train"])
    vocabulary.save(tokenizer_path)
    domains = sorted({document.domain for document in documents})
    arrays: dict[str, Any] = {"byte_lengths": vocabulary.byte_lengths}
    dtype = np.uint16 if vocabulary.size <= 65_536 else np.int32
    for split_index, split in enumerate(SPLITS):
        parts = []
        for index, domain in enumerate(domains):
            texts = [item.text for item in documents if item.domain == domain and splits[item.origin] == split]
            windows = cut(list(vocabulary.encode(texts)), vocabulary.end, context).astype(dtype)
            if len(windows) == 0 and not (split == "test" and domain in source.untested):
                raise TaskError(
                    f"domain {domain!r} has less than one window of {context} tokens in the {split} split; "
                    "give it more text or lower context"
                )
            if split in limits:
                # Stored in random order: the first few of a domain are a fair sample of it.
                rng = np.random.default_rng([SPLIT_SEED, split_index, index])
                windows = windows[rng.permutation(len(windows))[: limits[split]]]
            parts.append(windows)
        arrays[f"{split}_tokens"] = np.concatenate(parts)
        arrays[f"{split}_labels"] = np.repeat(np.arange(len(domains), dtype=np.int32), [len(part) for part in parts])
    about = {
        "domains": domains,
        "fingerprint": _fingerprint(documents, splits, arrays),
        "provenance": {**source.provenance(), "documents": len(documents), "duplicates_removed": removed},
    }
    return {**arrays, "about": np.array(json.dumps(about, sort_keys=True))}


def cut(documents: Sequence[IntArray], end: int, context: int) -> IntArray:
    """[n, context + 1] windows of the stream ``end doc end doc ... end``.

    Neighbours overlap by one token, so that every token after the first is a target exactly once, but for a remainder
    shorter than a window.
    """
    pieces = [np.array([end], dtype=np.int64)]
    for document in documents:
        pieces += [document, pieces[0]]
    stream = np.concatenate(pieces)
    count = (len(stream) - 1) // context
    return stream[np.arange(count)[:, None] * context + np.arange(context + 1)]


def _fingerprint(documents: Sequence[Document], splits: Mapping[str, str], arrays: Mapping[str, np.ndarray]) -> str:
    total = hashlib.sha256()
    for document in documents:
        digest = hashlib.sha256(document.text.encode()).hexdigest()
        total.update(json.dumps([document.domain, document.origin, splits[document.origin], digest]).encode())
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name], dtype="<i4")
        total.update(f"{name}{values.shape}".encode())
        total.update(values.tobytes())
    return total.hexdigest()[:32]
