import numpy as np
import pytest
from mixer_fakes import FakeRegroupLab
from threadpoolctl import threadpool_limits

from mixers.regroup import concepts
from mixers.regroup import sparse_autoencoder as sae
from mixers.regroup.clustering import unit

LAB = FakeRegroupLab(np.zeros((1, 1)), np.zeros((1, 1)))


def model(c=5, d=4, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    decoder = rng.normal(size=(c, d))
    decoder /= np.linalg.norm(decoder, axis=1, keepdims=True)
    encoder, bias = rng.normal(size=(c, d)), 0.1 * rng.normal(size=c)
    return sae.SparseAutoencoder(
        encoder=encoder.astype(dtype), bias=bias.astype(dtype), decoder=decoder.astype(dtype), threshold=0.0
    )


def superposed(n=4000, atoms=24, d=16, active=2, seed=0):
    """Examples that are sums of few of many directions, and the directions."""
    rng = np.random.default_rng(seed)
    directions = unit(rng.normal(size=(atoms, d)))
    chosen = rng.random((n, atoms)).argsort(axis=1)[:, :active]
    weights = rng.uniform(0.5, 1.0, size=(n, active))
    points = np.einsum("na,nad->nd", weights, directions[chosen]) + 0.01 * rng.normal(size=(n, d))
    return unit(points), directions


def fitted(points, c=32, seed=0, **other):
    sizes = {"active": 2, "steps": 400, "batch_size": 256, "learning_rate": 5e-3} | other
    with threadpool_limits(limits=1):
        return sae.fit(points, c, **sizes, rng=np.random.default_rng(seed), lab=LAB)


@pytest.mark.parametrize(
    ("values", "active", "expected"),
    [
        ([[3.0, 1.0, 0.0], [2.0, 5.0, -1.0]], 1, [(0, 0), (1, 1)]),
        ([[3.0, 2.0, 1.0], [0.5, -1.0, -1.0]], 1, [(0, 0), (0, 1)]),  # two for one example, none for the other
        ([[3.0, 2.0, 1.0], [0.5, -1.0, -1.0]], 3, [(0, 0), (0, 1), (0, 2), (1, 0)]),  # what is not positive stays out
        ([[3.0, 2.0, 1.0], [0.5, -1.0, -1.0]], 9, [(0, 0), (0, 1), (0, 2), (1, 0)]),
        ([[-3.0, 0.0]], 1, []),
    ],
)
def test_the_largest_of_the_whole_batch_are_kept(values, active, expected):
    rows, columns = sae.batch_top_k(np.array(values), active)
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == expected


def test_a_batch_keeps_exactly_its_allowance():
    rows, columns = sae.batch_top_k(np.random.default_rng(0).random((50, 40)), 7)
    assert len(rows) == 350
    counts = np.bincount(rows, minlength=50)
    assert counts.min() < 7 < counts.max()
    assert len(set(zip(rows.tolist(), columns.tolist(), strict=True))) == 350


def test_gradients_are_those_of_finite_differences():
    points = np.random.default_rng(1).normal(size=(6, 4))
    ours = model()
    found, codes, errors = sae.gradients(points, ours, 2)
    assert codes.nnz == 12

    def loss():
        return float(np.square(sae.gradients(points, ours, 2)[2]).sum() / len(points))

    assert loss() == pytest.approx(np.square(errors).sum() / 6)
    for parameter, slopes in zip((ours.encoder, ours.bias, ours.decoder), found, strict=True):
        for place in np.ndindex(parameter.shape):
            kept, ends = parameter[place], []
            for shift in (1e-6, -1e-6):
                parameter[place] = kept + shift
                ends.append(loss())
            parameter[place] = kept
            assert slopes[place] == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-5)


