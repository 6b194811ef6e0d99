"""From pairs of prompt and answer to token rows: split, deduplicate, tokenise, pad; cached on disk by content."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.base import SPLITS, FloatArray, IntArray, TaskError
from tasks.cache import content_key, load_arrays, save_arrays
from tasks.language.tokenizer import Vocabulary
from tasks.sources.documents import Document, stable_rank
from tasks.sources.pairs import Pair, PairSource
from tasks.sources.split import PORTIONS, SPLIT_SEED, split_origins

LAYOUT = 1  # raise when the way from pairs to rows changes, so that caches of the old way are not used
SEPARATOR = "\n"  # stands between a prompt and its answer

Tokens = npt.NDArray[np.integer]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """One split's examples, domain by domain, in random order within a domain.

    tokens: [n, context + 1], prompt, separator, answer and end token, padded right with end tokens. starts, ends: [n],
    the answer and its end token are ``tokens[i, starts[i]:ends[i]]``; what follows is padding. constant: [n] whether
    the answer is the most frequent training answer of its domain. pairs: what the examples were made from, in full;
    empty for the training split, where nobody asks.
    """

    tokens: Tokens
    starts: IntArray
    ends: IntArray
    constant: npt.NDArray[np.bool_]
    pairs: Sequence[Pair] = ()

    def __getitem__(self, indices: IntArray) -> Rows:
        """These examples alone."""
        return Rows(
            tokens=self.tokens[indices],
            starts=self.starts[indices],
            ends=self.ends[indices],
            constant=self.constant[indices],
            pairs=[self.pairs[index] for index in indices] if self.pairs else (),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A tokenised source. rows, labels: per split. train_shares, test_shares: [m], before the caps.

    given: whether the source itself says what is tested, so that the test shares say what is wanted.
    """

    domains: tuple[str, ...]
    rows: Mapping[str, Rows]
    labels: Mapping[str, IntArray]
    train_shares: FloatArray
    test_shares: FloatArray
    given: bool
    fingerprint: str
    provenance: Mapping[str, Any]
    tokenizer: Path


def prepare(
    source: PairSource,
    *,
    tokenizer: str,
    make_vocabulary: Callable[[Sequence[str]], Vocabulary],
    context: int,
    limits: Mapping[str, int],
    cache: Path,
) -> Prepared:
    """The rows of a source, from the cache where they lie there.

    tokenizer: what decides the tokenizer besides the training texts. make_vocabulary: training texts -> vocabulary.
    limits: most examples a domain, for ``validation`` and ``test``. Raises :class:`TaskError`.
    """
    key = content_key("pairs", LAYOUT, SPLIT_SEED, source.identity(), tokenizer, context, dict(limits))
    path, tokenizer_path = cache / "answers" / f"{key}.npz", cache / "answers" / f"{key}.tokenizer.json"
    stored = load_arrays(path)
    if stored is None or not tokenizer_path.exists():
        stored = _make(source, make_vocabulary, context, limits, tokenizer_path)
        save_arrays(path, **stored)
    about = json.loads(stored["about"].tobytes())
    return Prepared(
        domains=tuple(about["domains"]),
        rows={
            split: Rows(
                tokens=stored[f"{split}_tokens"],
                starts=stored[f"{split}_starts"].astype(np.int64),
                ends=stored[f"{split}_ends"].astype(np.int64),
                constant=stored[f"{split}_constant"],
                pairs=[Pair(**entry) for entry in about["pairs"].get(split, ())],
            )
            for split in SPLITS
        },
        labels={split: stored[f"{split}_labels"].astype(np.int64) for split in SPLITS},
        train_shares=stored["train_shares"],
        test_shares=stored["test_shares"],
        given=about["given"],
        fingerprint=about["fingerprint"],
        provenance=about["provenance"],
        tokenizer=tokenizer_path,
    )


