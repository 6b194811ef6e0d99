"""From images with captions to a corpus: split, tokenise, remember where images lie; cached on disk by content."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.base import SPLITS, FloatArray, IntArray, TaskError
from tasks.cache import content_key, load_arrays, save_arrays
from tasks.clip.images import Places
from tasks.clip.tokens import Tokens, Vocabulary
from tasks.sources.captioned import (
    SPLIT_SEED,
    Captioned,
    CaptionedSource,
    check_domains,
    gather_small,
    groups,
    split_groups,
)

LAYOUT = 3  # raise when the way from images to a corpus changes, so that caches of the old way are not used


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """One split's examples. tokens: [n, context]; image: [n] index into the images; label: [n] class, -1: none.

    weight: [n] what an example counts for in judgement: one by the number of the split's pairs of its origin, so that
    an origin counts once however many versions of it there are.
    """

    tokens: Tokens
    image: IntArray
    label: IntArray
    domain: IntArray
    weight: FloatArray

    def __getitem__(self, indices: IntArray) -> Pairs:
        """These examples alone, at the weights that they have among all."""
        return Pairs(**{item.name: getattr(self, item.name)[indices] for item in fields(self)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Captions:
    """The caption that every image is judged on. text: UTF-8, one after the other; ends: [images] where each ends."""

    text: npt.NDArray[np.uint8]
    ends: IntArray

    def of(self, images: IntArray) -> list[str]:
        """The captions of these images."""
        starts = np.concatenate([[0], self.ends[:-1]])
        places = zip(starts[images].tolist(), self.ends[images].tolist(), strict=True)
        return [self.text[a:b].tobytes().decode() for a, b in places]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A corpus of images with captions. classes: words of the zero-shot classes; key: its name in the cache."""

    domains: tuple[str, ...]
    pairs: Mapping[str, Pairs]
    places: Places
    captions: Captions
    classes: tuple[str, ...]
    kept: Tokens | None
    fingerprint: str
    provenance: Mapping[str, Any]
    key: str


def prepare(
    source: CaptionedSource,
    *,
    tokenizer: Vocabulary,
    identity: Sequence[Any],
    compact: bool,
    holdout: float,
    smallest_domain: int,
    limits: Mapping[str, int],
    cache: Path,
) -> Prepared:
    """The corpus of a source, from the cache where it lies there.

    tokenizer: of all token ids; compact: keep only those of the captions, of all splits. identity: what else decides
    the tokens. holdout: share of every domain's images for validation and as much for test. limits: most images a
    domain, for ``validation`` and ``test``; 0: all. About 250 bytes a pair are held in memory, while preparing about
    2 kB, and no image.
    """
    settings = (SPLIT_SEED, list(identity), compact, holdout, smallest_domain, dict(limits))
    key = content_key("captioned", LAYOUT, source.identity(), *settings)
    path = cache / "multimodal" / f"{key}.npz"
    stored = load_arrays(path)
    if stored is None:
        stored = _make(source, tokenizer, compact, holdout, smallest_domain, limits)
        save_arrays(path, **stored)
    about = json.loads(str(stored["about"]))
    root = source.root()
    names = ("tokens", "image", "label", "domain", "weight")
    return Prepared(
        domains=tuple(about["domains"]),
        pairs={split: Pairs(**{name: stored[f"{split}_{name}"] for name in names}) for split in SPLITS},
        places=Places(
            files=tuple(str(root / name) for name in about["files"]),
            file=stored["in_file"],
            offset=stored["offset"],
            size=stored["size"],
        ),
        captions=Captions(text=stored["text"], ends=stored["ends"]),
        classes=tuple(about["classes"]),
        kept=stored["kept"] if compact else None,
        fingerprint=about["fingerprint"],
        provenance=about["provenance"],
        key=key,
    )


