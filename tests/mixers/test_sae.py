import json
from dataclasses import replace

import numpy as np
import pytest
from mixer_fakes import FakeRegroupLab, frozen, make_grouping, planted
from sklearn.metrics import adjusted_rand_score

from mixers.base import MixerError
from mixers.regroup.clustering import unit
from mixers.regroup.sae import Sae

K, CONCEPTS = 4, 5
QUICK = {"k": K, "dimensions": 32, "steps": 200, "batch_size": 128, "active": 2, "stability": 0.5}


class TwoModalities(FakeRegroupLab):
    """Sells images and captions of their own widths."""

    modalities = ("image", "caption")

    def __init__(self, train, validation):
        super().__init__(train[0], validation[0])
        self.views = {
            ("train", "image"): train[0],
            ("train", "caption"): train[1],
            ("validation", "image"): validation[0],
            ("validation", "caption"): validation[1],
        }

    def embeddings(self, split, embedder):
        self.asked.append((split, embedder))
        return frozen(self.views[split, embedder], np.float32)


def pairs(n=800, n_validation=200, seed=0):
    """Pairs of ``K`` themes: a side shows two of the theme's ``CONCEPTS``, which lean to the theme's direction.

    Image and caption show concepts of one theme, drawn apart, in spaces of their own; each side has a mean of its own.
    """
    rng = np.random.default_rng(seed)
    total, inside = n + n_validation, K + K * CONCEPTS
    axes = np.eye(inside)
    concepts = unit(np.repeat(axes[:K], CONCEPTS, axis=0) + axes[K:]).reshape(K, CONCEPTS, inside)
    share = np.arange(K, 0, -1) / (K * (K + 1) / 2)
    labels = rng.choice(K, size=total, p=share)
    sides = []
    for width in (40, 32):
        chosen = rng.random((total, CONCEPTS)).argsort(axis=1)[:, :2]
        weights = rng.uniform(0.5, 1.0, size=(total, 2, 1))
        shown = (weights * concepts[labels[:, None], chosen]).sum(axis=1)
        turned = np.linalg.qr(rng.normal(size=(width, width)))[0][:inside]
        sides.append(shown @ turned + 0.3 * rng.normal(size=width) + 0.01 * rng.normal(size=(total, width)))
    return [side[:n] for side in sides], labels[:n], [side[n:] for side in sides], labels[n:]


@pytest.fixture(scope="module")
def world():
    return pairs()


def regroup(data, *, seed=0, **config):
    train, labels, validation, validation_labels = data
    lab = TwoModalities(train, validation)
    grouping = make_grouping(labels, validation_labels, seed)
    return Sae(Sae.Config(**{**QUICK, **config})).regroup(grouping, lab).checked(grouping), lab


@pytest.fixture(scope="module")
def cut(world):
    return regroup(world)


def test_planted_themes_are_found_in_both_splits_and_modalities(world, cut):
    partition, lab = cut
    assert adjusted_rand_score(world[1], partition.train) > 0.9
    assert adjusted_rand_score(world[3], partition.validation) > 0.9
    assert partition.domains == ("concepts-00", "concepts-01", "concepts-02", "concepts-03")
    report = partition.report
    assert report["sizes"] == np.bincount(partition.train).tolist() == sorted(report["sizes"], reverse=True)
    assert report["modalities_agree"] > 0.9
    assert report["modalities_agree_validation"] > 0.9
    assert report["stability"] > 0.9
    assert report["silhouette"] > 0.1
    assert min(report["explained_variance"]) > 0.7
    assert K <= report["concepts_kept"] <= report["concepts_alive"] <= report["concepts"]
    assert report["modality_scores"] == sorted(report["modality_scores"])
    assert 0.0 <= report["modality_scores"][0] <= report["modality_scores"][-1] <= 1.0
    assert report["embedder"] == "image + caption"
    json.dumps(report, allow_nan=False)
    assert lab.asked[:2] == [("train", "image"), ("train", "caption")]
    assert set(lab.asked[2:]) == {("validation", "image"), ("validation", "caption")}


def test_the_order_of_the_examples_does_not_matter(world, cut):
    train, labels, validation, validation_labels = world
    rng = np.random.default_rng(5)
    one, two = rng.permutation(len(labels)), rng.permutation(len(validation_labels))
    shuffled = [each[one] for each in train], labels[one], [each[two] for each in validation], validation_labels[two]
    found, _ = regroup(shuffled)
    np.testing.assert_array_equal(found.train, cut[0].train[one])
    np.testing.assert_array_equal(found.validation, cut[0].validation[two])


def test_original_labels_are_only_compared_with(world, cut):
    train, labels, validation, validation_labels = world
    other, _ = regroup((train, (labels * 3 + 1) % 5, validation, validation_labels))
    np.testing.assert_array_equal(other.train, cut[0].train)
    lonely = np.zeros_like(labels), np.zeros_like(validation_labels)
    other, _ = regroup((train, lonely[0], validation, lonely[1]))
    np.testing.assert_array_equal(other.train, cut[0].train)


