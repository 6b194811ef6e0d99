"""Domains from concepts: sparse directions of embeddings, tied across images and captions by the Bridge score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mixers.base import IntArray, MixerError
from mixers.regroup import clustering, concepts, report, sparse_autoencoder
from mixers.regroup.base import Grouping, Partition, Regrouper, RegroupLab
from mixers.regroup.clustering import Vectors

QUANTILES = (0.0, 0.1, 0.5, 0.9, 1.0)  # of the kept concepts' modality scores, image / (image + caption)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cut:
    """Labels of both splits, -1 for the remainder; remarks for the row."""

    train: IntArray
    validation: IntArray
    about: dict[str, Any]


class Sae(Regrouper):
    """Groups of concepts that a sparse autoencoder finds in embeddings; an example belongs where its energy is.

    Concepts, energy, modality score, stability and Bridge score are those of Papadimitriou et al., *Interpreting the
    Linear Structure of Vision-Language Model Embedding Spaces* (arXiv 2504.11695), with a BatchTopK autoencoder
    (2412.06410) for both modalities together. The paper interprets models; **cutting data this way is a design of our
    own**: no source sets anything here beyond the formulas. Its width, active concepts and training were not found.

    1. Unit vectors of every modality, centred, in common directions (:func:`concepts.common_space`): the paper's come
       from models with a joint space, a task's image and caption embedders have none. 2. An autoencoder, twice.
    3. Concepts of some energy that the second one has too. 4. Graph of the larger Bridge scores, cut into ``k``
    groups by spectral clustering; concepts without an edge join the group whose direction is nearest. 5. An example
    goes to the group of the largest sum of its codes, over all modalities. Groups of less than ``smallest`` join the
    nearest. Examples without a kept concept form ``remainder``, or go by direction if they are fewer than that.

    With one modality the score is that of an example with itself: concepts that fire together and point the same way.
    All of it is done a second time from other random numbers, for ``stability`` in the report. Examples are taken in
    an order of their contents, so that the order in which a corpus lists them cannot matter; one thread.
    """

    name = "sae"

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """k: groups. embedders: one name, or two for pairs; empty: the task's own, one for each of its modalities.

        centre: whether each modality's mean is taken off. dimensions: of the common space at most. expansion: concepts
        for each of its dimensions. active: concepts an example, on average. steps, batch_size, learning_rate: of the
        autoencoder. low_energy: concepts below this share of the mean energy are dropped, and those whose cosine with
        their partner in the second autoencoder does not exceed ``stability``. On the embedded corpora .8 leaves a sixth
        of them, and domains of two seeds with an adjusted Rand index of about .2; .5 leaves two thirds and .5; without
        this filter (-1) it is .6. bridge_quantile: of a concept's positive scores; smaller ones are edges only if
        they are large for the other end. smallest: least share of the training examples that a domain may have.
        """

        k: int = 8
        embedders: tuple[str, ...] = ()
        centre: bool = True
        dimensions: int = 64
        expansion: int = 4
        active: int = 8
        steps: int = 400
        batch_size: int = 512
        learning_rate: float = 5e-3
        low_energy: float = 0.1
        stability: float = 0.5
        bridge_quantile: float = 0.5
        smallest: float = 0.01

        def __post_init__(self) -> None:
            for name in ("k", "dimensions", "expansion", "active", "steps", "batch_size"):
                if getattr(self, name) < 1:
                    raise MixerError(f"sae: {name}={getattr(self, name)} must be at least 1")
            if len(self.embedders) > 2:
                raise MixerError(f"sae: embedders names {len(self.embedders)} modalities; name one or two, or none")
            if not 0.0 < self.learning_rate < np.inf:
                raise MixerError(f"sae: learning_rate={self.learning_rate} must be positive")
            if not 0.0 <= self.low_energy < np.inf or not -1.0 <= self.stability < 1.0:
                raise MixerError("sae: low_energy must be 0 or more, and stability, a cosine, in [-1, 1)")
            if not 0.0 <= self.bridge_quantile < 1.0 or not 0.0 <= self.smallest <= 0.5:
                raise MixerError("sae: bridge_quantile must be in [0, 1), and smallest in [0, 0.5]")

    def regroup(self, grouping: Grouping, lab: RegroupLab) -> Partition:
        """The groups by falling size, ``concepts-00`` the largest, then ``remainder`` where there is one."""
        from threadpoolctl import threadpool_limits

        names = self.config.embedders or lab.modalities
        if len(names) > 2:
            raise MixerError(f"sae: the task has {len(names)} modalities; choose one or two: embedders={list(names)}")
        train = [np.asarray(lab.embeddings("train", name)) for name in names]
        if not all(len(each) == len(grouping.train) > 0 for each in train):
            raise MixerError("sae: needs a vector of each modality for every training example")
        order = concepts.order_by_content(train)
        with threadpool_limits(limits=1):
            made = [vectors[order] for vectors in train]
            space = concepts.common_space(made, self.config.dimensions, centre=self.config.centre, lab=lab)
            points = [space.of(view, vectors, lab) for view, vectors in enumerate(made)]
            held = [space.of(view, lab.embeddings("validation", name), lab) for view, name in enumerate(names)]
            cut, other = (self._cut(points, held, [grouping.seed, i], lab) for i in range(2))
            k, first, validation = _numbered(cut.train, cut.validation)
            back = np.argsort(order)  # from the order of contents to the corpus's own
            labels, again = first[back], _numbered(other.train, other.validation)[1][back]
            told = report.describe(clustering.unit(np.sum(points, axis=0))[back], labels, [again], grouping, lab)
        remainder = bool(np.any(cut.train < 0))
        width = max(2, len(str(k - 1)))
        domains = [f"concepts-{i:0{width}d}" for i in range(k)]
        return Partition(
            domains=(*domains, "remainder") if remainder else tuple(domains),
            train=labels,
            validation=validation,
            report={**told, "embedder": " + ".join(names), **cut.about},
        )

    def _cut(self, train: list[Vectors], held: list[Vectors], seed: list[int], lab: RegroupLab) -> _Cut:
        """One run of steps 2 to 5 on points of the common space, a list of views."""
        c, rng = self.config, np.random.default_rng(seed)
        everything = np.concatenate(train)
        width = c.expansion * everything.shape[1]
        sizes = {"active": c.active, "steps": c.steps, "batch_size": c.batch_size}
        model, second = (
            sparse_autoencoder.fit(everything, width, **sizes, learning_rate=c.learning_rate, rng=rng, lab=lab)
            for _ in range(2)
        )
        codes = [model.encode(points, lab) for points in train]
        energies = np.stack([each.mean(axis=0) for each in codes]).astype(np.float64)
        alive = concepts.living(energies.mean(axis=0), c.low_energy)
        there = concepts.living(second.encode(everything, lab).mean(axis=0), 0.0)
        cosines = np.full(width, -1.0)
        cosines[alive] = concepts.matched(model.decoder[alive], second.decoder[there], lab)
        kept = np.flatnonzero(alive & (cosines > c.stability))
        dictionary, energy = model.decoder[kept], energies.mean(axis=0)[kept]
        ours = [each[:, kept] for each in codes]
        theirs = [model.encode(points, lab)[:, kept] for points in held]
        graph = concepts.graph(concepts.bridge(ours[0], ours[-1], dictionary, lab), c.bridge_quantile)
        groups = concepts.communities(graph, c.k, rng=rng, lab=lab)
        groups = concepts.attached(groups, dictionary, energy, lab)
        groups = concepts.merged(groups, ours, dictionary, energy, c.smallest, lab)
        labels, validation = (concepts.strongest(views, groups, lab) for views in (ours, theirs))
        rest = float(np.mean(labels < 0))
        if rest == 0.0 or rest < c.smallest:  # too few for a domain of their own
            centres = concepts.centroids(dictionary, energy, groups)
            for found, points in ((labels, train), (validation, held)):
                lost = np.flatnonzero(found < 0)
                found[lost] = np.argmax(np.sum(points, axis=0)[lost] @ centres.T, axis=1)
        scores = energies[0, kept] / energies[:, kept].sum(axis=0)
        about = {
            "concepts": width,
            "concepts_alive": int(alive.sum()),
            "concepts_kept": len(kept),
            "concept_stability": round(float(cosines[alive].mean()), 4),
            "graph_components": concepts.parts(graph),
            "explained_variance": [
                round(model.explained(points, each, lab), 4) for points, each in zip(train, codes, strict=True)
            ],
            "active": [round(each.nnz / each.shape[0], 2) for each in codes],
            "without_concept": round(rest, 4),
            "modality_scores": np.quantile(scores, QUANTILES).round(3).tolist() if len(train) > 1 else None,
            "modalities_agree": concepts.agreeing(ours, groups, lab),
            "modalities_agree_validation": concepts.agreeing(theirs, groups, lab),
        }
        return _Cut(train=labels, validation=validation, about=about)


def _numbered(train: IntArray, validation: IntArray) -> tuple[int, IntArray, IntArray]:
    """Number of groups, and labels by falling size on train; the remainder, -1, becomes the last."""
    sizes = np.bincount(train[train >= 0])
    order = np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes)]
    rank = np.full(len(sizes) + 1, len(order), dtype=np.int64)  # the last entry is what -1 points to
    rank[order] = np.arange(len(order))
    return len(order), rank[train], rank[validation]
