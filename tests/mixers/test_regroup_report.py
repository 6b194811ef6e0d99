import json

import numpy as np
import pytest
from mixer_fakes import FakeRegroupLab, make_grouping, planted

from mixers.base import MixerError
from mixers.regroup import clustering
from mixers.regroup.report import describe


def described(again, labels=None):
    vectors, planted_labels, validation, validation_labels = planted()
    points = clustering.unit(vectors)
    lab = FakeRegroupLab(vectors, validation)
    labels = planted_labels if labels is None else labels
    return describe(points, labels, again, make_grouping(planted_labels, validation_labels), lab), lab


def test_a_cut_that_every_seed_repeats_is_stable_whatever_its_numbering():
    labels = planted()[1]
    report, lab = described([(labels + 1) % 5, 4 - labels])
    assert report["stability"] == 1.0
    assert report["stability_seeds"] == 2
    assert report["sizes"] == np.bincount(labels).tolist()
    assert report["k"] == 5
    assert report["largest_share"] == round(max(report["sizes"]) / len(labels), 4)
    assert report["silhouette"] > 0.7
    assert report["adjusted_rand_index"] == report["normalised_mutual_information"] == 1.0
    assert report["dimensions"] == planted()[0].shape[1]
    assert lab.bill["silhouette: distances"] > 0
    json.dumps(report, allow_nan=False)


def test_stability_is_the_mean_over_the_seeds():
    # two groups of two; the same cut has an index of 1, the crossed one of -0.5
    points = clustering.unit(np.eye(4))
    labels = np.array([0, 0, 1, 1])
    again = [labels, np.array([0, 1, 0, 1])]
    lab = FakeRegroupLab(points, points)
    report = describe(points, labels, again, make_grouping(labels, labels), lab)
    assert report["stability"] == pytest.approx(0.25)
    assert report["largest_share"] == 0.5


def test_one_domain_and_no_other_seed_leave_scores_undefined():
    report, _ = described([], labels=np.zeros(len(planted()[1]), dtype=np.int64))
    assert report["stability"] is None
    assert report["silhouette"] is None
    assert report["largest_share"] == 1.0


def test_lengths_that_differ_are_refused():
    with pytest.raises(MixerError, match="one length"):
        described([np.zeros(3, dtype=np.int64)])
