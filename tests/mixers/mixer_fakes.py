"""Stand-ins for what the referee gives to mixers and regroupers."""

from __future__ import annotations

import numpy as np

from mixers.base import DomainGradients, ExampleVectors, GradientEstimate, Observation, Problem, TrainLosses
from mixers.regroup.base import Grouping


class FakeGradients:
    """A GradientView over given vectors [m, d], one mean gradient a domain; counts of zero make a domain absent."""

    def __init__(self, vectors, counts=None, noise=None):
        self.vectors = np.asarray(vectors, dtype=np.float64)
        m = len(self.vectors)
        self.counts = np.full(m, 4) if counts is None else np.asarray(counts)
        self.noise = np.zeros(m) if noise is None else np.asarray(noise)  # what sampling adds to the diagonal

    def gram(self, *, debiased=False):
        served = np.where(self.counts > 0, 1.0, 0.0)[:, None] * self.vectors
        gram = served @ served.T
        if not debiased:
            gram = gram + np.diag(self.noise * (self.counts > 0))
        gram.setflags(write=False)
        return gram

    def norms(self):
        return np.sqrt(np.diag(self.gram()))


class GramGradients(FakeGradients):
    """A GradientView over a given Gram matrix."""

    def __init__(self, gram):
        self.matrix = np.asarray(gram, dtype=np.float64)
        self.counts = np.full(len(self.matrix), 4)

    def gram(self, *, debiased=False):
        return self.matrix

    def norms(self):
        return np.sqrt(np.diag(self.matrix))


def frozen(values, dtype=np.float64):
    array = np.array(values, dtype=dtype)
    array.setflags(write=False)
    return array


def against_mean(vectors, target, present=None, target_present=(True,)):
    """What the lab sells against the mean target: domains' gradients [m, d], the target's [d]."""
    present = np.ones(len(vectors), dtype=bool) if present is None else np.array(present, dtype=bool)
    domains = np.where(present[:, None], np.asarray(vectors, dtype=np.float64), 0.0)
    target = np.asarray(target, dtype=np.float64)
    return GradientEstimate(
        products=frozen((domains @ target)[:, None]),
        norms=frozen(np.linalg.norm(domains, axis=1)),
        target_norms=frozen([np.linalg.norm(target)]),
        variances=frozen(np.full(len(domains), np.nan)),
        present=frozen(present, bool),
        target_present=frozen(target_present, bool),
        against="mean",
    )


class FakeLab:
    """Sells validation losses that depend on nothing but the number of targets, probes that change nothing, and
    gradients that never change.

    vectors: [m, d] of the domains, which are the targets, too. shares: [m] of the targets.
    """

    def __init__(self, n=3, vectors=None, shares=None):
        self.n, self.vectors, self.shares = n, vectors, shares

    def validation_losses(self, examples=0):
        return np.linspace(2.0, 3.0, self.n)

    def probe(self, mixture, steps):
        pass

    def domain_gradients(self, examples, *, parts=1, scaling="none", against="each"):
        if against == "each":
            return make_estimate(self.vectors @ self.vectors.T)
        return against_mean(self.vectors, self.shares @ self.vectors, target_present=np.ones(self.n))

    def embeddings(self, examples, embedder="auto"):
        """A cloud around every domain's vector, in an order that is not that of the domains."""
        centres = np.eye(self.n) if self.vectors is None else self.vectors
        noise = 0.3 * np.random.default_rng(1).normal(size=(2, 12, centres.shape[1]))
        clouds = [(centres[:, None] + part).reshape(-1, centres.shape[1]) for part in noise]
        orders = [np.lexsort(cloud.T) for cloud in clouds]
        owners = np.repeat(np.arange(len(centres)), 12)
        (train, validation), (first, second) = clouds, orders
        return example_vectors(train[first], owners[first], validation[second], owners[second])


def example_vectors(train, domains, validation, targets):
    """What the lab sells as embeddings."""
    return ExampleVectors(
        train=frozen(train, np.float32),
        domains=frozen(domains, np.int64),
        validation=frozen(validation, np.float32),
        targets=frozen(targets, np.int64),
        embedder="fake",
    )


class GradientLab:
    """Sells the given estimates, one a call, and remembers how they were ordered."""

    def __init__(self, estimates):
        self.estimates, self.orders = list(estimates), []

    def domain_gradients(self, examples, **how):
        self.orders.append((examples, how))
        return self.estimates.pop(0)


