import json
import subprocess
import sys

import numpy as np
import pytest
from mixer_fakes import FakeRegroupLab, make_grouping, planted

from mixers.base import MixerError
from mixers.regroup import clustering
from mixers.regroup.climb import Climb
from mixers.regroup.domain2vec import Domain2Vec
from mixers.regroup.kmeans import KMeans
from mixers.regroup.original import Original
from mixers.regroup.random import Random
from mixers.regroup.sae import Sae

ALL = [Original, KMeans, Random, Climb, Domain2Vec, Sae]


def regroup(cls, vectors, labels, validation, validation_labels, *, seed=0, **config):
    lab = FakeRegroupLab(vectors, validation)
    grouping = make_grouping(labels, validation_labels, seed)
    regrouper = cls(cls.Config(**config))
    return regrouper.regroup(grouping, lab).checked(grouping), lab


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.name)
def test_every_regrouper_cuts_the_data_deterministically_and_reports_json(cls):
    data = planted()
    quick = {"steps": 20} if cls is Sae else {}
    first, _ = regroup(cls, *data, **quick)
    again, _ = regroup(cls, *data, **quick)
    np.testing.assert_array_equal(first.train, again.train)
    np.testing.assert_array_equal(first.validation, again.validation)
    assert first.domains == again.domains
    assert first.report == again.report
    assert first.train.dtype == first.validation.dtype == np.int64
    assert sum(first.report["sizes"]) == len(data[0])
    json.dumps(first.report, allow_nan=False)
    assert cls.name == cls.__module__.removeprefix("mixers.regroup.")


def test_original_changes_and_buys_nothing():
    data = planted()
    partition, lab = regroup(Original, *data)
    np.testing.assert_array_equal(partition.train, data[1])
    np.testing.assert_array_equal(partition.validation, data[3])
    assert lab.asked == []


@pytest.mark.parametrize("k", [3, 5, 8])
def test_the_silhouette_finds_the_planted_number_of_clusters(k):
    partition, _ = regroup(KMeans, *planted(k=k), k_grid=(2, 3, 4, 5, 6, 8, 10))
    report = partition.report
    assert report["k"] == k
    assert report["k_chosen_by"] == "silhouette"
    assert max(report["k_scores"], key=report["k_scores"].get) == str(k)
    assert report["silhouette"] > 0.7
    assert report["adjusted_rand_index"] == 1.0
    assert report["normalised_mutual_information"] == 1.0


def test_clusters_are_named_by_falling_size():
    partition, _ = regroup(KMeans, *planted(), k=5)
    assert partition.domains == ("cluster-00", "cluster-01", "cluster-02", "cluster-03", "cluster-04")
    sizes = np.bincount(partition.train)
    assert sizes.tolist() == sorted(sizes.tolist(), reverse=True) == partition.report["sizes"]


def test_every_label_is_that_of_the_nearest_centroid():
    # one start and enough iterations: the converged centroids are the means of their own training points
    vectors, labels, validation, validation_labels = planted(spread=0.4, n=400)
    partition, _ = regroup(KMeans, vectors, labels, validation, validation_labels, k=6, n_init=1, max_iter=1000)
    unit = clustering.unit(vectors)
    centroids = np.stack([unit[partition.train == j].mean(axis=0) for j in range(6)])
    for points, assigned in ((unit, partition.train), (clustering.unit(validation), partition.validation)):
        distances = np.linalg.norm(points[:, None] - centroids[None], axis=2)
        chosen = distances[np.arange(len(points)), assigned]
        np.testing.assert_allclose(chosen, distances.min(axis=1), atol=1e-3)


def test_validation_never_moves_a_centroid():
    vectors, labels, validation, validation_labels = planted(spread=0.3)
    base, _ = regroup(KMeans, vectors, labels, validation, validation_labels)
    moved, _ = regroup(KMeans, vectors, labels, -7.0 * validation, validation_labels)
    np.testing.assert_array_equal(base.train, moved.train)
    assert base.report == moved.report
    assert not np.array_equal(base.validation, moved.validation)


def test_lengths_of_embeddings_do_not_matter():
    vectors, labels, validation, validation_labels = planted(spread=0.3)
    factor = 2.0 ** np.random.default_rng(0).integers(-3, 4, size=(len(vectors), 1))
    base, _ = regroup(KMeans, vectors, labels, validation, validation_labels, k=5)
    scaled, _ = regroup(KMeans, factor * vectors, labels, 4.0 * validation, validation_labels, k=5)
    np.testing.assert_array_equal(base.train, scaled.train)
    np.testing.assert_array_equal(base.validation, scaled.validation)


def test_the_seed_moves_the_clustering():
    data = planted(spread=0.6)
    cuts = {tuple(regroup(KMeans, *data, seed=seed, k=8, n_init=1)[0].train) for seed in range(4)}
    assert len(cuts) > 1


def test_the_fit_sample_is_assigned_in_full():
    data = planted()
    partition, _ = regroup(KMeans, *data, k=5, fit_sample=100)
    assert partition.train.shape == data[1].shape
    assert partition.report["adjusted_rand_index"] > 0.99


