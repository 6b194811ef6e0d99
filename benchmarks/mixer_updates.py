"""``python -m benchmarks.mixer_updates``: what an update of every mixer costs against the number of domains.

For every mixer that changes its mixture, and for what drives its proxy runs:

- host: milliseconds of its own arithmetic in one update (one batch, for a proxy that reweighs), the median and the
  longest, in a scripted world in which all that it buys is free; and the peak of what it allocates, by tracemalloc;
- bought: FLOPs of what it declares to buy, as a share of the training, for the text task at ``nano`` with its examples
  dealt into that many domains, all of them targets. Only counted, nothing is trained.
"""

from __future__ import annotations

import argparse
import math
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from tabulate import tabulate
from threadpoolctl import threadpool_limits

from benchmarks.throughput import prepared_trial
from harness.conformance.scripted import Run, World
from harness.prepared import Prepared, pass_flops
from harness.proxies.prices import price_of
from harness.registry import Registry
from mixers.base import Mixer, MixerError, Purchases

SIZES = (8, 32, 128, 512)
MOST_UPDATES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Host cost of an update: median and longest milliseconds, peak MiB."""

    median: float
    longest: float
    peak: float


def world_of(m: int) -> World:
    """Long enough for a mixer that probes every domain several times."""
    return World(m=m, steps=max(100, 16 * m), batch_size=32)


def drivers(mixer: Mixer, world: World) -> Iterator[tuple[str, Callable[[], Mixer]]]:
    """The mixer, where it has updates, and the mixers of the runs that it orders."""
    problem = world.problem()
    try:
        ordered = mixer.purchases(problem).runs
    except Exception:  # it says itself that it does not apply
        return
    if type(mixer).update is not Mixer.update:
        yield mixer.name, partial(type(mixer), mixer.config)
    for run in ordered:
        if run.mixer is not None:
            yield f"{mixer.name}, its proxy", partial(type(run.mixer), run.mixer.config)
            return


def update_once(run: Run, round: int) -> Callable[[], None]:
    """One update of a run, or one batch of a proxy that has no updates."""
    if run.updates:
        return lambda: run.update(round)
    return lambda: run.reweigh(round)


def host_cost(make: Callable[[], Mixer], m: int) -> Cost:
    """Median and longest seconds of the first updates, each mixer in a fresh world."""
    world = world_of(m)
    run = Run(make(), world)
    rounds = range(min(MOST_UPDATES, run.updates or MOST_UPDATES))
    taken = []
    for round in rounds:
        begin = time.perf_counter()
        update_once(run, round)()
        taken.append(1000 * (time.perf_counter() - begin))
    again = Run(make(), world)
    tracemalloc.start()
    for round in rounds:
        update_once(again, round)()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return Cost(median=float(np.median(taken)), longest=max(taken), peak=peak / 2**20)


def dealt(prepared: Prepared, m: int) -> Prepared:
    """The same trial with its examples dealt into m domains."""
    names = tuple(f"d{i}" for i in range(m))
    cut = replace(
        prepared.partition,
        domains=names,
        targets=(),
        train=np.arange(len(prepared.partition.train)) % m,
        validation=np.arange(len(prepared.partition.validation)) % m,
    )
    problem = replace(
        prepared.problem,
        domains=names,
        targets=names,
        train_shares=np.full(m, 1 / m),
        target_shares=np.full(m, 1 / m),
        examples=np.bincount(cut.train, minlength=m),
        units=np.bincount(cut.train, minlength=m),
    )
    return replace(prepared, partition=cut, problem=problem)


def bought_share(prepared: Prepared, mixer: Mixer, m: int) -> float:
    """FLOPs of what the mixer declares, as a share of the training."""
    trial = dealt(prepared, m)
    flops = pass_flops(trial, trial.build_model())
    try:
        bought: Purchases = mixer.purchases(trial.problem)
    except MixerError:  # no run of this length has room for what it does
        return math.nan
    return price_of(trial, bought, flops) / (trial.recipe.steps * flops.training)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    sizes = parser.parse_args().sizes
    mixers = [plugin.cls() for plugin in Registry().all("mixers").values()]
    lines = []
    for mixer in mixers:
        for name, make in drivers(mixer, world_of(sizes[0])):
            with threadpool_limits(1):  # as in a trial
                costs = [host_cost(make, m) for m in sizes]
            lines.append(
                [name, *(f"{c.median:.2f} ({c.longest:.1f})" for c in costs), *(f"{c.peak:.1f}" for c in costs)]
            )
    head = ["update", *(f"ms, m={m}" for m in sizes), *(f"MiB, m={m}" for m in sizes)]
    print(tabulate(lines, headers=head, tablefmt="github", disable_numparse=True))
    prepared = prepared_trial("nano")
    lines = []
    for mixer in mixers:
        shares = [bought_share(prepared, mixer, m) for m in sizes]
        if any(shares):
            lines.append([mixer.name, *(f"{100 * share:.3g}" for share in shares)])
    print()
    print(tabulate(lines, headers=["bought, % of training", *(f"m={m}" for m in sizes)], tablefmt="github"))


if __name__ == "__main__":
    main()