def _make(
    source: PairSource,
    make_vocabulary: Callable[[Sequence[str]], Vocabulary],
    context: int,
    limits: Mapping[str, int],
    tokenizer_path: Path,
) -> dict[str, Any]:
    found = source.pairs()
    given = any(pair.split == "test" for pair in found)
    splits, removed = separate(assign(found))
    domains = sorted({pair.domain for pairs in splits.values() for pair in pairs})
    vocabulary = make_vocabulary([pair.prompt + SEPARATOR + pair.answer for pair in splits["train"]])
    vocabulary.save(tokenizer_path)
    favourite = favourites(splits["train"])
    everywhere = Counter(pair.answer for pair in splits["train"]).most_common(1)[0][0]
    arrays: dict[str, Any] = {}
    kept: dict[str, list[dict[str, Any]]] = {}
    shortened = {"prompts_shortened": 0, "answers_cut": 0}
    dtype = np.uint16 if vocabulary.size <= 65_536 else np.int32
    for split_index, split in enumerate(SPLITS):
        by_domain: dict[str, list[Pair]] = {domain: [] for domain in domains}
        for pair in splits[split]:
            by_domain[pair.domain].append(pair)
        chosen: list[Pair] = []
        for index, domain in enumerate(domains):
            members = by_domain[domain]
            # Stored in random order: the first few of a domain are a fair sample of it.
            order = np.random.default_rng([SPLIT_SEED, split_index, index]).permutation(len(members))
            chosen += [members[i] for i in order[: limits.get(split, len(members))]]
        prompts = vocabulary.encode([pair.prompt + SEPARATOR for pair in chosen])
        answers = vocabulary.encode([pair.answer for pair in chosen])
        separator = len(next(iter(vocabulary.encode([SEPARATOR]))))
        tokens = np.full((len(chosen), context + 1), vocabulary.end, dtype=dtype)
        spans = np.zeros((2, len(chosen)), dtype=np.int32)
        for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            line, start, whole, uncut = layout(prompt, answer, vocabulary.end, context, max(1, separator))
            tokens[row, : len(line)] = line
            spans[:, row] = start, len(line)
            shortened["prompts_shortened"] += not whole
            shortened["answers_cut"] += not uncut
        positions = {domain: index for index, domain in enumerate(domains)}
        arrays[f"{split}_tokens"] = tokens
        arrays[f"{split}_starts"], arrays[f"{split}_ends"] = spans
        arrays[f"{split}_labels"] = np.array([positions[pair.domain] for pair in chosen], dtype=np.int32)
        arrays[f"{split}_constant"] = np.array(
            [pair.answer == favourite.get(pair.domain, everywhere) for pair in chosen], dtype=np.bool_
        )
        if split != "train":
            kept[split] = [_plain(pair) for pair in chosen]
    fingerprint = _fingerprint(splits, arrays)
    for name, split in (("train_shares", "train"), ("test_shares", "test")):
        counts = Counter(pair.domain for pair in splits[split])
        arrays[name] = np.array([counts[domain] for domain in domains], dtype=np.float64) / max(1, counts.total())
    about = {
        "domains": domains,
        "given": given,
        "fingerprint": fingerprint,
        "pairs": kept,
        "provenance": {
            **source.provenance(),
            "pairs": {split: len(pairs) for split, pairs in splits.items()},
            "duplicates_removed": removed,
            **shortened,
        },
    }
    return {**arrays, "about": np.frombuffer(json.dumps(about, sort_keys=True).encode(), dtype=np.uint8)}


def layout(
    prompt: IntArray, answer: IntArray, end: int, context: int, separator: int
) -> tuple[IntArray, int, bool, bool]:
    """The row of one pair, where its answer starts, whether the prompt is whole and whether the answer is.

    prompt: [p] tokens whose last ``separator`` ones are the separator. answer: [a]. At most ``context`` + 1 tokens
    come back, the last of them only ever a target. A prompt that does not fit loses its beginning; the separator
    stays. An answer that does not fit beside it is cut, and then has no end token: nothing ends there.
    """
    room = context + 1 - min(separator, context)
    line = np.append(answer, end)[:room]
    kept = prompt[max(0, len(prompt) - (context + 1 - len(line))) :]
    return np.concatenate([kept, line]), len(kept), len(kept) == len(prompt), len(line) == len(answer) + 1


def normalised(prompt: str) -> str:
    """A prompt with every run of white space as one space: prompts equal in this sense are duplicates."""
    return " ".join(prompt.split())


