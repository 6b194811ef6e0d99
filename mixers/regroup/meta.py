"""Domain2Vec's meta-domains: clusters of examples, and a classifier that tells which of them an example is like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from mixers.base import Array, IntArray, MixerError
from mixers.regroup import clustering
from mixers.regroup.clustering import Bill, Vectors

Classifier = Literal["logistic", "centroid"]
STEPS = 300  # of the logistic regression's solver at most


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaDomains:
    """A linear classifier of k meta-domains: probabilities softmax(weights x + bias). weights: [k, d], bias: [k]."""

    weights: Vectors
    bias: Vectors

    def probabilities(self, points: Vectors, lab: Bill) -> Array:
        """[n, k] of points [n, d]; rows sum to one."""
        logits = points @ self.weights.T + self.bias
        lab.charge(2.0 * len(points) * self.weights.size, "meta-domains: classification")
        powers = np.exp((logits - logits.max(axis=1, keepdims=True)).astype(np.float64))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))

    def means(self, points: Vectors, owners: IntArray, count: int, lab: Bill) -> Array:
        """[count, k] domain vectors: mean probabilities of each owner's points; NaN where it has none.

        owners: [n] of each point, below ``count``.
        """
        vectors = np.full((count, len(self.weights)), np.nan)
        for owner in np.unique(owners):
            vectors[owner] = self.probabilities(points[owners == owner], lab).mean(axis=0)
        return vectors

    def likeliest(self, points: Vectors, lab: Bill) -> IntArray:
        """[n] the meta-domain of greatest probability of each point, the first on a tie; on one thread, as clusters."""
        from threadpoolctl import threadpool_limits

        labels = np.empty(len(points), dtype=np.int64)
        with threadpool_limits(limits=1, user_api="blas"):
            for i in range(0, len(points), clustering.ROWS):
                part = points[i : i + clustering.ROWS] @ self.weights.T + self.bias
                labels[i : i + clustering.ROWS] = part.argmax(axis=1)
        lab.charge(2.0 * len(points) * self.weights.size, "meta-domains: classification")
        return labels


def train_classifier(
    points: Vectors,
    clusters: IntArray,
    centroids: Vectors,
    *,
    classifier: Classifier,
    penalty: float,
    temperature: float,
    lab: Bill,
) -> MetaDomains:
    """The classifier of clusters. points: [n, d] with their clusters [n], all of 0..k-1 in use. centroids: [k, d].

    ``logistic``: multinomial logistic regression on the clusters, with penalty / 2 times the squared weights beside the
    sum of the losses; its likeliest cluster need not be the nearest one. ``centroid``: softmax of
    -|x - c|^2 / temperature, for which nothing is fitted.
    """
    if classifier == "centroid" or len(centroids) == 1:
        scale = np.float32(1.0 / temperature)
        return MetaDomains(weights=2.0 * scale * centroids, bias=-scale * (centroids**2).sum(axis=1))
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):  # sums must not depend on how threads share them
        model = LogisticRegression(C=1.0 / penalty, max_iter=STEPS, tol=1e-3).fit(points, clusters)
    k = len(centroids)
    lab.charge(4.0 * int(model.n_iter_.max()) * points.size * k, f"meta-domains: logistic regression of k={k}")
    weights, bias = model.coef_.astype(np.float32), model.intercept_.astype(np.float32)
    if k == 2:  # scikit-learn keeps the second class's row only
        weights, bias = np.vstack([np.zeros_like(weights), weights]), np.concatenate([np.zeros_like(bias), bias])
    return MetaDomains(weights=weights, bias=bias)


def learn(
    points: Vectors, centroids: Vectors, *, classifier: Classifier, penalty: float, temperature: float, lab: Bill
) -> tuple[MetaDomains, float]:
    """The classifier of the clusters around centroids [k, d], and the share of points whose cluster it repeats.

    Meta-domains are renumbered from the largest to the smallest; those without a point of [n, d] are gone.
    """
    kept, clusters = clustering.largest_first(centroids, clustering.nearest_of_many(points, centroids, lab))
    made = train_classifier(
        points, clusters, kept, classifier=classifier, penalty=penalty, temperature=temperature, lab=lab
    )
    return made, float((made.likeliest(points, lab) == clusters).mean())


def check_classifier(name: str, classifier: str, penalty: float, temperature: float) -> None:
    """Raise :class:`MixerError` in the name of a plugin where one of its settings is none."""
    for valid, rule in (
        (classifier in get_args(Classifier), f"classifier is logistic or centroid, not {classifier}"),
        (0.0 < penalty < float("inf"), f"penalty must be positive and finite, not {penalty}"),
        (0.0 < temperature < float("inf"), f"temperature must be positive and finite, not {temperature}"),
    ):
        if not valid:
            raise MixerError(f"{name}: {rule}")