def test_coinciding_examples_leave_no_empty_cluster():
    vectors = np.repeat(np.eye(4), 10, axis=0)
    labels = np.repeat(np.arange(4), 10)
    with pytest.warns(UserWarning, match="distinct clusters"):
        partition, _ = regroup(KMeans, vectors, labels, vectors, labels, k=7)
    assert partition.report["k"] == len(partition.domains) == 4
    np.testing.assert_array_equal(np.unique(partition.train), np.arange(4))


def test_one_cluster_has_no_silhouette():
    partition, _ = regroup(KMeans, *planted(), k=1)
    assert partition.domains == ("cluster-00",)
    assert partition.report["silhouette"] is None


def test_zero_vectors_and_an_empty_validation_split_are_assigned():
    vectors, labels, validation, validation_labels = planted()
    vectors = np.concatenate([vectors, np.zeros((3, vectors.shape[1]))])
    labels = np.concatenate([labels, [0, 0, 0]])
    lab = FakeRegroupLab(vectors, validation[:0])
    grouping = make_grouping(labels, validation_labels)
    partition = KMeans(KMeans.Config(k=5)).regroup(grouping, lab)
    assert len(partition.train) == len(labels)
    assert partition.validation.shape == (0,)


def test_the_bill_names_its_parts_and_the_embedder_is_passed_on():
    (vectors, labels, validation, validation_labels) = planted()
    partition, lab = regroup(KMeans, vectors, labels, validation, validation_labels, k_grid=(3, 5), embedder="mini")
    assert lab.asked == [("train", "mini"), ("validation", "mini")]
    assert partition.report["embedder"] == "mini"
    n, d = vectors.shape
    assert lab.bill["silhouette: distances"] == 2.0 * n * n * d
    # the sweep's two k on the silhouette's points, then all training and validation points, then the points once more
    assert lab.bill["k-means: assignment"] == 2.0 * d * (n * (3 + 5) + (n + len(validation)) * 5 + n * 5)
    assert lab.bill["k-means: fit of k=5"] > 2 * 3 * 3.0 * n * 5 * d  # sweep and final fit, three starts each


@pytest.mark.parametrize(
    "config",
    [{"k": -1}, {"k_grid": ()}, {"k_grid": (1, 4)}, {"n_init": 0}, {"silhouette_sample": 0}],
)
def test_a_senseless_setting_is_refused(config):
    with pytest.raises(MixerError, match="kmeans"):
        KMeans.Config(**config)


def test_more_clusters_than_examples_or_broken_embeddings_are_clear_errors():
    vectors, labels, validation, validation_labels = planted()
    with pytest.raises(MixerError, match="lower k"):
        regroup(KMeans, vectors, labels, validation, validation_labels, k=601)
    with pytest.raises(MixerError, match="set k"):
        regroup(KMeans, vectors, labels, validation, validation_labels, k_grid=(700,))
    broken = vectors.copy()
    broken[3, 2] = np.nan
    with pytest.raises(MixerError, match="not finite"):
        regroup(KMeans, broken, labels, validation, validation_labels)


def test_the_control_keeps_sizes_and_target_shares_but_not_the_clusters():
    data = planted(n=3000, n_validation=1000)
    clusters, _ = regroup(KMeans, *data)
    control, lab = regroup(Random, *data)
    np.testing.assert_array_equal(np.bincount(control.train), np.bincount(clusters.train))
    np.testing.assert_array_equal(np.bincount(control.validation), np.bincount(clusters.validation))
    assert abs(control.report["adjusted_rand_index"]) < 0.01
    assert abs(clustering.agreement(clusters.train, control.train)["adjusted_rand_index"]) < 0.01
    before = control.report["before_shuffling"]
    assert clusters.report == {**before, **{key: control.report[key] for key in clusters.report.keys() - before.keys()}}
    assert before["adjusted_rand_index"] == 1.0
    assert control.domains[0] == "random-00"
    assert lab.bill


def test_the_control_follows_the_seed():
    data = planted()
    one, _ = regroup(Random, *data, seed=1)
    two, _ = regroup(Random, *data, seed=2)
    assert not np.array_equal(one.train, two.train)
    assert Random.Config is KMeans.Config


def test_importing_the_regroupers_does_not_load_scikit_learn():
    modules = "mixers.rnb, mixers.domain2vec, mixers.regroup.random, mixers.regroup.climb, mixers.regroup.domain2vec"
    code = f"import {modules}, mixers.regroup.sae, sys"
    code += "; sys.exit(any(name in sys.modules for name in ('sklearn', 'torch', 'faiss')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_chosen_k_does_not_depend_on_the_seed():
    data = planted(spread=0.9, n=600)
    grids = [regroup(KMeans, *data, seed=seed, k_grid=(3, 4, 5, 6))[0].report["k_scores"] for seed in range(4)]
    assert all(grid == grids[0] for grid in grids)