def assign(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs, each with a split: its own, or one drawn by origin (80/10/10 within a domain).

    Where all pairs come with a split and one of the three is missing altogether, it is drawn by origin from the
    training pairs, a tenth of each domain; in domains without training pairs, validation takes half of the test
    pairs' origins. Raises :class:`TaskError`.
    """
    if not pairs:
        raise TaskError("the source holds no pairs of prompt and answer; give it data")
    unknown = next((pair.split for pair in pairs if pair.split not in ("", *SPLITS)), None)
    if unknown is not None:
        raise TaskError(f"unknown split {unknown!r}; the splits are {', '.join(SPLITS)}")
    loose = [pair for pair in pairs if not pair.split]
    if loose:
        drawn = split_origins(
            [Document(domain=pair.domain, origin=pair.origin, text=pair.prompt + pair.answer) for pair in loose]
        )
        return [pair if pair.split else replace(pair, split=drawn[pair.origin]) for pair in pairs]
    present = {pair.split for pair in pairs}
    if "train" not in present:
        raise TaskError("the source holds no training pairs; give it some, or leave the split of its pairs open")
    result = list(pairs)
    for missing in ("validation", "test"):
        if missing not in present:
            result = _carve(result, missing)
    return result


def _carve(pairs: Sequence[Pair], missing: str) -> list[Pair]:
    """The pairs, some of them moved to the missing split: whole origins in stable random order."""
    trained = {pair.domain for pair in pairs if pair.split == "train"}
    groups: dict[str, set[str]] = {}
    for pair in pairs:
        if pair.split == ("train" if pair.domain in trained else "test"):
            groups.setdefault(pair.domain, set()).add(pair.origin)
    moved: set[str] = set()  # origins: one that has pairs in several domains moves with all of them
    for domain, origins in groups.items():
        share = PORTIONS[missing] if domain in trained else 0.5
        order = sorted(origins, key=lambda name: stable_rank(f"{SPLIT_SEED}/{name}"))
        # At least one, but never the last one.
        count = min(max(1, round(share * len(order))), len(order) - 1)
        moved |= set(order[:count])
    return [
        replace(pair, split=missing)
        if pair.origin in moved and pair.split == ("train" if pair.domain in trained else "test")
        else pair
        for pair in pairs
    ]


def separate(pairs: Sequence[Pair]) -> tuple[dict[str, list[Pair]], dict[str, int]]:
    """Per split its pairs, none with the prompt of a later split's pair, and how many went for that reason.

    Test stays whole; validation loses what is in test, training what is in either. Raises :class:`TaskError` where
    nothing is left to train on.
    """
    splits = {split: [pair for pair in pairs if pair.split == split] for split in SPLITS}
    seen: set[str] = set()
    removed: dict[str, int] = {}
    for split in reversed(SPLITS):
        kept = [pair for pair in splits[split] if normalised(pair.prompt) not in seen]
        removed[split] = len(splits[split]) - len(kept)
        seen |= {normalised(pair.prompt) for pair in kept}
        splits[split] = kept
        if not kept:
            raise TaskError(f"no pairs are left in the {split} split; give the source more distinct prompts")
    del removed["test"]
    return splits, removed


def favourites(pairs: Sequence[Pair]) -> dict[str, str]:
    """Domain -> its most frequent answer; of equally frequent ones the first in alphabetical order."""
    counts: dict[str, Counter[str]] = {}
    for pair in pairs:
        counts.setdefault(pair.domain, Counter())[pair.answer] += 1
    return {domain: min(count, key=lambda answer: (-count[answer], answer)) for domain, count in counts.items()}


def _plain(pair: Pair) -> dict[str, Any]:
    names = ("domain", "origin", "prompt", "answer", "split")
    return {**{name: getattr(pair, name) for name in names}, "about": dict(pair.about)}


def _fingerprint(splits: Mapping[str, Sequence[Pair]], arrays: Mapping[str, np.ndarray]) -> str:
    total = hashlib.sha256()
    for split in SPLITS:
        for pair in splits[split]:
            digests = [hashlib.sha256(text.encode()).hexdigest() for text in (pair.prompt, pair.answer)]
            total.update(json.dumps([split, pair.domain, *digests]).encode())
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name], dtype="<i4")
        total.update(f"{name}{values.shape}".encode())
        total.update(values.tobytes())
    return total.hexdigest()[:32]
