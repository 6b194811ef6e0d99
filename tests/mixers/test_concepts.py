import numpy as np
import pytest
from mixer_fakes import FakeRegroupLab
from scipy.sparse import csr_array

from mixers.base import MixerError
from mixers.regroup import concepts
from mixers.regroup.clustering import unit

LAB = FakeRegroupLab(np.zeros((1, 1)), np.zeros((1, 1)))


def test_the_bridge_score_by_hand():
    one = csr_array(np.array([[2.0, 0.0], [1.0, 3.0]]))
    other = csr_array(np.array([[1.0, 4.0], [0.0, 2.0]]))
    dictionary = np.array([[1.0, 0.0], [0.6, 0.8]], np.float32)
    # together: [[2, 8 + 2], [0, 6]] / 2; directions: cosine .6 between the two concepts
    found = concepts.bridge(one, other, dictionary, LAB)
    np.testing.assert_allclose(found, [[1.0, 5.0 * 0.6], [0.0, 3.0]], atol=1e-6)


def test_edges_are_the_large_scores_of_either_end_and_no_loops():
    scores = np.array([[9.0, 2.0, -4.0, 0.0], [6.0, 9.0, 1.0, 0.0], [0.0, 1.0, 9.0, 0.0], [0.0, 0.0, 0.0, 9.0]])
    weights = concepts.graph(scores, 0.9)
    np.testing.assert_array_equal(weights, [[0, 4, 0, 0], [4, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]])
    assert concepts.parts(weights) == 2
    # 2 is below the third's median, 3, but it is the fourth's largest; 1 is small for both of its ends
    scores = np.array([[0.0, 1.0, 4.0, 0.0], [1.0, 0.0, 3.0, 0.0], [4.0, 3.0, 0.0, 2.0], [0.0, 0.0, 2.0, 0.0]])
    found = concepts.graph(scores, 0.5)
    np.testing.assert_array_equal(found, [[0, 0, 4, 0], [0, 0, 3, 0], [4, 3, 0, 2], [0, 0, 2, 0]])
    np.testing.assert_array_equal(concepts.graph(scores, 0.0), scores)


def test_partners_are_matched_for_the_greatest_sum():
    dictionary = np.array([[1.0, 0.0], [0.8, 0.6]], np.float32)
    other = np.array([[0.8, 0.6], [0.0, 1.0]], np.float32)
    # greedily the second row would take its 1 and leave 0 to the first, a sum of 1 rather than 1.4
    np.testing.assert_allclose(concepts.matched(dictionary, other, LAB), [0.8, 0.6], atol=1e-6)
    np.testing.assert_allclose(concepts.matched(dictionary, other[:1], LAB), [-1.0, 1.0], atol=1e-6)
    np.testing.assert_allclose(concepts.matched(other, other[::-1], LAB), 1.0, atol=1e-6)


def test_low_and_dead_concepts_are_told():
    energies = np.array([0.0, 1.0, 3.0, 0.1])
    assert concepts.living(energies, 0.0).tolist() == [False, True, True, True]
    assert concepts.living(energies, 0.1).tolist() == [False, True, True, False]  # the mean of the living is 1.37
    assert not concepts.living(np.zeros(3), 0.0).any()


@pytest.mark.parametrize("order", [np.arange(9), np.array([8, 3, 0, 5, 1, 7, 2, 6, 4])])
def test_blocks_are_communities_and_loners_wait_for_a_direction(order):
    planted = np.array([0, 0, 0, 1, 1, 1, 1, -1, -1])[order]
    weights = np.where((planted[:, None] == planted) & (planted[:, None] >= 0), 1.0, 0.0)
    np.fill_diagonal(weights, 0.0)
    weights[np.ix_(planted == 0, planted == 1)] = weights[np.ix_(planted == 1, planted == 0)] = 0.05
    found = concepts.communities(weights, 2, rng=np.random.default_rng(0), lab=LAB)
    assert np.all(found[planted < 0] == -1)
    assert len(set(zip(planted.tolist(), found.tolist(), strict=True))) == 3
    dictionary = unit(np.where(planted[:, None] == [0, 1], 1.0, 0.1))
    dictionary[planted < 0] = [0.0, 1.0]
    whole = concepts.attached(found, dictionary, np.ones(9), LAB)
    assert len(set(whole[planted != 0])) == 1
    assert len(set(whole)) == 2


def test_a_fragment_does_not_keep_the_body_whole():
    """Without regularisation the pair that hangs together by itself would be one of the two groups."""
    planted = np.repeat([0, 1, 2], [10, 10, 2])
    weights = np.where(planted[:, None] == planted, 1.0, 0.0)
    weights[:10, 10:20] = weights[10:20, :10] = 0.1
    weights[20:, 20:] = 0.05
    np.fill_diagonal(weights, 0.0)
    found = concepts.communities(weights, 2, rng=np.random.default_rng(0), lab=LAB)
    assert len(set(found[:10])) == len(set(found[10:20])) == 1
    assert found[0] != found[10]


