"""A lab whose runs follow a known mixing law, for tests of offline mixers."""

from __future__ import annotations

import numpy as np
from mixer_fakes import frozen, make_problem

from mixers.base import RunResult
from mixers.surrogates import LogLinear

TRAIN = np.array([0.4, 0.3, 0.2, 0.1])
TARGET = np.array([0.1, 0.2, 0.3, 0.4])
EXAMPLES = np.array([4000, 3000, 2000, 1000])
# Every target wants its own domain most, and each a little of others; the best mixture lies inside.
LAW = LogLinear(
    c=np.array([1.0, 1.2, 0.7, 1.5]),
    b=np.array([0.1, 0.0, 0.3, -0.2]),
    t=np.array([[-3.0, 1.5, 0.5, 1.0], [1.0, -2.5, 1.0, 0.5], [0.4, 1.1, -2.5, 1.0], [1.5, 0.5, 1.0, -3.0]]),
)


def world(order=(0, 1, 2, 3), names="abcd", **budget):
    """A problem whose targets are its domains, in another order."""
    order = list(order)
    targets = [names[i] for i in (1, 3, 0, 2)]
    return make_problem(
        train=TRAIN[order],
        target=TARGET[[1, 3, 0, 2]],
        examples=EXAMPLES[order],
        domains=[names[i] for i in order],
        targets=targets,
        **budget,
    )


class LawLab:
    """Sells runs whose losses follow ``LAW``, with noise by mixture; targets in ``missing`` have none."""

    def __init__(self, problem, names="abcd", *, noise=0.0, scale=1.0, missing=(), diverged=()):
        self.problem, self.names, self.noise, self.scale = problem, names, noise, scale
        self.missing, self.diverged = missing, diverged
        self.orders, self.calls = [], 0

    def losses(self, mixtures):
        """[k, n] by target of mixtures [k, m] over the problem's domains."""
        by_identity = mixtures[:, [self.problem.domains.index(name) for name in self.names]]
        clean = LAW.predict(by_identity)[:, [self.names.index(name) for name in self.problem.targets]]
        return self.scale * clean

    def train(self, runs):
        self.calls += 1
        self.orders += runs
        losses = self.losses(np.stack([run.mixture.weights for run in runs]))
        noise = self.scale * self.noise * np.random.default_rng(5).normal(size=losses.shape)
        losses = losses + noise[:, np.argsort(np.argsort(self.problem.targets))]
        losses[:, [self.problem.targets.index(name) for name in self.missing]] = np.nan
        losses[list(self.diverged)] = np.nan
        return [RunResult(steps=(run.steps,), losses=frozen([row])) for run, row in zip(runs, losses, strict=True)]

    def truth(self, mixture):
        """The weighted loss of one mixture, [m]."""
        return float(self.losses(np.asarray(mixture)[None])[0] @ self.problem.target_shares)


def best(lab):
    """The least weighted loss that any mixture has, from many random ones around ever better ones."""
    rng, m = np.random.default_rng(0), lab.problem.m
    centre, value = np.full(m, 1.0 / m), np.inf
    for strength in (1.0, 10.0, 100.0, 1e3, 1e4, 1e5):
        drawn = rng.dirichlet(np.maximum(strength * centre, 0.05), 4000)
        values = lab.losses(drawn) @ lab.problem.target_shares
        if values.min() < value:
            centre, value = drawn[values.argmin()], float(values.min())
    return centre, value


def law(seed, n=3, m=4):
    """A random law of n targets over m domains."""
    rng = np.random.default_rng(seed)
    t = rng.normal(size=(n, m))
    return LogLinear(c=rng.uniform(0, 2, n), b=rng.normal(size=n), t=t - t.mean(axis=1, keepdims=True))