def make_problem(*, train=(0.5, 0.3, 0.2), target=(0.2, 0.3, 0.5), examples=None, domains=None, targets=None, **budget):
    m = len(train)
    domains = tuple(f"d{i}" for i in range(m)) if domains is None else tuple(domains)
    targets = domains if targets is None else tuple(targets)
    examples = np.round(1000 * np.array(train)) if examples is None else np.array(examples)
    return Problem(
        domains=domains,
        targets=targets,
        train_shares=frozen(train),
        target_shares=frozen(target),
        examples=frozen(examples, np.int64),
        units=frozen(examples * 100, np.int64),
        steps=budget.get("steps", 100),
        batch_size=budget.get("batch_size", 4),
        seed=budget.get("seed", 0),
    )


def make_estimate(products, *, present=True, target_present=True):
    """What a lab measures, from products [m, n]; the norms are made up."""
    m, n = np.shape(products)
    there = np.broadcast_to(present, m), np.broadcast_to(target_present, n)
    return GradientEstimate(
        products=frozen(np.where(np.outer(*there), products, 0.0)),
        norms=frozen(np.where(there[0], 1.0, 0.0)),
        target_norms=frozen(np.where(there[1], 1.0, 0.0)),
        variances=frozen(np.full(m, np.nan)),
        present=frozen(there[0], np.bool_),
        target_present=frozen(there[1], np.bool_),
    )


def observe(problem, *, gradients=None, losses=None, round=0, rounds=10, step=None, learning_rate=1e-3):
    counts = np.full(problem.m, 4) if gradients is None else gradients.counts
    step = (round + 1) * problem.steps // rounds if step is None else step
    return Observation(
        domains=problem.domains,
        step=step,
        steps=problem.steps,
        round=round,
        learning_rate=learning_rate,
        mixture_id=round,
        examples=frozen(counts, np.int64),
        units=frozen(counts * 100, np.int64),
        losses=losses,
        gradients=gradients,
    )


def play(mixer, problem, vectors, rounds=3):
    """Drive a mixer through a few rounds with the signals that it declares; all weights in force, [rounds + 1, m]."""
    lab = FakeLab(len(problem.targets), vectors, problem.target_shares)
    weights = [mixer.start(problem, lab).checked(problem.domains).weights]
    signals = {type(signal) for signal in mixer.needs().signals}
    for round in range(rounds):
        seen = observe(
            problem,
            gradients=FakeGradients(vectors * (1.0 + round)) if DomainGradients in signals else None,
            losses=frozen(2.0 + np.abs(vectors).mean(axis=1)) if TrainLosses in signals else None,
            round=round,
        )
        answer = mixer.update(seen, lab)
        weights.append(weights[-1] if answer is None else answer.checked(problem.domains).weights)
    return np.stack(weights)


class FakeRegroupLab:
    """Sells given embeddings and keeps the bill."""

    modalities = ("auto",)

    def __init__(self, train, validation, scores=None):
        self.splits = {"train": frozen(train, np.float32), "validation": frozen(validation, np.float32)}
        self.scores = scores
        self.asked = []
        self.bill = {}

    def embeddings(self, split, embedder):
        self.asked.append((split, embedder))
        return self.splits[split]

    def qualities(self, split, scorer):
        self.asked.append((split, scorer))
        return frozen(self.scores)

    def charge(self, flops, what):
        self.bill[what] = self.bill.get(what, 0.0) + flops


def planted(k=5, n=600, n_validation=200, d=16, spread=0.05, seed=0):
    """Well separated clusters on the sphere: train and validation vectors with their planted labels."""
    rng = np.random.default_rng(seed)
    centres = np.linalg.qr(rng.normal(size=(d, d)))[0][:k]
    share = np.arange(k, 0, -1) / (k * (k + 1) / 2)
    labels = rng.choice(k, size=n + n_validation, p=share)
    vectors = (centres[labels] + spread * rng.normal(size=(n + n_validation, d))) * rng.uniform(
        0.5, 2.0, (len(labels), 1)
    )
    return vectors[:n], labels[:n], vectors[n:], labels[n:]


def make_grouping(train, validation, seed=0):
    m = int(max(train.max(), validation.max(initial=0))) + 1
    return Grouping(
        domains=tuple(f"o{i}" for i in range(m)),
        train=frozen(train, np.int64),
        validation=frozen(validation, np.int64),
        seed=seed,
    )
