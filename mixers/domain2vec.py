"""Domain2Vec, the lite version: the mixture whose distribution over meta-domains is nearest to the target's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from mixers import alignment, simplex, swarm
from mixers.base import (
    Array,
    BoolArray,
    Choices,
    ExampleVectors,
    Lab,
    Mixer,
    MixerError,
    Mixture,
    Needs,
    Problem,
    Purchases,
    Span,
    space,
)  # fmt: skip
from mixers.regroup import clustering, meta
from mixers.regroup.meta import Classifier


class Domain2Vec(Mixer):
    """Describe every domain by its distribution over meta-domains, and mix so as to match the target's. No runs.

    Source: *Domain2Vec: Vectorizing Datasets to Find the Optimal Data Mixture without Training* (arXiv 2506.10952), its
    training-free variant DA2, known here from detailed notes on the paper; no code is public. With V [k, m] the vectors
    of the training domains and v [k] the target's, the mixture minimises, over the simplex,

        sum over k of huber(V r - v) / delta  +  kl KL(r || training shares).

    **A lite version.** The paper cuts a billion documents into 260 meta-domains and trains a language model of 1.5
    billion parameters to tell them apart (74.7 % right). Here they are k-means clusters of the very examples that are
    bought, as many of each domain, by embeddings of unit length, and the classifier is a logistic regression or a
    softmax over distances to centroids. Vectors are means over ``examples`` of a domain, as there. The variant
    ``+RegMix``, which fits losses on meta-domains to 10,500 runs, is left out.

    Choices:

    - The paper draws 100,000 mixtures around the training shares, rejects those that repeat a domain, and averages the
      best 100. The problem is convex, so it is solved (:mod:`mixers.alignment`), within ``max_epochs``, which is 1 in
      the paper and without limit here: budgets of this harness often exceed the data.
    - delta is not in the notes. At 1 the Huber distance of distributions is half the squared one, so a gain over that,
      which the paper reports, means a much smaller one. Divided by delta, it is nearly the sum of absolute differences
      where they exceed delta, in [0, 2], so that kl means about the same whatever delta is.
    - Where vectors are collinear, or far from the target, the answer may not be unique (``unique`` in the report). The
      solve starts at the training shares, and for kl = 0 stays near them; kl > 0 decides.
    - The target's vector is the mean of the targets' vectors by target shares. Targets without validation examples
      count for nothing; with none left the mixture is the training shares. A domain without vectors keeps its share.
    - Validation examples are embedded, never clustered.

    Limits. In the authors' own table it is cheaper than RegMix and DoReMi, not better. Matching the target's
    distribution ignores how hard a domain is and what it gives to others; where the targets are the training domains,
    it finds about the target shares, as the published tables of text, reasoning and pictures show.

    Scale: the lengths of embeddings change nothing. Its own arithmetic is on the bill as seconds, not as FLOPs. Draws
    follow ``Problem.seed`` and the data's order; the order and names of domains change nothing.
    """

    name = "domain2vec"
    search_space = space(
        delta=Span(low=1e-3, high=0.1, log=True),
        kl=Span(low=1e-3, high=0.3, log=True),
        meta_domains=Span(low=16, high=256, log=True, whole=True),
        classifier=Choices(values=("logistic", "centroid")),
    )

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """examples: of each domain and target (paper: 1,000). embedder: ``auto`` or a name that the task knows.

        meta_domains: clusters (paper: 260), fewer where there are less than ``per_meta_domain`` examples for each.
        fit_sample: examples that clusters and classifier are fitted to at most. classifier, penalty (of ``logistic``),
        temperature (of ``centroid``): see :func:`mixers.regroup.meta.train_classifier`. delta, kl: see the class.
        max_epochs: the main run repeats no domain more often; ``None``: no limit.
        """

        examples: int = 1_000
        embedder: str = "auto"
        meta_domains: int = 64
        per_meta_domain: int = 10
        fit_sample: int = 20_000
        classifier: Classifier = "logistic"
        penalty: float = 1.0
        temperature: float = 0.1
        delta: float = 0.01
        kl: float = 0.0
        max_epochs: float | None = None

        def __post_init__(self) -> None:
            whole = (self.examples, self.meta_domains, self.per_meta_domain, self.fit_sample)
            epochs = self.max_epochs
            for valid, rule in (
                (min(whole) >= 1, "examples, meta_domains, per_meta_domain and fit_sample must be at least 1"),
                (0.0 < self.delta < float("inf"), f"delta must be positive and finite, not {self.delta}"),
                (0.0 <= self.kl < float("inf"), f"kl must be finite and at least 0, not {self.kl}"),
                (epochs is None or 0.0 < epochs < float("inf"), f"max_epochs must be positive, or none, not {epochs}"),
            ):
                if not valid:
                    raise MixerError(f"domain2vec: {rule}")
            meta.check_classifier("domain2vec", self.classifier, self.penalty, self.temperature)

    def needs(self) -> Needs:
        """One round: the mixture is static."""
        return Needs(rounds=1)

    def purchases(self, problem: Problem) -> Purchases:
        """Vectors, once; none for a single domain."""
        wanted = self.config.examples if problem.m > 1 else 0
        return Purchases(embedding_examples=wanted, embedder=self.config.embedder)

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        """Buy vectors, learn meta-domains, align."""
        self._report: dict[str, Any] = {}
        if problem.m == 1:
            return problem.mixture([1.0])
        bought = lab.embeddings(self.config.examples, self.config.embedder)
        if not len(bought.train):
            return problem.mixture(problem.train_shares)
        with threadpool_limits(limits=1):  # sums must not depend on how threads share them
            vectors, targets = self._vectors(problem, bought)
            return self._align(problem, vectors, targets)

    def _vectors(self, problem: Problem, bought: ExampleVectors) -> tuple[Array, Array]:
        """[m, k] and [n, k] vectors of the domains and targets; NaN where there is no example."""
        c, rng, free = self.config, np.random.default_rng(problem.seed), clustering.Unbilled()
        points = clustering.unit(bought.train)
        fitted = clustering.sample(points, c.fit_sample, rng)
        k = min(c.meta_domains, max(1, len(fitted) // c.per_meta_domain), len(np.unique(fitted, axis=0)))
        centroids = clustering.fit(fitted, k, n_init=1, max_iter=100, rng=rng, lab=free)
        classifier, agreement = meta.learn(
            fitted, centroids, classifier=c.classifier, penalty=c.penalty, temperature=c.temperature, lab=free
        )
        self._report = {"embedder": bought.embedder, "examples": len(points), "meta_domains": len(classifier.bias)}
        self._report["classifier_agreement"] = agreement
        evaluation = clustering.unit(bought.validation)
        return (
            classifier.means(points, bought.domains, problem.m, free),
            classifier.means(evaluation, bought.targets, len(problem.targets), free),
        )

    def _align(self, problem: Problem, vectors: Array, targets: Array) -> Mixture:
        c, home = self.config, swarm.canonical(problem)
        columns = swarm.columns(problem, home)
        there: BoolArray = np.isfinite(vectors[columns, 0])
        seen = np.isfinite(targets[:, 0]) & (problem.target_shares > 0.0)
        prior, caps = home.train_shares, swarm.repetition_caps(home, c.max_epochs)
        mass = float(prior[there].sum())
        weights = np.array(prior)
        if seen.any() and mass > 0.0:
            target = simplex.normalise(problem.target_shares[seen]) @ targets[seen]
            known, before = vectors[columns][there], simplex.normalise(prior[there])
            after = alignment.align(known, target, before, caps=caps[there] / mass, delta=c.delta, kl=c.kl)
            weights[there] = mass * after
            self._report |= {
                "distance": alignment.huber(after @ known - target, c.delta),
                "distance_of_training_shares": alignment.huber(before @ known - target, c.delta),
                "unique": c.kl > 0.0 or alignment.unique(after, known, target, caps=caps[there] / mass, delta=c.delta),
            }
        self._report |= {
            "domains_without_vectors": [name for name, ok in zip(home.domains, there, strict=True) if not ok],
            "skipped_targets": [name for name, ok in zip(problem.targets, seen, strict=True) if not ok],
        }
        return problem.mixture(weights[swarm.columns(home, problem)])

    def report(self) -> dict[str, Any]:
        """Embedder, numbers of examples and meta-domains, distances to the target, whether the answer is unique.

        classifier_agreement: share of the examples it was fitted to whose likeliest meta-domain is their cluster.
        distance, distance_of_training_shares: Huber over delta, over the domains that have vectors.
        """
        return self._report