def _make(
    source: CaptionedSource,
    tokenizer: Vocabulary,
    compact: bool,
    holdout: float,
    smallest_domain: int,
    limits: Mapping[str, int],
) -> dict[str, Any]:
    found = list(source.images())
    if not found:
        raise TaskError("the source holds no image with a caption")
    names = gather_small([item.domain for item in found], smallest_domain)
    domains, labels = _numbered(names)
    words = names if source.domains_are_classes else [item.label for item in found]
    classes = sorted(set(words) - {""})
    number = {name: index for index, name in enumerate(classes)}
    group = groups(
        [item.origin for item in found], [item.digest for item in found], [item.caption.lower() for item in found]
    )
    splits = split_groups(group, [item.origin for item in found], labels, len(domains), holdout)
    check_domains(domains, labels, splits)

    held = {found[i].caption.lower() for i in np.flatnonzero(splits > 0)}
    rows: dict[str, list[tuple[int, str]]] = {}
    for index, split in enumerate(SPLITS):
        chosen = np.flatnonzero(splits == index)
        if limits.get(split, 0):
            chosen = _some(chosen, labels, limits[split], index)
        rows[split] = [
            (int(i), caption)
            for i in chosen
            for caption in (_trained_on(found[i], held) if split == "train" else (found[i].caption,))
        ]
    ids = {split: tokenizer.full([text for _, text in pairs]) for split, pairs in rows.items()}
    vocabulary = tokenizer.compact(np.concatenate([*ids.values()])) if compact else tokenizer
    texts = [item.caption.encode() for item in found]
    arrays: dict[str, Any] = {
        "text": np.frombuffer(b"".join(texts), dtype=np.uint8),
        "ends": np.cumsum([len(text) for text in texts]),
    }
    _, origins = _numbered([item.origin for item in found])
    for split, pairs in rows.items():
        image = np.array([i for i, _ in pairs], dtype=np.int64)
        tokens = vocabulary.renumbered(ids[split])
        arrays |= {
            f"{split}_tokens": tokens.astype(np.uint16 if tokens.max(initial=0) < 65_536 else np.int32),
            f"{split}_image": image,
            f"{split}_label": np.array([number.get(words[i], -1) for i in image], dtype=np.int64),
            f"{split}_domain": labels[image],
            f"{split}_weight": 1 / np.bincount(origins[image])[origins[image]],
        }
    files, file = _numbered([item.file for item in found])
    about = {
        "domains": domains,
        "classes": classes,
        "files": files,
        "fingerprint": _fingerprint([item.digest for item in found], splits, arrays, (domains, classes)),
        "provenance": {
            **source.provenance(),
            "images": len(found),
            "groups": len(np.unique(group)),
            "images_by_domain": dict(sorted(Counter(names).items())),
        },
    }
    return {
        **arrays,
        "in_file": file,
        "offset": np.array([item.offset for item in found], dtype=np.int64),
        "size": np.array([item.size for item in found], dtype=np.int64),
        "kept": vocabulary.kept if vocabulary.kept is not None else np.zeros(0, dtype=np.int64),
        "about": np.array(json.dumps(about, sort_keys=True)),
    }


def _trained_on(item: Captioned, held: set[str]) -> Iterable[str]:
    """A training image's captions without those that a held-out image is judged on: two things may share a name.

    Where none is left the image trains on its own judged caption, which no held-out image has.
    """
    return [caption for caption in item.captions if caption.lower() not in held] or (item.caption,)


def _numbered(names: Sequence[str]) -> tuple[list[str], IntArray]:
    """Sorted distinct names, and [n] the index of each."""
    values = sorted(set(names))
    number = {value: index for index, value in enumerate(values)}
    return values, np.array([number[name] for name in names], dtype=np.int64)


def _some(chosen: IntArray, labels: IntArray, limit: int, salt: int) -> IntArray:
    """At most ``limit`` images of every domain, drawn from a fixed seed; in their order."""
    kept = []
    for domain in np.unique(labels[chosen]):
        mine = chosen[labels[chosen] == domain]
        rng = np.random.default_rng([SPLIT_SEED, salt, int(domain)])
        kept.append(rng.permutation(mine)[:limit])
    return np.sort(np.concatenate(kept))


def _fingerprint(
    digests: Sequence[str], splits: IntArray, arrays: Mapping[str, Any], names: tuple[list[str], list[str]]
) -> str:
    total = hashlib.sha256(json.dumps(names).encode())
    for digest in digests:
        total.update(digest.encode())
    total.update(np.ascontiguousarray(splits, dtype="<i8").tobytes())
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name], dtype="<f8" if arrays[name].dtype.kind == "f" else "<i8")
        total.update(f"{name}{values.shape}".encode())
        total.update(values.tobytes())
    return total.hexdigest()[:32]
