"""Domain2Vec: the alignment by hand and against another solver, vectors, what is absent, order, what is bought."""

from __future__ import annotations

import json

import numpy as np
import pytest
from mixer_fakes import example_vectors, make_problem
from scipy import optimize

from mixers import alignment, simplex
from mixers.base import MixerError, Purchases
from mixers.domain2vec import Domain2Vec
from mixers.regroup import clustering, meta

FREE = clustering.Unbilled()

# The alignment


def test_the_huber_distance_by_hand():
    assert alignment.huber(np.array([0.05, -0.3, 0.0]), 0.1) == pytest.approx(0.0025 / 0.2 + 0.3 - 0.05)
    assert alignment.huber(np.array([0.2, -0.3]), 1e-9) == pytest.approx(0.5)


def test_two_domains_by_hand():
    # residual in both meta-domains is +-(r0 - 0.7): zero at (0.7, 0.3); a cap of half stops it there
    prior = np.array([0.5, 0.5])
    found = alignment.align(np.eye(2), np.array([0.7, 0.3]), prior, caps=np.ones(2), delta=0.01, kl=0.0)
    np.testing.assert_allclose(found, [0.7, 0.3], atol=1e-4)
    capped = alignment.align(np.eye(2), np.array([0.7, 0.3]), prior, caps=np.array([0.6, 1.0]), delta=0.01, kl=0.0)
    np.testing.assert_allclose(capped, [0.6, 0.4], atol=1e-6)
    short = alignment.align(np.eye(2), np.array([0.7, 0.3]), prior, caps=np.array([0.1, 0.3]), delta=0.01, kl=0.0)
    np.testing.assert_allclose(short, [0.25, 0.75], atol=1e-6)


def test_large_delta_is_least_squares():
    # between e0 and (e0 + e1) / 2: residuals (x, -x) with x = r0 + r1 / 2 - 0.6 vanish at r0 = 0.2
    vectors = np.array([[1.0, 0.0], [0.5, 0.5]])
    found = alignment.align(vectors, np.array([0.6, 0.4]), np.full(2, 0.5), caps=np.ones(2), delta=1.0, kl=0.0)
    np.testing.assert_allclose(found, [0.2, 0.8], atol=2e-3)


@pytest.mark.parametrize("delta", [0.1, 0.01, 0.001])
@pytest.mark.parametrize("reachable", [True, False])
def test_it_is_the_optimum_that_slsqp_finds(delta, reachable):
    rng = np.random.default_rng(0)
    vectors = rng.dirichlet(np.full(40, 0.3), 8)
    target = rng.dirichlet(np.ones(8)) @ vectors if reachable else rng.dirichlet(np.full(40, 0.3))
    prior = rng.dirichlet(np.full(8, 5.0))
    ours = alignment.align(vectors, target, prior, caps=np.full(8, 0.5), delta=delta, kl=0.0)

    def loss(r):
        return alignment.huber(r @ vectors - target, delta)

    theirs = optimize.minimize(
        loss,
        prior,
        method="SLSQP",
        bounds=[(0.0, 0.5)] * 8,
        constraints={"type": "eq", "fun": lambda r: r.sum() - 1.0},
        options={"ftol": 1e-12, "maxiter": 500},
    )
    assert loss(ours) <= theirs.fun + 2e-6
    assert ours.max() <= 0.5 + 1e-9


def test_twins_share_as_the_training_data_do_and_kl_draws_back_to_them():
    vectors = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    prior = np.array([0.6, 0.2, 0.2])
    found = alignment.align(vectors, np.array([0.4, 0.6]), prior, caps=np.ones(3), delta=0.01, kl=0.0)
    np.testing.assert_allclose(found, [0.3, 0.1, 0.6], atol=1e-4)
    drawn = alignment.align(vectors, np.array([0.4, 0.6]), prior, caps=np.ones(3), delta=0.01, kl=100.0)
    np.testing.assert_allclose(drawn, prior, atol=0.02)


# Meta-domains


def cloud(centres, owners, seed, spread=0.15):
    rng = np.random.default_rng(seed)
    return np.asarray(centres)[owners] + spread * rng.normal(size=(len(owners), np.shape(centres)[1]))


@pytest.mark.parametrize("classifier", ["logistic", "centroid"])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_domain_vectors_are_mean_probabilities(classifier, k):
    owners = np.repeat(np.arange(k), 30)
    points = clustering.unit(cloud(np.eye(6)[:k], owners, 0))
    centroids = np.stack([points[owners == i].mean(axis=0) for i in range(k)])
    made = meta.train_classifier(
        points, owners, centroids, classifier=classifier, penalty=0.1, temperature=0.1, lab=FREE
    )
    chances = made.probabilities(points, FREE)
    np.testing.assert_allclose(chances.sum(axis=1), 1.0)
    np.testing.assert_array_equal(made.likeliest(points, FREE), owners)
    vectors = made.means(points, np.where(owners == k - 1, k, owners), k + 1, FREE)
    np.testing.assert_allclose(vectors[k], chances[owners == k - 1].mean(axis=0))
    assert np.isnan(vectors[k - 1]).all(), "nobody owns that"
    assert vectors[k, k - 1] == vectors[k].max()


