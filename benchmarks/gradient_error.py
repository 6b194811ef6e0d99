"""What the sketch costs in truth: errors of the Gram matrix and of the mixture, on the very signals of one run.

    python -m benchmarks.gradient_error --domains 7 64 --sizes 256x32 128x0

The text task's ``nano`` model is trained on a uniform mixture, over its own domains (m = 7) and over k-means clusters
of the same data. At every round's end the exact per-domain sums are read and sketched with fresh signs; the sketch is
linear, so this is what it would have accumulated itself. R&B's v = G p / |G p| and its mixture softmax(3 v) are made
from both, p being the task's target. Beside it stands the total variation between the exact mixtures of two seeds of
the same round: an error well below that is not what decides a run. Takes some minutes on one core, and downloads
nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tabulate import tabulate
from torch import Tensor

from harness.caches import cache_root
from harness.gradients.sketch import SketchedSums
from harness.ledger import Ledger
from harness.partitions import PaidRegroupLab
from harness.prepared import target_shares
from harness.sampler import DomainSampler
from harness.trainer import Trainer
from mixers.base import Array, DomainGradients, IntArray, Mixture
from mixers.regroup.base import Grouping
from mixers.regroup.kmeans import KMeans
from mixers.rnb import balance
from mixers.simplex import total_variation
from tasks.base import Corpus
from tasks.text import Text, TextConfig

LAM = 3.0


class Study:
    """One partition of the text task: its labels, its target, and training rounds on it."""

    def __init__(self, m: int, cache: Path) -> None:
        self.task = Text(TextConfig(), Text.presets["nano"], cache)
        self.corpus: Corpus = self.task.load()
        original = self.corpus.domains
        train, validation = self.corpus.labels["train"], self.corpus.labels["validation"]
        self.names, self.labels, self.target = original, train, self.corpus.target_shares
        if m != len(original):
            grouping = Grouping(domains=original, train=train, validation=validation, seed=0)
            lab = PaidRegroupLab(self.task, self.corpus, Ledger())
            made = KMeans(KMeans.Config(k=m)).regroup(grouping, lab).checked(grouping)
            self.names, self.labels = made.domains, made.train
            self.target = target_shares(self.corpus, made)

    def rounds(self, seed: int, rounds: int, steps: int) -> Iterator[tuple[Tensor, IntArray]]:
        """Exact sums [m, V, d] and counts [m] of every round of a run on the uniform mixture."""
        m = len(self.names)
        trainer = Trainer(
            task=self.task,
            corpus=self.corpus,
            sampler=DomainSampler(self.labels, self.names, seed),
            model=self.task.build_model(seed),
            recipe=replace(self.task.preset.recipe, steps=rounds * steps),
            signals=(DomainGradients(estimator="exact"),),
            seed=seed,
            device=torch.device("cpu"),
            dtype=torch.float32,
        )
        mixture = Mixture(domains=self.names, weights=np.full(m, 1 / m))
        assert trainer.tracker is not None
        self.layer = list(self.task.tracked(trainer.model))[-1]
        for index in range(rounds):
            trainer.begin_round(index)
            for _ in range(steps):
                trainer.step(mixture)
            sums = trainer.tracker.state()["sums.0"]
            yield sums, trainer.tracker.take().counts


def gram(sums: Tensor, counts: IntArray) -> Array:
    """[m, m] inner products of mean gradients."""
    flat = sums.flatten(1).double()
    inverse = 1.0 / np.maximum(counts, 1)
    products: Array = (flat @ flat.t()).numpy() * np.outer(inverse, inverse)
    return products


def mixture(gram: Array, target: Array) -> tuple[Array, Array]:
    """v = G p / |G p|, and R&B's mixture."""
    v = gram @ target
    found = balance(gram, target, LAM)
    assert found is not None
    return v / np.linalg.norm(v), found


def study(
    m: int, sizes: list[tuple[int, int]], *, rounds: int, steps: int, draws: int, cache: Path
) -> list[list[object]]:
    """One line of the table for every sketch size, then one for the two seeds."""
    bench = Study(m, cache)
    errors: dict[tuple[int, int], list[tuple[float, float, float]]] = {size: [] for size in sizes}
    exact: list[Array] = []
    for index, (sums, counts) in enumerate(bench.rounds(0, rounds, steps)):
        truth = gram(sums, counts)
        v, weights = mixture(truth, bench.target)
        exact.append(weights)
        for size in sizes:
            for draw in range(draws):
                sketch = SketchedSums(bench.layer, 1, rows=size[0], columns=size[1], seed=(draw,), self_products=False)
                sketch.start_round(index)
                guess = gram(sketch.inputs(sketch.outputs(sums.transpose(1, 2)).transpose(1, 2)), counts)
                v_guess, guessed = mixture(guess, bench.target)
                errors[size].append(
                    (
                        float(np.linalg.norm(guess - truth) / np.linalg.norm(truth)),
                        float(np.linalg.norm(v_guess - v)),
                        total_variation(guessed, weights),
                    )
                )
    other = [mixture(gram(*found), bench.target)[1] for found in bench.rounds(1, rounds, steps)]
    between = [total_variation(a, b) for a, b in zip(exact, other, strict=True)]
    lines: list[list[object]] = [
        [m, f"sketch {size[0]} x {size[1] or 'all'}", *np.mean(found, axis=0), max(line[2] for line in found)]
        for size, found in errors.items()
    ]
    return [*lines, [m, "exact, another seed", None, None, np.mean(between), max(between)]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domains", type=int, nargs="+", default=[7, 64], help="7: as labelled; else k-means clusters")
    default = DomainGradients()
    sizes = [f"{default.rows}x{default.columns}", "128x0", "256x32"]
    parser.add_argument("--sizes", nargs="+", default=sizes, help="rows x columns; 0 keeps a side whole")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=50, help="steps in a round")
    parser.add_argument("--draws", type=int, default=4, help="sketches of every round")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sizes = [(int(rows), int(columns)) for rows, columns in (size.split("x") for size in options.sizes)]
    lines = []
    for m in options.domains:
        lines += study(m, sizes, rounds=options.rounds, steps=options.steps, draws=options.draws, cache=cache_root())
    heads = ["m", "estimator", "error of G", "error of v", "TV of mixtures, mean", "largest"]
    print(f"nano, {options.rounds} rounds of {options.steps} steps, {options.draws} sketches a round")
    print("errors relative, in the Frobenius and the Euclidean norm")
    print(tabulate(lines, headers=heads, floatfmt=".3f", missingval="-"))


if __name__ == "__main__":
    main()
