"""The price of domain gradients: paired step times with and without the tracker, and counted FLOPs.

    python -m benchmarks.gradient_price --pairs 200 --domains 7 64

Every pair is two whole training steps (forward, backward, clipping, optimiser) of the same model, one with the
tracker between ``begin`` and ``end`` and one without, in random order, on batches of random tokens with one thread.
Seconds are those of the process on a CPU, of the wall clock on a GPU.
Reported: the trimmed mean over pairs of the difference, as a share of the median plain step, with a bootstrap interval.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np
import torch
from tabulate import tabulate
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from harness.flops import flop_counter
from harness.gradients import GradientTracker
from harness.stats import paired_cost
from mixers.base import DomainGradients


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """A decoder's sizes and its batch."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    hidden: int
    context: int
    batch: int


SCALES = {
    "nano": Scale(vocabulary=2048, width=128, layers=3, heads=4, hidden=344, context=128, batch=8),
    "small": Scale(vocabulary=8192, width=512, layers=8, heads=8, hidden=1376, context=512, batch=16),
}


def build_model(scale: Scale, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    model: nn.Module = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=scale.vocabulary,
            hidden_size=scale.width,
            intermediate_size=scale.hidden,
            num_hidden_layers=scale.layers,
            num_attention_heads=scale.heads,
            max_position_embeddings=scale.context,
            tie_word_embeddings=False,
            use_cache=False,
        )
    )
    return model


def example_losses(model: nn.Module, tokens: Tensor) -> Tensor:
    """[B] mean next-token loss of [B, T + 1] tokens."""
    logits = model(input_ids=tokens[:, :-1]).logits
    loss = nn.functional.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten(), reduction="none")
    return loss.view(len(tokens), -1).mean(1)


class Bench:
    """One model whose steps can be taken with and without a tracker."""

    def __init__(self, scale: Scale, device: torch.device, dtype: torch.dtype) -> None:
        self.scale, self.device, self.dtype = scale, device, dtype
        self.model = build_model(scale).to(device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)
        self.rng = np.random.default_rng(0)
        # With one thread the process's own time leaves out what other processes took from it.
        self.clock = time.process_time if device.type == "cpu" else time.perf_counter

    def batch(self) -> Tensor:
        shape = (self.scale.batch, self.scale.context + 1)
        return torch.from_numpy(self.rng.integers(0, self.scale.vocabulary, size=shape)).to(self.device)

    def step(self, tracker: GradientTracker | None) -> float:
        """Seconds of one training step."""
        tokens = self.batch()
        domains = self.rng.integers(0, tracker.m if tracker else 2, size=len(tokens))
        self._sync()
        start = self.clock()
        if tracker is not None:
            tracker.begin(domains, 1 / len(tokens))
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            losses = example_losses(self.model, tokens)
        losses.mean().backward()
        if tracker is not None:
            tracker.end()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._sync()
        return self.clock() - start

    def _sync(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def overhead(self, trackers: list[GradientTracker], pairs: int) -> list[np.ndarray]:
        """For every tracker [pairs, 2] seconds without and with it, interleaved over the trackers too."""
        for tracker in [None, *trackers]:
            for _ in range(3):
                self._tracked(tracker)
        times = [np.zeros((pairs, 2)) for _ in trackers]
        for pair in range(pairs):
            for tracker, row in zip(trackers, times, strict=True):
                for which in self.rng.permutation(2):
                    row[pair, which] = self._tracked(tracker if which else None)
        return times

    def _tracked(self, tracker: GradientTracker | None) -> float:
        if tracker is None:
            return self.step(None)
        tracker.attach()
        seconds = self.step(tracker)
        tracker.detach()
        return seconds

    def training_flops(self) -> float:
        """Of one step, counted from the operators: matrix products and attention."""
        counter = flop_counter()
        with counter:
            example_losses(self.model, self.batch()).mean().backward()
        self.optimizer.zero_grad(set_to_none=True)
        return float(counter.get_total_flops())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=SCALES, default="nano")
    parser.add_argument("--domains", type=int, nargs="+", default=[7, 64])
    parser.add_argument("--rows", type=int, nargs="+", default=[DomainGradients().rows])
    parser.add_argument("--columns", type=int, default=DomainGradients().columns)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--round", type=int, default=100, help="steps in a round, for the counted FLOPs")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    options = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(SCALES[options.scale], torch.device(options.device), getattr(torch, options.dtype))
    head = [module for module in bench.model.modules() if isinstance(module, nn.Linear)][-1:]
    specs = [DomainGradients(estimator="exact")]
    specs += [DomainGradients(estimator="sketch", rows=rows, columns=options.columns) for rows in options.rows]
    cells = [(m, spec) for m in options.domains for spec in specs]
    trackers = [GradientTracker(head, m, spec, seed=0) for m, spec in cells]
    times = bench.overhead(trackers, options.pairs)
    training = bench.training_flops()
    table = []
    for (m, spec), tracker, row in zip(cells, trackers, times, strict=True):
        cost = paired_cost(row)
        per_step = tracker.flops / (options.pairs + 3)
        before = tracker.flops
        tracker.take()
        gram = (tracker.flops - before) / options.round
        table.append(
            [
                spec.estimator if spec.estimator == "exact" else f"sketch {spec.rows} x {spec.columns or 'all'}",
                m,
                f"{1e3 * np.median(row[:, 0]):.1f}",
                f"{100 * cost.share:+.2f} [{100 * cost.low:+.2f}, {100 * cost.high:+.2f}]",
                f"{100 * per_step / training:.3f}",
                f"{100 * gram / training:.3f}",
                f"{tracker.memory_bytes / 2**20:.1f}",
            ]
        )
    heads = ["estimator", "m", "plain step ms", "time % [95 %]", "step FLOPs %", "Gram FLOPs %", "sums MiB"]
    print(f"{options.scale}: {options.pairs} pairs, {training / 1e9:.3f} GFLOP a step, {options.round} steps a round")
    print(tabulate(table, headers=heads, disable_numparse=True))


if __name__ == "__main__":
    main()
