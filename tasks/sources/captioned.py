"""What every reader of images with captions gives: where the image lies, and what is said of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tasks.base import SPLITS, IntArray, TaskError
from tasks.sources.documents import stable_rank

SPLIT_SEED = 0
LARGE_GROUP = 0.01  # share of all pairs; a larger group is not drawn, it trains
OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Captioned:
    """One image with its captions.

    origin: what the image is a version of; images of one origin share a split and count once together in judgement.
    captions: those to train on, each an example of its own; caption: the one to be judged on. file, offset, size: where
    the encoded bytes lie; ``file`` is a path from the source's root. digest: 32 hex digits that equal images share, of
    the decoded pixels or of the encoded bytes. label: its class, as words, for zero-shot classification; empty: none.
    """

    domain: str
    origin: str
    captions: tuple[str, ...]
    caption: str
    file: str
    offset: int
    size: int
    digest: str
    label: str = ""


class CaptionedSource(ABC):
    """A reader of images with captions. ``target`` maps domain to target share; ``None``: the train shares.

    templates: sentences with ``{}`` for a class's words, in which zero-shot classes are named. domains_are_classes:
    whether an image's class is its domain (``other`` for those that are gathered there), whatever its label.
    """

    target: Mapping[str, float] | None = None
    templates: tuple[str, ...] = ("{}", "a picture of {}")
    domains_are_classes: bool = False

    @abstractmethod
    def root(self) -> Path:
        """The folder that the images' files are named from; found anew at every load, since it may have moved."""

    @abstractmethod
    def identity(self) -> str:
        """Hash of the raw contents and of whatever else decides what :meth:`images` returns; quick."""

    @abstractmethod
    def images(self) -> Iterator[Captioned]:
        """All images in an order that depends on the contents alone; read as a stream. Raises :class:`TaskError`."""

    @abstractmethod
    def provenance(self) -> dict[str, Any]:
        """Where the images came from, as JSON-able data; complete once :meth:`images` is exhausted."""


def groups(*keys: Sequence[str]) -> IntArray:
    """[n] group of every image: images that agree in any key (origin, image, caption) are in one, also by a chain."""
    n = len(keys[0])
    rows, columns, nodes = [], [], n
    for key in keys:
        numbers: dict[str, int] = {}  # no array of strings: one long caption would widen every row
        inverse = np.array([numbers.setdefault(value, len(numbers)) for value in key], dtype=np.int64)
        rows.append(np.arange(n))
        columns.append(inverse + nodes)
        nodes += len(numbers)
    left, right = np.concatenate(rows), np.concatenate(columns)
    graph = coo_array((np.ones(len(left), dtype=np.int8), (left, right)), shape=(nodes, nodes))
    return np.asarray(connected_components(graph, directed=False)[1][:n], dtype=np.int64)


def split_groups(group: IntArray, origins: Sequence[str], domains: IntArray, m: int, holdout: float) -> IntArray:
    """[n] index into ``SPLITS``; ``holdout`` of every domain's images goes to validation and as much to test.

    Groups are met in stable random order (a hash of their first origin's name) and each goes where its domains lack
    most of their portion. Groups of more than one per cent of all images train: a caption that a thousand images
    share says little in a test.
    """
    portions = np.array([1 - 2 * holdout, holdout, holdout])
    totals = np.bincount(domains, minlength=m).astype(np.float64)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    members = np.split(order, starts[1:])
    ranks = [stable_rank(f"{SPLIT_SEED}/{min(origins[i] for i in each)}") for each in members]
    have = np.zeros((len(SPLITS), m))
    result = np.zeros(len(group), dtype=np.int64)
    for index in sorted(range(len(members)), key=ranks.__getitem__):
        each = members[index]
        touched, counts = np.unique(domains[each], return_counts=True)
        chosen = 0
        if len(each) <= max(1, LARGE_GROUP * len(group)):
            lack = 1 - have[:, touched] / (portions[:, None] * totals[touched])
            chosen = int(np.argmax(lack @ (counts / totals[touched])))  # the first of equals: train
        result[each] = chosen
        have[chosen, touched] += counts
    return result


def gather_small(names: Sequence[str], smallest: int) -> list[str]:
    """Domains of fewer than ``smallest`` images become one, called ``other``."""
    small = {name for name, count in Counter(names).items() if count < smallest}
    if len(small) < 2:  # a single small domain has no company
        return list(names)
    return [OTHER if name in small else name for name in names]


def check_domains(domains: Sequence[str], labels: IntArray, splits: IntArray) -> None:
    """Raise :class:`TaskError` where a domain has no image in one of the splits."""
    for index, domain in enumerate(domains):
        for number, split in enumerate(SPLITS):
            if not np.any((labels == index) & (splits == number)):
                raise TaskError(
                    f"domain {domain!r} has no image in the {split} split; give it more images of different origins, "
                    "or raise smallest_domain so that it joins others"
                )
