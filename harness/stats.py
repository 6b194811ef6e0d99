"""The statistics of a leaderboard, as pure functions of numbers.

Every comparison is paired by seed: two mixers at one seed start from the same weights and, on one partition, meet each
domain's examples in the same order, so their difference is less noisy than either of them. Families of tests are
corrected by Holm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

ALPHA = 0.05
CONFIDENCE = 0.95
POWER = 0.8
# Differences that agree to this relative precision are equal: their spread is rounding, not variation between seeds.
ROUNDING = 1e-12
# Points at which the power integral is taken; its error is below 1e-5.
_NODES = 20001


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean over n values with a two-sided 95 % t-interval.

    sd: sample standard deviation (ddof 1). half: half the width of the interval. Both are ``None`` where n < 2.
    """

    n: int
    mean: float
    sd: float | None
    half: float | None

    @property
    def low(self) -> float | None:
        """Lower end of the interval."""
        return None if self.half is None else self.mean - self.half

    @property
    def high(self) -> float | None:
        """Upper end of the interval."""
        return None if self.half is None else self.mean + self.half


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """Mean of the differences (ours - theirs) over the seeds that both have, and the paired t-test's p value.

    ``p`` is ``None`` where fewer than two seeds are shared or all differences are exactly zero: there is nothing to
    test. seeds: the shared ones, sorted.
    """

    difference: Estimate
    p: float | None
    seeds: tuple[int, ...]

    @property
    def identical(self) -> bool:
        """Whether both have bit for bit the same score in every shared seed."""
        return self.p is None and self.difference.mean == 0.0


def mean_interval(values: Sequence[float]) -> Estimate:
    """Mean with its 95 % t-interval (n - 1 degrees of freedom); one value has no interval, none is an error."""
    n = len(values)
    if n == 0:
        raise ValueError("a mean needs at least one value")
    array = np.asarray(values, dtype=np.float64)
    mean = float(array.mean())
    if n == 1:
        return Estimate(n=1, mean=mean, sd=None, half=None)
    sd = float(array.std(ddof=1))
    if sd <= ROUNDING * float(np.abs(array).max()):
        sd = 0.0
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1)) * sd / math.sqrt(n)
    return Estimate(n=n, mean=mean, sd=sd, half=half)


def paired(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Paired | None:
    """Compare two sets of scores keyed by seed; ``None`` where they share no seed.

    Where all differences are equal but for rounding the t statistic is 0/0 or infinite: p is then 1 if they are zero
    and 0 otherwise, which is its limit. Where all are exactly zero there is no test.
    """
    seeds = tuple(sorted(set(ours) & set(theirs)))
    if not seeds:
        return None
    differences = [ours[seed] - theirs[seed] for seed in seeds]
    scale = max(max(abs(ours[seed]), abs(theirs[seed])) for seed in seeds)
    estimate = mean_interval(differences)
    if estimate.sd is None or not any(differences):
        return Paired(difference=estimate, p=None, seeds=seeds)
    if estimate.sd <= ROUNDING * scale:
        same = abs(estimate.mean) <= ROUNDING * scale
        estimate = Estimate(n=estimate.n, mean=0.0 if same else estimate.mean, sd=0.0, half=0.0)
        return Paired(difference=estimate, p=1.0 if same else 0.0, seeds=seeds)
    p = float(stats.ttest_rel([ours[s] for s in seeds], [theirs[s] for s in seeds]).pvalue)
    return Paired(difference=estimate, p=p, seeds=seeds)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction over one family; a ``None`` is no test: it stays and is not counted."""
    tested = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for position, (p, i) in enumerate(tested):
        largest = max(largest, min(1.0, p * (len(tested) - position)))
        adjusted[i] = largest
    return adjusted


def letter_groups(n: int, separated: Sequence[tuple[int, int]]) -> list[str]:
    """Compact letter display of n rows: two rows share a letter exactly if their pair is not in ``separated``.

    Insert-and-absorb (Piepho 2004, J. Comput. Graph. Stat. 13(2)), then columns that add no pair are dropped. Letters
    follow the order of the rows.
    """
    columns = [frozenset(range(n))] if n else []
    for i, j in separated:
        split = [part for c in columns if {i, j} <= c for part in (c - {i}, c - {j})]
        columns = [c for c in columns if not {i, j} <= c]
        for part in split:
            if not any(part <= c for c in columns):
                columns = [c for c in columns if not c <= part]
                columns.append(part)
    for column in sorted(columns, key=lambda c: (len(c), sorted(c))):
        others = [c for c in columns if c != column]
        if all(any({a, b} <= c for c in others) for a in column for b in column):
            columns = others
    columns.sort(key=sorted)
    return ["".join(_letter(k) for k, c in enumerate(columns) if row in c) for row in range(n)]


def _letter(k: int) -> str:
    """a to z, then A to Z, then numbers in parentheses."""
    return chr(ord("a") + k) if k < 26 else chr(ord("A") + k - 26) if k < 52 else f"({k + 1})"


def smallest_detectable(n: int, sd: float, tests: int) -> float | None:
    """The true difference that a paired t-test over n seeds finds with probability 0.8.

    sd: of the differences, in the metric's unit. tests: size of the family; the level is Holm's strictest, 0.05 divided
    by ``tests``. ``None`` where n < 2.
    """
    if n < 2 or tests < 1:
        return None
    return sd * _standardised_effect(n, ALPHA / tests)


@lru_cache(maxsize=1024)
def _standardised_effect(n: int, alpha: float) -> float:
    """Smallest mean / sd that a two-sided paired t-test at level alpha detects with probability ``POWER``."""
    df = n - 1
    critical = float(stats.t.isf(alpha / 2, df))
    # |T| > critical, where T = (Z + shift) / S, is |Z + shift| > critical * S: a normal tail averaged over the
    # quantiles of S. scipy's noncentral t answers NaN or a wrong 1 for few degrees of freedom and strict levels.
    quantiles = (np.arange(_NODES) + 0.5) / _NODES
    edges = critical * np.sqrt(stats.chi2.ppf(quantiles, df) / df)

    def shortfall(shift: float) -> float:
        power = special.ndtr(shift - edges) + special.ndtr(-shift - edges)
        return float(power.mean()) - POWER

    upper = critical + 1.0
    while shortfall(upper) < 0:
        upper *= 2
    return float(optimize.brentq(shortfall, 0.0, upper, xtol=1e-9, rtol=1e-10)) / math.sqrt(n)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedCost:
    """Extra time as a share of the plain step's: a trimmed mean over pairs, and its 95 % bootstrap interval."""

    share: float
    low: float
    high: float


def paired_cost(times: npt.NDArray[np.float64], *, draws: int = 2000) -> PairedCost:
    """Cost of what the second column adds to the first; times: [pairs, 2] seconds of a plain step and of the other.

    The differences' mean without their outer fifths (a step that the system disturbed says nothing), over the median
    plain step. Pairs are resampled with a fixed seed.
    """
    differences = times[:, 1] - times[:, 0]
    picks = np.random.default_rng(0).integers(0, len(times), size=(draws, len(times)))
    spread = stats.trim_mean(differences[picks], 0.2, axis=1) / np.median(times[picks, 0], axis=1)
    low, high = np.quantile(spread, [0.025, 0.975])
    share = float(stats.trim_mean(differences, 0.2)) / float(np.median(times[:, 0]))
    return PairedCost(share=share, low=float(low), high=float(high))