def test_nearest_centroid_probabilities_by_hand():
    centroids = np.eye(2, dtype=np.float32)
    made = meta.train_classifier(
        centroids, np.arange(2), centroids, classifier="centroid", penalty=1.0, temperature=0.5, lab=FREE
    )
    near, far = 1.0, np.exp(-2.0 / 0.5)  # squared distances 0 and 2
    np.testing.assert_allclose(made.probabilities(centroids, FREE)[0], np.array([near, far]) / (near + far), rtol=1e-5)


def test_logistic_probabilities_are_those_of_scikit_learn():
    from sklearn.linear_model import LogisticRegression

    for k in (2, 3):
        owners = np.repeat(np.arange(k), 20)
        points = clustering.unit(cloud(np.eye(5)[:k], owners, 1, spread=0.5))
        made = meta.train_classifier(
            points, owners, np.eye(5, dtype=np.float32)[:k], classifier="logistic", penalty=2.0, temperature=1, lab=FREE
        )
        theirs = LogisticRegression(C=0.5, max_iter=300, tol=1e-3).fit(points, owners).predict_proba(points)
        np.testing.assert_allclose(made.probabilities(points, FREE), theirs, atol=1e-4)


# The mixer

CENTRES = np.random.default_rng(0).normal(size=(5, 12))
TRAIN = np.array([0.4, 0.3, 0.15, 0.1, 0.05])


class VectorLab:
    """Sells clouds of 60 examples: of training domains ``order``, and of targets that are blends of them."""

    def __init__(self, blends, order=(0, 1, 2, 3, 4), scale=1.0, gone=(), unseen=()):
        rng = np.random.default_rng(5)
        identities = np.repeat(np.arange(5), 60)
        train, kept = scale * cloud(CENTRES, identities, 1), ~np.isin(identities, gone)
        targets = np.repeat(np.arange(len(blends)), 60)
        sources = np.concatenate([rng.choice(5, 60, p=blend) for blend in blends])
        validation, seen = scale * cloud(CENTRES, sources, 2), ~np.isin(targets, unseen)
        positions = np.argsort(order)
        self.sold = example_vectors(train[kept], positions[identities[kept]], validation[seen], targets[seen])
        self.truth = np.bincount(sources[:60], minlength=5) / 60  # of the first target
        self.asked = []

    def embeddings(self, examples, embedder="auto"):
        self.asked.append((examples, embedder))
        return self.sold


def problem_of(order=(0, 1, 2, 3, 4), n=1, **changes):
    order = list(order)
    given = {"target": np.full(n, 1.0 / n), "targets": [f"t{i}" for i in range(n)], "domains": [f"d{i}" for i in order]}
    return make_problem(train=TRAIN[order], examples=np.round(1e4 * TRAIN[order]), **(given | changes))


def played(lab, problem=None, **config):
    mixer = Domain2Vec(Domain2Vec.Config(**{"meta_domains": 12, **config}))
    weights = mixer.start(problem_of() if problem is None else problem, lab).weights
    json.dumps(mixer.report(), allow_nan=False)
    return weights, mixer


@pytest.mark.parametrize("classifier", ["logistic", "centroid"])
def test_it_finds_the_blend_that_the_target_was_made_of(classifier):
    lab = VectorLab([[0.1, 0.0, 0.2, 0.3, 0.4]])
    weights, mixer = played(lab, classifier=classifier, examples=60, embedder="mini")
    np.testing.assert_allclose(weights, lab.truth, atol=0.06)
    assert lab.asked == [(60, "mini")]
    report = mixer.report()
    assert report["distance"] < 0.3 * report["distance_of_training_shares"]
    assert report["meta_domains"] == 12
    assert report["embedder"] == "fake"
    assert report["unique"]
    assert report["classifier_agreement"] > (0.99 if classifier == "centroid" else 0.6)


def test_targets_count_by_their_shares_and_those_without_examples_not_at_all():
    blends = [np.eye(5)[0], np.eye(5)[3]]
    both, _ = played(VectorLab(blends), problem_of(n=2, target=np.array([0.25, 0.75])))
    np.testing.assert_allclose(both, [0.25, 0, 0, 0.75, 0], atol=0.06)
    one, mixer = played(VectorLab(blends, unseen=(0,)), problem_of(n=2, target=np.array([0.25, 0.75])))
    np.testing.assert_allclose(one, np.eye(5)[3], atol=0.06)
    assert mixer.report()["skipped_targets"] == ["t0"]
    none, _ = played(VectorLab(blends, unseen=(0, 1)), problem_of(n=2))
    np.testing.assert_allclose(none, TRAIN)


