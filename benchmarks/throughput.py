"""Harness steps under ``uniform`` against a bare PyTorch loop of the same model and batches.

    python -m benchmarks.throughput --preset nano --pairs 100

Pairs of steps, one of each kind, in alternating order, with one thread. Reported: the throughput of the harness as a
share of the bare loop's (ratio of median step times) with a bootstrap interval over pairs. Both draw their batches
from the same sampler order; the bare loop gets them ready-made, as tensors, so that sampling counts for the harness.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from harness.caches import cache_root
from harness.experiment import read_experiment, trials
from harness.prepare import prepare
from harness.prepared import Prepared
from harness.registry import Registry


def prepared_trial(preset: str, device: str = "cpu") -> Prepared:
    """The text task at a preset, under ``uniform`` on its own domains."""
    registry = Registry()
    flags = {"tasks": "text", "preset": preset, "mixers": "uniform", "seeds": "1", "device": device}
    (spec,) = trials(read_experiment(None, flags), registry)
    return prepare(spec, registry, cache_root())


def harness_step(prepared: Prepared) -> Callable[[], None]:
    """A step of the harness's own loop."""
    trainer = prepared.trainer(())
    m = prepared.problem.m
    mixture = prepared.problem.mixture(np.full(m, 1 / m))
    trainer.begin_round(0)
    return lambda: trainer.step(mixture)


def bare_step(prepared: Prepared) -> Callable[[], None]:
    """The shortest loop that one would write by hand: batch, forward, mean loss, backward, clip, AdamW."""
    model = prepared.build_model().to(prepared.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    sampler = prepared.trainer(()).sampler
    weights = np.full(prepared.problem.m, 1 / prepared.problem.m)
    size = prepared.recipe.batch_size
    ready = []
    for step in range(50):
        indices, _ = sampler.draw(weights, step, size)
        ready.append(prepared.task.batch(prepared.corpus, "train", indices)["tokens"].to(prepared.device))
    count = 0

    def step() -> None:
        nonlocal count
        tokens = ready[count % len(ready)]
        count += 1
        logits = model(input_ids=tokens[:, :-1]).logits.float()
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="nano")
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(1)
    prepared = prepared_trial(args.preset, args.device)
    steps = (bare_step(prepared), harness_step(prepared))
    times = np.zeros((args.pairs + 5, 2))
    for pair in range(len(times)):
        for which in (0, 1) if pair % 2 else (1, 0):
            if args.device == "cuda":
                torch.cuda.synchronize()
            begin = time.perf_counter()
            steps[which]()
            if args.device == "cuda":
                torch.cuda.synchronize()
            times[pair, which] = time.perf_counter() - begin
    times = times[5:]
    rng = np.random.default_rng(0)
    picks = rng.integers(0, len(times), size=(2000, len(times)))
    ratios = np.median(times[picks, 0], axis=1) / np.median(times[picks, 1], axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    bare, ours = 1000 * np.median(times, axis=0)
    print(f"bare {bare:.1f} ms, harness {ours:.1f} ms a step over {len(times)} pairs")
    print(f"harness throughput as a share of the bare loop's: {bare / ours:.3f} [{low:.3f}, {high:.3f}]")


if __name__ == "__main__":
    main()