def test_too_few_concepts_are_a_clear_error():
    with pytest.raises(MixerError, match="2 concepts hang together, too few for k=3"):
        concepts.communities(np.array([[0.0, 1.0], [1.0, 0.0]]), 3, rng=np.random.default_rng(0), lab=LAB)
    with pytest.raises(MixerError, match="0 concepts"):
        concepts.communities(np.zeros((0, 0)), 1, rng=np.random.default_rng(0), lab=LAB)


def test_the_strongest_group_sums_concepts_and_views():
    one = csr_array(np.array([[1.0, 1.0, 1.5], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]))
    other = csr_array(np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]))
    groups = np.array([0, 0, 1])
    assert concepts.strongest([one], groups, LAB).tolist() == [0, 1, -1]
    assert concepts.strongest([one, other], groups, LAB).tolist() == [1, 0, -1]  # the second example is a tie
    assert concepts.agreeing([one, other], groups, LAB) == 0.0
    assert concepts.agreeing([one, one], groups, LAB) == 1.0
    assert concepts.agreeing([one], groups, LAB) is None


def test_small_groups_join_the_nearest_direction():
    codes = csr_array(np.array([[1.0, 0, 0, 0]] * 5 + [[0, 1.0, 0, 0]] * 4 + [[0, 0, 1.0, 0]]))
    dictionary = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [1.0, 0.0]], np.float32)
    groups = np.array([0, 1, 2, 3])
    merged = concepts.merged(groups, [codes], dictionary, np.ones(4), 0.2, LAB)
    assert merged.tolist() == [0, 1, 1, 0]
    assert concepts.merged(groups, [codes], dictionary, np.ones(4), 0.0, LAB).tolist() == [0, 1, 2, 0]  # none is empty
    assert concepts.merged(groups, [codes], dictionary, np.ones(4), 0.5, LAB).tolist() == [0, 1, 1, 0]
    assert len(set(concepts.merged(groups, [codes[:5]], dictionary, np.ones(4), 0.0, LAB))) == 1


def test_centroids_weigh_concepts_by_energy():
    found = concepts.centroids(np.eye(2, dtype=np.float32), np.array([3.0, 4.0]), np.array([0, 0]))
    np.testing.assert_allclose(found, [[0.6, 0.8]], atol=1e-6)


def test_pairs_meet_in_a_common_space():
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(500, 3)) * [3.0, 2.0, 1.0]
    axes = [np.linalg.qr(rng.normal(size=(d, d)))[0][:3] for d in (8, 5)]
    views = [hidden @ each for each in axes]
    space = concepts.common_space(views, 4, centre=True, lab=LAB)
    one, other = (space.of(i, view, LAB) for i, view in enumerate(views))
    assert one.shape == other.shape == (500, 3)  # no more than there is in common
    assert np.einsum("ij,ij->i", one, other).min() > 0.99
    assert concepts.common_space(views, 2, centre=True, lab=LAB).of(0, views[0], LAB).shape == (500, 2)
    alone = concepts.common_space(views[:1], 4, centre=True, lab=LAB)
    assert len(alone.axes) == 1
    found = alone.of(0, views[0], LAB)
    true = unit(unit(views[0]) - unit(views[0]).mean(axis=0))
    np.testing.assert_allclose(found @ found.T, true @ true.T, atol=1e-4)  # three components are all that there is


def test_a_mean_is_taken_off_where_asked_and_an_empty_row_stays_empty():
    vectors = np.array([[3.0, 1.0], [3.0, -1.0], [0.0, 0.0]])
    for centre, cosine in ((True, -1.0), (False, 0.8)):
        space = concepts.common_space([vectors[:2]], 2, centre=centre, lab=LAB)
        found = space.of(0, vectors, LAB)
        assert float(found[0] @ found[1]) == pytest.approx(cosine)
        np.testing.assert_array_equal(found[2], 0.0)


def test_the_order_of_contents_follows_contents():
    rng = np.random.default_rng(0)
    views = [rng.normal(size=(50, 3)).astype(np.float32), rng.normal(size=(50, 2)).astype(np.float32)]
    shuffled = rng.permutation(50)
    one, other = concepts.order_by_content(views), concepts.order_by_content([view[shuffled] for view in views])
    for view in views:
        np.testing.assert_array_equal(view[one], view[shuffled][other])
    assert not np.array_equal(one, concepts.order_by_content(views[:1]))