def test_a_domain_without_vectors_keeps_its_share():
    weights, mixer = played(VectorLab([np.eye(5)[0]], gone=(3,)))
    np.testing.assert_allclose(weights, [0.9, 0, 0, 0.1, 0], atol=0.06)
    assert weights[3] == pytest.approx(0.1)
    assert mixer.report()["domains_without_vectors"] == ["d3"]


@pytest.mark.parametrize("classifier", ["logistic", "centroid"])
def test_order_names_and_lengths_of_vectors_do_not_matter(classifier):
    blend, order = [0.1, 0.0, 0.2, 0.3, 0.4], [3, 0, 4, 1, 2]
    base, _ = played(VectorLab([blend]), classifier=classifier)
    moved, _ = played(VectorLab([blend], order=order), problem_of(order), classifier=classifier)
    np.testing.assert_allclose(moved, base[order], rtol=1e-9)
    renamed, _ = played(VectorLab([blend]), problem_of(domains=["zebra", "B", "", "a", "x"]), classifier=classifier)
    np.testing.assert_array_equal(renamed, base)
    longer, _ = played(VectorLab([blend], scale=4.0), classifier=classifier)
    np.testing.assert_array_equal(longer, base)


def test_no_domain_is_repeated_more_often_than_allowed():
    problem = problem_of(steps=500, batch_size=10)
    weights, _ = played(VectorLab([np.eye(5)[4]]), problem, max_epochs=1.0)
    assert weights[4] == pytest.approx(500 / 5000)
    assert weights.sum() == pytest.approx(1.0)


def test_few_examples_make_few_meta_domains_and_coinciding_ones_no_error():
    _, mixer = played(VectorLab([np.eye(5)[0]]), meta_domains=64, per_meta_domain=30)
    assert mixer.report()["meta_domains"] == 10
    sold = example_vectors(np.repeat(np.eye(2), 30, axis=0), np.repeat([0, 1], 30), np.eye(2), [0, 0])
    lab = VectorLab([np.eye(5)[0]])
    lab.sold = sold
    weights, mixer = played(lab, make_problem(train=(0.9, 0.1), target=(1.0,), targets=["t"]))
    assert mixer.report()["meta_domains"] == 2
    np.testing.assert_allclose(weights, [0.5, 0.5], atol=1e-3)


def test_collinear_vectors_are_reported_unless_kl_decides():
    sold = example_vectors(np.repeat(np.eye(2), 30, axis=0), np.repeat([0, 1, 2], 20), np.eye(2), [0, 0])
    for kl in (0.0, 0.01):
        lab = VectorLab([np.eye(5)[0]])
        lab.sold = sold
        _, mixer = played(lab, make_problem(train=(0.5, 0.3, 0.2), target=(1.0,), targets=["t"]), kl=kl)
        assert mixer.report()["unique"] == (kl > 0.0)


def test_what_it_buys():
    assert Domain2Vec().purchases(problem_of()) == Purchases(embedding_examples=1000)
    assert Domain2Vec().purchases(make_problem(train=(1.0,), target=(1.0,))) == Purchases()
    config = Domain2Vec.Config(examples=7, embedder="tfidf")
    assert Domain2Vec(config).purchases(problem_of()) == Purchases(embedding_examples=7, embedder="tfidf")
    assert Domain2Vec().needs().signals == ()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"examples": 0}, "at least 1"),
        ({"meta_domains": 0}, "at least 1"),
        ({"delta": 0.0}, "delta must be positive"),
        ({"kl": -1.0}, "kl must be finite"),
        ({"max_epochs": 0.0}, "max_epochs must be positive, or none"),
        ({"classifier": "svm"}, "classifier is logistic or centroid, not svm"),
        ({"penalty": 0.0}, "penalty must be positive"),
        ({"temperature": -1.0}, "temperature must be positive"),
    ],
)
def test_a_senseless_setting_is_refused(config, said):
    with pytest.raises(MixerError, match=f"domain2vec: .*{said}"):
        Domain2Vec.Config(**config)


def test_where_targets_are_the_domains_it_finds_the_target_shares():
    target = np.array([0.1, 0.1, 0.2, 0.3, 0.3])
    problem = problem_of(n=5, target=target, targets=[f"d{i}" for i in range(5)])
    weights, _ = played(VectorLab(np.eye(5)), problem)
    assert simplex.total_variation(weights, target) < 0.05


def test_an_answer_far_from_the_target_need_not_be_unique():
    vectors, target = np.eye(3)[:2], np.eye(3)[2]
    for mixture in ([0.5, 0.5], [0.2, 0.8]):
        assert alignment.huber(mixture @ vectors - target, 0.01) == pytest.approx(1.985)
        assert not alignment.unique(np.array(mixture), vectors, target, caps=np.ones(2), delta=0.01)
    near = np.array([0.7, 0.3, 0.0])
    assert alignment.unique(np.array([0.7, 0.3]), vectors, near, caps=np.ones(2), delta=0.01)
    corner = np.array([1.0, 0.0])
    assert alignment.unique(corner, vectors, np.array([0.9, 0.0, 0.1]), caps=np.ones(2), delta=0.01)
