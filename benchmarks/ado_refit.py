"""``python -m benchmarks.ado_refit``: seconds of a refit of ADO's scaling laws against the number of domains.

Noisy losses of random laws, one point a step, in the middle of a run: the second of two fits, which starts from the
first. Prints the median over several sets of losses.
"""

from __future__ import annotations

import time

import numpy as np

from mixers import scaling_law
from mixers.domain_laws import DomainLaws
from mixers.scaling_law import Limits

BATCH = 8


def refit_seconds(m: int, points: int, seed: int) -> float:
    rng = np.random.default_rng(seed)
    laws = rng.uniform([0.0, -1.0, 0.1], [2.0, 1.0, 0.7], size=(m, 3))
    curves = DomainLaws(tuple(f"d{i}" for i in range(m)), Limits())
    taken = 0.0
    for step in range(1, points + 1):
        n = np.full(m, float(BATCH * step))
        curves.add(step, n, scaling_law.predict(laws, n) * np.exp(0.1 * rng.normal(size=m)))
        if step in (points - points // 60, points):
            begin = time.perf_counter()
            curves.refit(ignore=points // 60, window=1, stride=1)
            taken = time.perf_counter() - begin
    return taken


if __name__ == "__main__":
    print("domains  points  seconds a refit")
    for m, points in ((8, 500), (8, 6000), (32, 500), (128, 500), (512, 500)):
        repeats = 5 if m <= 32 else 1
        print(f"{m:7d} {points:7d} {np.median([refit_seconds(m, points, seed) for seed in range(repeats)]):16.4f}")
