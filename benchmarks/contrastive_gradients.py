"""Two definitions of a domain's gradient under a contrastive loss, and how far R&B's mixtures differ between them.

    python -m benchmarks.contrastive_gradients --seeds 3

Every example is a negative of all others, so that a batch's loss is no sum of examples' losses. *Through rows*, what
the harness reads: all gradient that flows through the domain's own images and captions, as positives and as negatives.
*Own losses*: the gradient of the domain's own per-example losses, through all rows; that one costs a backward pass a
domain. Both are summed over the same rounds of the same run, a ``nano`` multimodal model on the uniform mixture, and
add up to the gradient of the loss. Printed: the cosine of a domain's two gradients, the relative distance of the Gram
matrices after each is scaled to norm one, the total variation of R&B's mixtures softmax(3 v), v = G p / |G p|, and
beside it that of one definition's mixtures between seeds: a difference well below it is not what decides a run. Takes
about two minutes a seed on one core, and downloads nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tabulate import tabulate
from torch import Tensor, nn

from harness.caches import cache_root
from harness.sampler import DomainSampler
from harness.trainer import Trainer
from mixers.base import Array, Mixture
from mixers.rnb import balance
from mixers.simplex import total_variation
from tasks.base import Batch, Losses
from tasks.clip.model import Clip
from tasks.multimodal import Multimodal

LAM = 3.0


class Watched(Multimodal):
    """The task, which sums both kinds of gradients of the projections whenever it gives a training loss."""

    domains: np.ndarray
    rows: Tensor
    own: Tensor
    counts: np.ndarray

    def start_round(self, m: int, size: int) -> None:
        self.rows, self.own, self.counts = torch.zeros(m, size), torch.zeros(m, size), np.zeros(m)

    def loss(self, model: nn.Module, batch: Batch) -> Losses:
        assert isinstance(model, Clip)
        seen: list[tuple[Tensor, Tensor]] = []
        layers = [layer for layer in (model.image_projection, model.text_projection) if layer is not None]
        handles = [layer.register_forward_hook(lambda _, args, out: seen.append((args[0], out))) for layer in layers]
        losses = super().loss(model, batch)
        for handle in handles:
            handle.remove()
        each = losses.per_example
        flows = torch.autograd.grad(each.sum(), [out for _, out in seen], retain_graph=True)
        for domain in np.unique(self.domains):
            mine = torch.from_numpy(self.domains == domain)
            through = [flow[mine].t() @ x.detach()[mine] for flow, (x, _) in zip(flows, seen, strict=True)]
            own = torch.autograd.grad(each[mine].sum(), [layer.weight for layer in layers], retain_graph=True)
            self.rows[domain] += torch.cat([piece.flatten() for piece in through])
            self.own[domain] += torch.cat([piece.flatten() for piece in own])
            self.counts[domain] += int(mine.sum())
        return losses


class Remembering(DomainSampler):
    """The sampler, which tells the task the domains of the batch that it drew."""

    task: Watched

    def draw(self, weights: Any, step: int, batch: int) -> tuple[Any, Any]:
        indices, domains = super().draw(weights, step, batch)
        self.task.domains = domains
        return indices, domains


def rounds(seed: int, count: int, steps: int, cache: Path) -> Iterator[tuple[Array, Array, Array, Array]]:
    """Of every round: target [m], both Gram matrices [m, m] (through rows, own losses), cosines [m]."""
    preset = Multimodal.presets["nano"]
    task = Watched(Multimodal.configure(preset, {}), preset, cache)
    corpus = task.load()
    m = len(corpus.domains)
    sampler = Remembering(corpus.labels["train"], corpus.domains, seed)
    sampler.task = task
    trainer = Trainer(
        task=task,
        corpus=corpus,
        sampler=sampler,
        model=task.build_model(seed),
        recipe=replace(preset.recipe, steps=count * steps),
        signals=(),
        seed=seed,
        device=torch.device("cpu"),
        dtype=torch.float32,
    )
    assert isinstance(trainer.model, Clip)
    stage = trainer.model.stages()[-1]
    size = sum(layer.weight.numel() for layer in (stage if isinstance(stage, tuple) else (stage,)))
    mixture = Mixture(domains=corpus.domains, weights=np.full(m, 1 / m))
    for index in range(count):
        trainer.begin_round(index)
        task.start_round(m, size)
        for _ in range(steps):
            trainer.step(mixture)
        through, own = task.rows.double(), task.own.double()
        assert float((through.sum(0) - own.sum(0)).norm() / own.sum(0).norm()) < 1e-3, "both are the loss's gradient"
        inverse = 1 / np.maximum(task.counts, 1)
        grams = [(each @ each.t()).numpy() * np.outer(inverse, inverse) for each in (through, own)]
        cosines = torch.cosine_similarity(through, own, dim=1).numpy()
        yield corpus.target_shares, grams[0], grams[1], cosines


def mixed(gram: Array, target: Array) -> Array:
    """R&B's mixture."""
    found = balance(gram, target, LAM)
    assert found is not None
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60, help="steps in a round")
    options = parser.parse_args()
    torch.set_num_threads(1)
    runs = [list(rounds(seed, options.rounds, options.steps, cache_root())) for seed in range(options.seeds)]
    lines: list[list[object]] = []
    for index in range(options.rounds):
        found = [run[index] for run in runs]
        cosines = np.concatenate([each[3] for each in found])
        distances = [
            float(np.linalg.norm(a / np.linalg.norm(a) - b / np.linalg.norm(b))) for _, a, b, _ in found
        ]  # fmt: skip
        pairs = [(mixed(a, p), mixed(b, p)) for p, a, b, _ in found]
        between = [
            total_variation(pairs[i][0], pairs[j][0]) for i in range(len(pairs)) for j in range(i)
        ]  # fmt: skip
        apart = [total_variation(a, b) for a, b in pairs]
        lines.append(
            [
                index + 1,
                float(np.median(cosines)),
                float(cosines.min()),
                np.mean(distances),
                np.mean(apart),
                max(apart),
                np.mean(between) if between else None,
            ]
        )
    heads = ["round", "cosine, median", "least", "distance of G", "TV of mixtures", "largest", "between seeds"]
    print(f"nano, {options.seeds} seeds, {options.rounds} rounds of {options.steps} steps, lambda {LAM:g}")
    print(tabulate(lines, headers=heads, floatfmt=".3f", missingval="-"))
    for name, position in (("through rows", 0), ("own losses", 1)):
        last = [mixed(run[-1][1 + position], run[-1][0]) for run in runs]
        print(f"last mixture, {name}: {np.round(np.mean(last, axis=0), 3).tolist()}")


if __name__ == "__main__":
    main()
