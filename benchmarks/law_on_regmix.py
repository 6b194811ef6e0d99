"""How well the mixing law, fitted on a few of RegMix's runs, ranks runs that it has not seen.

    OMP_NUM_THREADS=1 python -m benchmarks.law_on_regmix data/regmix

Spearman correlation on the test split of the 1M runs, a mean over ten random subsets of the training split, by target.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr
from tabulate import tabulate

from mixers.surrogates import fit_log_linear
from tasks.sources import regmix_tables

THRESHOLDS = (0.01, 0.02, 0.2)
SUBSETS = 10


def ranks(mixtures: np.ndarray, losses: np.ndarray, splits: np.ndarray, runs: int, huber: float) -> np.ndarray:
    """[n] mean correlations by target, for laws fitted on so many training runs."""
    train, test = np.flatnonzero(splits == "train"), np.flatnonzero(splits == "test")
    found = []
    for seed in range(SUBSETS):
        rows = np.random.default_rng(seed).choice(train, runs, replace=False)
        law = fit_log_linear(mixtures[rows], losses[rows], huber=huber, starts=4)
        predicted = law.predict(mixtures[test])
        found.append([spearmanr(p, t).statistic for p, t in zip(predicted.T, losses[test].T, strict=True)])
    return np.mean(found, axis=0)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="the folder data/ of sail-sg/regmix")
    parser.add_argument("--runs", type=int, default=54, help="of the training split, in each subset")
    given = parser.parse_args()
    table = regmix_tables.read(given.path)
    columns = [ranks(table.mixtures, table.losses, np.array(table.splits), given.runs, huber) for huber in THRESHOLDS]
    body = [[name, *(column[j] for column in columns)] for j, name in enumerate(table.targets)]
    body.append(["mean", *(column.mean() for column in columns)])
    headers = ["target", *(f"huber={huber:g}" for huber in THRESHOLDS)]
    print(tabulate(body, headers, tablefmt="github", floatfmt=".3f"))


if __name__ == "__main__":
    main()
