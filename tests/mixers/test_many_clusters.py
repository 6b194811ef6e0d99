"""k-means with many clusters, and the regroupers that stand on it."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
from mixer_fakes import FakeRegroupLab, make_grouping, planted
from threadpoolctl import threadpool_limits

from mixers.base import MixerError
from mixers.regroup import clustering, meta
from mixers.regroup.climb import Climb
from mixers.regroup.domain2vec import Domain2Vec

FAISS = pytest.mark.skipif(importlib.util.find_spec("faiss") is None, reason="faiss is not installed")
ENGINES = ["sklearn", pytest.param("faiss", marks=FAISS)]
BOTH = [Climb, Domain2Vec]
SMALL = {Climb: {"k_init": 40, "groups": 5}, Domain2Vec: {"meta_domains": 5, "penalty": 0.1}}


def regroup(cls, data=None, *, seed=0, scores=None, **config):
    vectors, labels, validation, validation_labels = planted() if data is None else data
    lab = FakeRegroupLab(vectors, validation, scores)
    grouping = make_grouping(labels, validation_labels, seed)
    made = cls(cls.Config(**(SMALL[cls] | config))).regroup(grouping, lab).checked(grouping)
    json.dumps(made.report, allow_nan=False)
    return made, lab


def many(points, k, *, engine, spherical=True, seed=0, lab=None, n_init=1, per_centroid=256, iterations=20):
    return clustering.fit_many(
        points,
        k,
        spherical=spherical,
        per_centroid=per_centroid,
        iterations=iterations,
        n_init=n_init,
        engine=engine,
        rng=np.random.default_rng(seed),
        lab=lab or clustering.Unbilled(),
    )


# k-means


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("spherical", [True, False])
def test_the_planted_clusters_are_found(engine, spherical):
    vectors, labels, _, _ = planted(k=5)
    points = clustering.unit(vectors)
    centroids = many(points, 5, engine=engine, spherical=spherical, n_init=5)
    found = clustering.nearest_of_many(points, centroids, clustering.Unbilled())
    assert clustering.agreement(labels, found)["adjusted_rand_index"] == 1.0
    if spherical:
        np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1.0, rtol=1e-5)
    else:  # the means of their points, inside the sphere
        np.testing.assert_allclose(centroids[0], points[found == 0].mean(axis=0), atol=1e-4)
    assert centroids.dtype == np.float32


@pytest.mark.parametrize("engine", ENGINES)
def test_one_seed_gives_one_result_and_another_seed_another(engine):
    points = clustering.unit(np.random.default_rng(0).normal(size=(500, 8)))
    first = many(points, 20, engine=engine)
    np.testing.assert_array_equal(first, many(points, 20, engine=engine))
    assert not np.array_equal(first, many(points, 20, engine=engine, seed=1))


def test_faiss_counts_its_iterations_and_threads_change_nothing():
    faiss = pytest.importorskip("faiss")
    points = clustering.unit(np.random.default_rng(0).normal(size=(3000, 8)))
    lab = FakeRegroupLab(points, points)
    threads = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(1)
        one = many(points, 30, engine="faiss", lab=lab, n_init=2, per_centroid=50, iterations=7)
        faiss.omp_set_num_threads(4)
        np.testing.assert_array_equal(one, many(points, 30, engine="auto", n_init=2, per_centroid=50, iterations=7))
    finally:
        faiss.omp_set_num_threads(threads)
    assert lab.bill == {"k-means: fit of k=30": 2.0 * 2 * 7 * 1500 * 30 * 8}


def test_points_are_assigned_in_parts_as_at_once(monkeypatch):
    points = clustering.unit(np.random.default_rng(0).normal(size=(300, 6)))
    lab = FakeRegroupLab(points, points)
    whole = clustering.nearest(points, points[:40], lab)
    monkeypatch.setattr(clustering, "SCORES", 40 * 7)
    np.testing.assert_array_equal(clustering.nearest_of_many(points, points[:40], lab), whole)
    assert lab.bill["k-means: assignment"] == 2 * 2.0 * 300 * 40 * 6


def test_without_faiss_scikit_learn_is_used_and_faiss_refused(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert clustering.engine_of("auto") == clustering.engine_of("sklearn") == "sklearn"
    with pytest.raises(MixerError, match="faiss is not installed: pip install"):
        clustering.engine_of("faiss")


# Both regroupers


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("cls", BOTH)
def test_the_planted_domains_are_found_by_every_seed(cls, engine):
    data = planted(n=1500)
    made, lab = regroup(cls, data, engine=engine, n_init=5)
    assert made.report["adjusted_rand_index"] == 1.0
    assert made.report["stability"] == 1.0
    assert made.report["stability_seeds"] == 2
    assert made.report["engine"] == engine
    np.testing.assert_array_equal(np.bincount(made.train), made.report["sizes"])
    assert made.report["sizes"] == sorted(made.report["sizes"], reverse=True)
    by_original = [np.unique(np.r_[made.train[data[1] == i], made.validation[data[3] == i]]) for i in range(5)]
    assert [len(found) for found in by_original] == [1] * 5, "validation goes where its like in training went"
    assert lab.asked == [("train", "auto"), ("validation", "auto")]
    again, _ = regroup(cls, data, engine=engine, n_init=5)
    np.testing.assert_array_equal(again.train, made.train)
    assert again.report == made.report
    assert cls.name == cls.__module__.removeprefix("mixers.regroup.")


@pytest.mark.parametrize("cls", BOTH)
def test_validation_moves_nothing_and_seeds_do(cls):
    vectors, labels, validation, validation_labels = planted(spread=0.6)
    wide = {Climb: {"groups": 8}, Domain2Vec: {"meta_domains": 8}}[cls]
    base, _ = regroup(cls, (vectors, labels, validation, validation_labels), **wide)
    moved, _ = regroup(cls, (vectors, labels, -7.0 * validation, validation_labels), **wide)
    np.testing.assert_array_equal(base.train, moved.train)
    assert base.report == moved.report
    other, _ = regroup(cls, (vectors, labels, validation, validation_labels), seed=1, **wide)
    assert not np.array_equal(base.train, other.train)
    assert base.report["stability"] < 1.0


@pytest.mark.parametrize("cls", BOTH)
def test_lengths_of_embeddings_and_original_labels_do_not_matter(cls):
    vectors, labels, validation, validation_labels = planted(spread=0.3)
    base, _ = regroup(cls, (vectors, labels, validation, validation_labels))
    other, _ = regroup(cls, (4.0 * vectors, 4 - labels, 2.0 * validation, 4 - validation_labels))
    np.testing.assert_array_equal(base.train, other.train)
    np.testing.assert_array_equal(base.validation, other.validation)


@pytest.mark.parametrize("cls", BOTH)
def test_few_coinciding_and_absent_examples(cls):
    vectors, labels = np.repeat(np.eye(4), 3, axis=0), np.repeat(np.arange(4), 3)
    fewer = {"groups": 3} if cls is Climb else {}
    made, _ = regroup(cls, (vectors, labels, vectors[:0], labels[:0]), **fewer)
    assert 1 <= len(made.domains) <= 4
    assert made.validation.shape == (0,)
    one, _ = regroup(cls, (vectors[:1], labels[:1], vectors[:1], labels[:1]))
    assert len(one.domains) == 1
    assert one.report["silhouette"] is None
    assert one.report["stability"] == 1.0


@pytest.mark.parametrize("cls", BOTH)
def test_stability_can_be_left_out(cls):
    cheap, lab = regroup(cls, stability_seeds=0)
    dear, more = regroup(cls, stability_seeds=1)
    assert cheap.report["stability"] is None
    np.testing.assert_array_equal(cheap.train, dear.train)
    assert sum(more.bill.values()) > 1.5 * sum(lab.bill.values()) - lab.bill["silhouette: distances"]


# climb


def test_climb_merges_to_the_groups_asked_for():
    made, _ = regroup(Climb, groups=3)
    assert made.domains == ("group-00", "group-01", "group-02")
    assert made.report["clusters"] == 40
    held, _ = regroup(Climb, planted(spread=0.6), groups=5, capacity=0.25)
    assert held.report["largest_share"] <= 0.25


def test_climb_has_fewer_clusters_where_there_are_few_examples():
    made, _ = regroup(Climb, k_init=1000, per_cluster=20)
    assert made.report["clusters"] == 30


def test_what_is_poor_becomes_a_domain_of_its_own():
    _, labels, _, validation_labels = planted()
    scores = np.where(labels == 1, 1.0, 4.0) + 0.01 * np.arange(len(labels)) / len(labels)
    made, lab = regroup(Climb, groups=4, n_init=5, scorer="judge", min_quality=3.0, scores=scores)
    assert made.domains == ("group-00", "group-01", "group-02", "group-03", "pruned")
    np.testing.assert_array_equal(made.train == 4, labels == 1)
    np.testing.assert_array_equal(made.validation == 4, validation_labels == 1)
    assert ("train", "judge") in lab.asked
    assert made.report["pruned_share"] == round(float((labels == 1).mean()), 4)
    assert made.report["quality_pruned"] < 1.1 < 3.9 < made.report["quality_kept"]
    with pytest.raises(MixerError, match="no cluster has a mean quality of 9"):
        regroup(Climb, scorer="judge", min_quality=9.0, scores=scores)


def test_a_share_of_the_clusters_can_be_kept_by_compactness():
    vectors, labels, validation, validation_labels = planted()
    noise = 0.4 * np.random.default_rng(0).normal(size=vectors.shape)
    noisy = np.where((labels == 0)[:, None], vectors + noise, vectors)
    made, _ = regroup(Climb, (noisy, labels, validation, validation_labels), scorer="compactness", keep=0.3)
    assert made.report["pruned_clusters"] == 28
    assert made.report["quality_kept"] > made.report["quality_pruned"]
    pruned = made.train == len(made.domains) - 1
    assert pruned[labels == 0].mean() > 0.95 > pruned[labels != 0].mean()
    plain, _ = regroup(Climb)
    assert "pruned" not in plain.domains
    assert plain.report["pruned_clusters"] == 0


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"groups": 0}, "groups must be at least 1"),
        ({"k_init": 10}, "k_init must be at least groups=15, not 10"),
        ({"linkage": "median"}, "linkage is ward, average or single, not median"),
        ({"capacity": 0.05}, "capacity must be from 1 / groups to 1"),
        ({"keep": 0.0}, "keep must be in"),
        ({"engine": "gpu"}, "engine is auto, faiss or sklearn, not gpu"),
        ({"iterations": 0}, "at least 1"),
        ({"stability_seeds": -1}, "stability_seeds must be at least 0"),
    ],
)
def test_climb_refuses_a_senseless_setting(config, said):
    with pytest.raises(MixerError, match=f"climb: .*{said}"):
        Climb.Config(**config)


# domain2vec


def test_with_centroids_the_partition_is_that_of_k_means():
    data = planted(spread=0.5)
    made, _ = regroup(Domain2Vec, data, classifier="centroid", spherical=False, meta_domains=7)
    points = clustering.unit(data[0])
    assert made.report["classifier_agreement"] == 1.0
    centroids = np.stack([points[made.train == j].mean(axis=0) for j in range(7)])
    chosen = np.linalg.norm(points - centroids[made.train], axis=1)
    nearest = np.linalg.norm(points[:, None] - centroids[None], axis=2).min(axis=1)
    assert (chosen <= nearest + 0.02).mean() > 0.97, "iterations end before the last point has settled"


def test_a_meta_domain_that_nothing_is_likeliest_in_is_left_out():
    # a penalty so large that only the classes' sizes count: everything is likeliest in the largest
    made, _ = regroup(Domain2Vec, penalty=1e6)
    assert made.domains == ("meta-00",)
    assert made.report["classifier_agreement"] < 0.5
    np.testing.assert_array_equal(made.validation, 0)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"meta_domains": 0}, "at least 1"),
        ({"classifier": "svm"}, "classifier is logistic or centroid, not svm"),
        ({"engine": "gpu"}, "engine is auto, faiss or sklearn, not gpu"),
        ({"stability_seeds": -1}, "stability_seeds must be at least 0"),
    ],
)
def test_domain2vec_refuses_a_senseless_setting(config, said):
    with pytest.raises(MixerError, match=f"domain2vec: .*{said}"):
        Domain2Vec.Config(**config)


def test_labels_do_not_hang_on_the_number_of_threads():
    """Of centroids that are all but equal, rounding decides."""
    rng = np.random.default_rng(0)
    points = clustering.unit(rng.normal(size=(3000, 128)))
    centroids = np.repeat(clustering.unit(rng.normal(size=(30, 128))), 10, axis=0)
    centroids *= 1 + rng.integers(-2, 3, size=centroids.shape).astype(np.float32) * np.float32(6e-8)
    classifier = meta.MetaDomains(weights=centroids, bias=np.zeros(300, dtype=np.float32))
    found = []
    for threads in (1, 2):
        with threadpool_limits(limits=threads):
            lab = clustering.Unbilled()
            found.append((clustering.nearest(points, centroids, lab), classifier.likeliest(points, lab)))
    np.testing.assert_array_equal(found[0], found[1])


def test_compactness_is_a_cosine_whatever_the_length_of_centroids():
    points = np.repeat([[1.0, 0.0], [0.0, 1.0]], 20, axis=0)
    points[::2] += 0.5  # each cluster has two directions
    grouping = make_grouping(np.zeros(40, int), np.zeros(2, int))
    lab = FakeRegroupLab(points, points[:2])
    config = Climb.Config(k_init=2, groups=1, engine="sklearn", spherical=False, scorer="compactness", keep=1.0)
    made = Climb(config).regroup(grouping, lab)
    unit = clustering.unit(points)[:20]
    mean = unit.mean(axis=0)
    assert made.report["quality_kept"] == pytest.approx(float((unit @ mean).mean() / np.linalg.norm(mean)), abs=1e-3)
