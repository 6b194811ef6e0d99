"""Domain2Vec's meta-domains as domains: what a classifier of clusters says of each example."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixers.base import IntArray, MixerError
from mixers.regroup import clustering, meta
from mixers.regroup.base import Grouping, Partition, Regrouper, RegroupLab
from mixers.regroup.clustering import Engine, Vectors, engine_of
from mixers.regroup.meta import Classifier, MetaDomains
from mixers.regroup.report import describe


class Domain2Vec(Regrouper):
    """Cluster the training examples, train a classifier of the clusters, and let it label every example.

    Source: the meta-domains of *Domain2Vec* (arXiv 2506.10952), known here from detailed notes on the paper; no code is
    public. There: k-means of bge-small embeddings of a billion documents into 120 English and 120 Chinese meta-domains,
    and 20 of programming languages; a language model of 1.5 billion parameters, trained on these labels (74.7 % right).

    **A lite version, and a use that the paper does not make of it**: it describes data sets by their mean
    probabilities, as the mixer of the same name does, and mixes the data sets. Here the likeliest meta-domain is the
    example's domain. The classifier is a logistic regression on the same embeddings as the clusters; with
    ``classifier=centroid`` the partition is plain k-means.

    Choices:

    - ``meta_domains`` is 32, not 260: every one of them is a domain to be mixed, sampled and measured. Fewer where
      there are less than ``per_meta_domain`` examples for each.
    - A meta-domain that is no training example's likeliest is left out before validation examples are labelled.
    - Domains are named by falling size. Validation examples are classified, and move nothing. The seed of the trial
      decides over the clusters.
    """

    name = "domain2vec"

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """meta_domains: clusters, if there are ``per_meta_domain`` examples for each. embedder: ``auto`` or a name.

        classifier, penalty, temperature: see :func:`mixers.regroup.meta.train_classifier`. fit_sample: examples that
        clusters and classifier are fitted to at most. spherical: k-means by cosine. iterations, n_init: of k-means.
        engine: see :func:`mixers.regroup.clustering.fit_many`. stability_seeds: cuts by other seeds that this one is
        compared with.
        """

        meta_domains: int = 32
        per_meta_domain: int = 10
        embedder: str = "auto"
        classifier: Classifier = "logistic"
        penalty: float = 1.0
        temperature: float = 0.1
        fit_sample: int = 50_000
        spherical: bool = True
        iterations: int = 25
        n_init: int = 3
        engine: Engine = "auto"
        stability_seeds: int = 2

        def __post_init__(self) -> None:
            whole = (self.meta_domains, self.per_meta_domain, self.fit_sample, self.iterations, self.n_init)
            for valid, rule in (
                (
                    min(whole) >= 1,
                    "meta_domains, per_meta_domain, fit_sample, iterations and n_init must be at least 1",
                ),
                (self.engine in ("auto", "faiss", "sklearn"), f"engine is auto, faiss or sklearn, not {self.engine}"),
                (self.stability_seeds >= 0, f"stability_seeds must be at least 0, not {self.stability_seeds}"),
            ):
                if not valid:
                    raise MixerError(f"domain2vec: {rule}")
            meta.check_classifier("domain2vec", self.classifier, self.penalty, self.temperature)

    def regroup(self, grouping: Grouping, lab: RegroupLab) -> Partition:
        """The meta-domains, ``meta-00`` the largest."""
        c = self.config
        points = clustering.unit(lab.embeddings("train", c.embedder))
        evaluation = clustering.unit(lab.embeddings("validation", c.embedder))
        seeds = np.random.SeedSequence(grouping.seed).spawn(1 + c.stability_seeds)
        cuts = [self._cut(points, np.random.default_rng(seed), lab) for seed in seeds]
        classifier, train, agreement = cuts[0]
        k = len(classifier.weights)
        return Partition(
            domains=tuple(f"meta-{i:0{max(2, len(str(k - 1)))}d}" for i in range(k)),
            train=train,
            validation=classifier.likeliest(evaluation, lab),
            report={
                **describe(points, train, [labels for _, labels, _ in cuts[1:]], grouping, lab),
                "embedder": c.embedder,
                "engine": engine_of(c.engine),
                "classifier": c.classifier,
                "classifier_agreement": round(agreement, 4),
            },
        )

    def _cut(self, points: Vectors, rng: np.random.Generator, lab: RegroupLab) -> tuple[MetaDomains, IntArray, float]:
        """Classifier of the k meta-domains in use, largest first; each point's, [n]; share of clusters it repeats."""
        c = self.config
        fitted = clustering.sample(points, c.fit_sample, rng)
        centroids = clustering.fit_many(
            fitted,
            min(c.meta_domains, max(1, len(fitted) // c.per_meta_domain)),
            spherical=c.spherical,
            per_centroid=len(fitted),
            iterations=c.iterations,
            n_init=c.n_init,
            engine=c.engine,
            rng=rng,
            lab=lab,
        )
        whole, agreement = meta.learn(
            fitted, centroids, classifier=c.classifier, penalty=c.penalty, temperature=c.temperature, lab=lab
        )
        labels = whole.likeliest(points, lab)
        sizes = np.bincount(labels, minlength=len(whole.bias))
        used = np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes)]
        kept = MetaDomains(weights=whole.weights[used], bias=whole.bias[used])
        rank = np.zeros(len(whole.bias), dtype=np.int64)
        rank[used] = np.arange(len(used))
        return kept, rank[labels], agreement
