"""Vectors of examples for mixers: which examples, what they cost, and where the cache answers."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from harness.experiment import plain
from harness.prepared import Prepared, read_only
from harness.seeds import derive_seed
from mixers.base import ExampleVectors, IntArray

SPLITS = ("train", "validation")


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """flops: of embedding both splits. seconds_elsewhere: those of the splits that a cache answered, when made."""

    vectors: ExampleVectors
    flops: float
    seconds_elsewhere: float


def first_of_each(groups: IntArray, count: int, examples: int, seed: int) -> IntArray:
    """Ascending indices of the first ``examples`` of each of ``count`` groups in the seed's random order.

    groups: [n] of each example, -1 where it is left out. The order depends on n and the seed alone.
    """
    order = np.random.default_rng(seed).permutation(len(groups))
    chosen = [order[groups[order] == j][:examples] for j in range(count)]
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def embedded(prepared: Prepared, examples: int, embedder: str) -> Embedded:
    """Vectors of up to ``examples`` of each training domain and target: the same ones in every call and trial.

    Whole splits are embedded, as tasks do, and their cache is that of regroupers. A proxy run's are the main task's: a
    model of another size changes nothing about the data.
    """
    partition, problem, rows = prepared.partition, prepared.problem, {}
    flops = elsewhere = 0.0
    for split, groups, count in (
        ("train", partition.train, len(problem.domains)),
        ("validation", partition.validation, len(problem.targets)),
    ):
        chosen = first_of_each(groups, count, examples, derive_seed(0, f"{split} subset"))
        made = prepared.main_task.embed(prepared.corpus, split, embedder)
        flops += made.flops
        elsewhere += made.seconds if made.cached else 0.0
        rows[split] = (read_only(np.array(made.vectors[chosen], dtype=np.float32)), read_only(groups[chosen]))
    vectors = ExampleVectors(
        train=rows["train"][0],
        domains=rows["train"][1],
        validation=rows["validation"][0],
        targets=rows["validation"][1],
        embedder=made.embedder,
    )
    return Embedded(vectors=vectors, flops=flops, seconds_elsewhere=elsewhere)


_COUNTED: dict[str, float] = {}


def embedding_flops(prepared: Prepared, embedder: str) -> float:
    """What :func:`embedded` costs. A task knows that only once it has embedded, so it does, into its cache."""
    task = prepared.main_task
    key = json.dumps([task.name, plain(task.config), prepared.corpus.fingerprint, embedder], sort_keys=True)
    if key not in _COUNTED:
        _COUNTED[key] = sum(task.embed(prepared.corpus, split, embedder).flops for split in SPLITS)
    return _COUNTED[key]