def test_captions_of_another_order_break_the_bridge(world, cut):
    """What ties the modalities is which caption belongs to which image."""
    train, labels, validation, validation_labels = world
    mixed = [train[0], train[1][np.random.default_rng(1).permutation(len(labels))]]
    found, _ = regroup((mixed, labels, validation, validation_labels), stability=-1.0)
    assert found.report["modalities_agree"] < cut[0].report["modalities_agree"] - 0.2


def test_one_modality_is_enough(world):
    train, labels, validation, validation_labels = world
    lab = FakeRegroupLab(train[0], validation[0])
    grouping = make_grouping(labels, validation_labels)
    partition = Sae(Sae.Config(**QUICK)).regroup(grouping, lab).checked(grouping)
    assert adjusted_rand_score(labels, partition.train) > 0.9
    assert adjusted_rand_score(validation_labels, partition.validation) > 0.9
    assert lab.asked == [("train", "auto"), ("validation", "auto")]
    assert partition.report["modalities_agree"] is None
    assert partition.report["modality_scores"] is None
    assert len(partition.report["explained_variance"]) == 1


def test_named_embedders_go_before_the_tasks_own(world):
    _, lab = regroup(world, embedders=("caption",))
    assert lab.asked == [("train", "caption"), ("validation", "caption")]


def test_examples_without_a_concept_form_a_remainder(world):
    train, labels, validation, validation_labels = (list(world[0]), world[1], list(world[2]), world[3])
    for side in (0, 1):
        train[side], validation[side] = train[side].copy(), validation[side].copy()
        train[side][:40] = validation[side][:10] = 0.0
    partition, _ = regroup((train, labels, validation, validation_labels))
    assert partition.domains[-1] == "remainder"
    assert np.all(partition.train[:40] == len(partition.domains) - 1)
    assert np.all(partition.validation[:10] == len(partition.domains) - 1)
    assert partition.report["without_concept"] == pytest.approx(0.05, abs=0.01)
    few, _ = regroup((train, labels, validation, validation_labels), smallest=0.1)
    assert "remainder" not in few.domains
    assert few.report["without_concept"] == partition.report["without_concept"]


def test_small_domains_join_others(world):
    partition, _ = regroup(world, smallest=0.15)  # the smallest theme has a tenth of the examples
    assert len(partition.domains) < K
    assert min(partition.report["sizes"]) >= 0.15 * len(world[1])


def test_an_empty_validation_split_works(world):
    lab = TwoModalities(world[0], [side[:0] for side in world[2]])
    grouping = replace(make_grouping(world[1], world[3]), validation=world[3][:0])
    partition = Sae(Sae.Config(**{**QUICK, "steps": 50})).regroup(grouping, lab).checked(grouping)
    assert partition.validation.shape == (0,)
    assert partition.report["modalities_agree_validation"] is None


def test_the_regroupers_own_work_is_billed(cut):
    _, lab = cut
    parts = {name.partition(":")[0] for name in lab.bill}
    assert parts >= {"sparse autoencoder", "common space", "concepts", "k-means", "silhouette"}
    # two autoencoders for the cut, two for its repetition; 32 common dimensions, four concepts each
    d = 32
    assert lab.bill["sparse autoencoder: training"] == 4 * 200 * (2.0 * 128 * 4 * d * d + 8.0 * 128 * 2 * d)
    assert all(flops > 0 for flops in lab.bill.values())


def test_what_cannot_be_cut_is_a_clear_error(world):
    with pytest.raises(MixerError, match="too few for k=200"):
        regroup(world, k=200, steps=20)
    lab = TwoModalities([world[0][0], world[0][1][:-1]], world[2])
    with pytest.raises(MixerError, match="a vector of each modality for every training example"):
        Sae(Sae.Config(**QUICK)).regroup(make_grouping(world[1], world[3]), lab)
    lab = TwoModalities(world[0], world[2])
    lab.modalities = ("image", "caption", "sound")
    with pytest.raises(MixerError, match="3 modalities"):
        Sae(Sae.Config(**QUICK)).regroup(make_grouping(world[1], world[3]), lab)


@pytest.mark.parametrize(
    "config",
    [
        {"k": 0},
        {"dimensions": 0},
        {"expansion": 0},
        {"active": 0},
        {"steps": 0},
        {"batch_size": 0},
        {"embedders": ("a", "b", "c")},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"low_energy": -0.1},
        {"stability": 1.0},
        {"stability": float("nan")},
        {"bridge_quantile": 1.0},
        {"smallest": 0.6},
    ],
)
def test_a_senseless_setting_is_refused(config):
    with pytest.raises(MixerError, match="sae: .*" + next(iter(config))):
        replace(Sae.Config(), **config)


def test_clusters_without_concepts_in_common_are_found_too():
    vectors, labels, validation, validation_labels = planted(spread=0.1)
    grouping = make_grouping(labels, validation_labels)
    partition = Sae(Sae.Config(k=5, steps=50)).regroup(grouping, FakeRegroupLab(vectors, validation))
    assert adjusted_rand_score(labels, partition.checked(grouping).train) > 0.9