def test_examples_alone_are_cut_at_the_threshold():
    ours = sae.SparseAutoencoder(
        encoder=np.eye(2, dtype=np.float32),
        bias=np.array([0.0, -0.25], np.float32),
        decoder=np.eye(2, dtype=np.float32),
        threshold=0.5,
    )
    points = np.array([[0.5, 1.0], [0.75, 0.75], [2.0, -1.0]], np.float32)
    codes = ours.encode(points, LAB)
    np.testing.assert_array_equal(codes.toarray(), [[0.0, 0.75], [0.75, 0.0], [2.0, 0.0]])
    assert ours.encode(points[:0], LAB).shape == (0, 2)
    squares = 0.5**2 + 0.25**2 + 0.75**2 + 1.0**2
    spread = np.square(points - points.mean(axis=0)).sum()
    assert ours.explained(points, codes, LAB) == pytest.approx(1.0 - squares / spread)


def test_planted_directions_are_found_and_codes_are_as_sparse_as_asked():
    points, directions = superposed()
    ours = fitted(points)
    np.testing.assert_allclose(np.linalg.norm(ours.decoder, axis=1), 1.0, atol=1e-5)
    cosines = concepts.matched(directions, ours.decoder, LAB)
    assert np.mean(cosines > 0.95) > 0.85
    codes = ours.encode(points, LAB)
    assert codes.nnz / len(points) == pytest.approx(2.0, rel=0.1)
    assert ours.threshold > 0.0
    assert ours.explained(points, codes, LAB) > 0.85


def test_more_steps_explain_more():
    points, _ = superposed()
    short, long = (fitted(points, steps=steps) for steps in (5, 400))
    one, other = (each.explained(points, each.encode(points, LAB), LAB) for each in (short, long))
    assert other > one + 0.05


def test_codes_of_an_example_do_not_depend_on_the_others():
    points, _ = superposed(n=600)
    ours = fitted(points, steps=50)
    order = np.random.default_rng(3).permutation(600)
    whole = ours.encode(points, LAB).toarray()
    np.testing.assert_allclose(ours.encode(points[order], LAB).toarray(), whole[order], atol=1e-6)
    np.testing.assert_allclose(ours.encode(points[:7], LAB).toarray(), whole[:7], atol=1e-6)


def test_equal_random_numbers_give_equal_bits_and_others_do_not():
    points, _ = superposed(n=500)
    one, two, other = (fitted(points, steps=40, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(one.decoder, two.decoder)
    assert one.threshold == two.threshold
    assert not np.array_equal(one.decoder, other.decoder)


def test_dead_concepts_start_anew_where_errors_are_largest():
    ours = model(c=4, d=3, dtype=np.float32)
    before = ours.decoder.copy()
    errors = np.array([[0.1, 0.0, 0.0], [0.0, -2.0, 0.0]], np.float32)
    moments = [(np.ones(4), np.ones(4))]
    sae._revive(ours, np.array([1, 2, 3]), errors, moments)
    np.testing.assert_allclose(ours.decoder[1], [0.0, 1.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(ours.decoder[2], [-1.0, 0.0, 0.0], atol=1e-6)
    np.testing.assert_array_equal(ours.decoder[[0, 3]], before[[0, 3]])  # the batch has no third example
    np.testing.assert_array_equal(moments[0][0], [1.0, 0.0, 0.0, 1.0])
    assert ours.bias[1] == ours.bias[2] == 0.0


def test_fewer_examples_than_concepts_and_than_a_batch_work():
    points, _ = superposed(n=10)
    ours = fitted(points, c=32, steps=20)
    assert np.all(np.isfinite(ours.decoder))
    assert ours.encode(points, LAB).shape == (10, 32)


def test_the_bill_counts_dense_codes_and_sparse_rest():
    lab = FakeRegroupLab(np.zeros((1, 1)), np.zeros((1, 1)))
    points, _ = superposed(n=64)
    ours = sae.fit(
        points, 32, active=2, steps=3, batch_size=16, learning_rate=1e-3, rng=np.random.default_rng(0), lab=lab
    )
    ours.encode(points, lab)
    assert lab.bill == {
        "sparse autoencoder: training": 3 * (2.0 * 16 * 32 * 16 + 8.0 * 16 * 2 * 16),
        "sparse autoencoder: codes": 2.0 * 64 * 32 * 16,
    }
