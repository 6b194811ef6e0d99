"""Merging clusters: by hand, against scipy's hierarchical clustering, with sizes, with a capacity."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage

from mixers.regroup import clustering
from mixers.regroup.merging import LINKAGES, merge

FREE = clustering.Unbilled()


def merged(points, sizes, groups, how="ward", capacity=1.0, lab=FREE):
    return merge(
        np.array(points, dtype=np.float32), np.array(sizes), groups, linkage=how, capacity=capacity, lab=lab
    ).tolist()


def same(a, b):
    """Whether two labellings are the same cut."""
    return len(set(zip(a, b, strict=True))) == len(set(a)) == len(set(b))


@pytest.mark.parametrize("how", LINKAGES)
@pytest.mark.parametrize("groups", [1, 4, 9, 30])
def test_equal_sizes_give_what_scipy_gives(how, groups):
    points = np.random.default_rng(groups).normal(size=(30, 4)).astype(np.float32)
    theirs = fcluster(linkage(points.astype(np.float64), how), groups, criterion="maxclust")
    assert same(merged(points, np.ones(30, dtype=int), groups, how), theirs)


@pytest.mark.parametrize("how", ["ward", "average"])
def test_a_cluster_of_three_is_three_clusters_in_one_place(how):
    rng = np.random.default_rng(3)
    points, sizes = rng.normal(size=(12, 3)).astype(np.float32), rng.integers(1, 4, 12)
    theirs = fcluster(linkage(np.repeat(points, sizes, axis=0).astype(np.float64), how), 4, criterion="maxclust")
    assert same(np.repeat(merged(points, sizes, 4, how), sizes), theirs)


def test_sizes_decide_by_ward():
    # gaps of 1.0 and 1.1: costs 10 * 10 / 20 * 1 = 5 and, beside the small one, 10 / 11 * 1.21 = 1.1
    assert same(merged([[0.0], [1.0], [2.1]], [10, 10, 1], 2), [0, 1, 1])
    assert same(merged([[0.0], [1.0], [2.1]], [1, 1, 1], 2), [0, 0, 1])


def test_chains_are_single_linkages_and_a_capacity_ends_them():
    chain = [[0.0], [1.0], [2.01], [3.03], [4.06], [5.1], [100.0]]
    sizes = [10] * 7
    assert same(merged(chain, sizes, 2, "single"), [0, 0, 0, 0, 0, 0, 1])
    held = merged(chain, sizes, 3, "single", capacity=3 / 7)
    assert np.bincount(held).max() <= 3
    assert same(held, [0, 0, 0, 1, 1, 1, 2])
    # what is left may not be mergeable at all: three groups of two fill the room, and one is alone
    assert len(set(merged(chain, sizes, 3, "single", capacity=2 / 6.9))) == 4


def test_groups_are_numbered_without_gaps_and_the_bill_is_written():
    class Lab:
        flops = 0.0

        def charge(self, flops, what):
            self.flops += flops

    lab = Lab()
    found = merged(np.random.default_rng(0).normal(size=(20, 2)), np.ones(20, dtype=int), 7, lab=lab)
    assert sorted(set(found)) == list(range(7))
    assert lab.flops == 2.0 * 20 * 20 * 2 + 13 * 20 * 20
