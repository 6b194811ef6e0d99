import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mixers import simplex
from mixers.base import MixerError

SIZES = st.integers(1, 40)
FINITE = st.floats(-1e6, 1e6)


@st.composite
def mixtures(draw, size=SIZES):
    raw = draw(hnp.arrays(np.float64, draw(size), elements=st.floats(0.0, 1.0)))
    return raw / raw.sum() if raw.sum() > 1e-3 else np.full(raw.size, 1.0 / raw.size)


def assert_mixture(weights):
    assert np.all(np.isfinite(weights))
    assert weights.min() >= 0.0
    assert weights.sum() == pytest.approx(1.0, abs=1e-12)


def test_softmax_by_hand():
    np.testing.assert_allclose(simplex.softmax([0.0, np.log(2.0), np.log(5.0)]), [1 / 8, 2 / 8, 5 / 8])
    np.testing.assert_array_equal(simplex.softmax([8e307, -8e307]), [1.0, 0.0])


@given(hnp.arrays(np.float64, SIZES, elements=FINITE), st.floats(-1e3, 1e3))
def test_softmax_is_a_mixture_and_ignores_a_shift(logits, shift):
    weights = simplex.softmax(logits)
    assert_mixture(weights)
    np.testing.assert_allclose(simplex.softmax(logits + shift), weights, atol=1e-8)


def test_normalise_by_hand():
    np.testing.assert_allclose(simplex.normalise([1, 2, 5]), [0.125, 0.25, 0.625])
    np.testing.assert_allclose(simplex.normalise([1e308, 1e308]), [0.5, 0.5])


@pytest.mark.parametrize("values", [[0.0, 0.0], [1.0, -0.1], [1.0, np.nan], [np.inf, 1.0], []])
def test_normalise_refuses_what_is_no_mixture(values):
    with pytest.raises(MixerError, match="cannot normalise"):
        simplex.normalise(values)


def test_exponentiated_gradient_by_hand():
    stepped = simplex.exponentiated_gradient([0.5, 0.25, 0.25, 0.0], [0.0, np.log(2.0), np.log(4.0), 50.0])
    np.testing.assert_allclose(stepped, [0.25, 0.25, 0.5, 0.0])


@given(mixtures(), st.floats(-50, 50))
def test_exponentiated_gradient_with_equal_gains_changes_nothing(weights, gain):
    stepped = simplex.exponentiated_gradient(weights, np.full(weights.size, gain))
    np.testing.assert_allclose(stepped, weights, atol=1e-12)


@given(mixtures(), st.floats(0.0, 1.0))
def test_mix_with_uniform_keeps_a_minimum(weights, share):
    mixed = simplex.mix_with_uniform(weights, share)
    assert_mixture(mixed)
    assert mixed.min() >= share / weights.size - 1e-15


def test_floored_by_hand():
    # 0.06 of the mass goes to the last, and 0.7 : 0.2 is kept in what remains after 0.1 for the two on the floor
    np.testing.assert_allclose(
        simplex.floored([0.7, 0.2, 0.06, 0.04], 0.05), [0.7 * 0.95 / 0.96, 0.2 * 0.95 / 0.96, 0.06 * 0.95 / 0.96, 0.05]
    )
    # rescaling pushes a second weight below the floor, which one pass would miss
    np.testing.assert_allclose(simplex.floored([0.79, 0.21, 0.0], 0.2), [0.6, 0.2, 0.2])


@given(mixtures(), st.floats(0.0, 1.0))
def test_floored_is_exact_and_keeps_the_order_and_the_ratios_above(weights, fraction):
    floor = fraction / weights.size
    result = simplex.floored(weights, floor)
    assert_mixture(result)
    assert result.min() >= floor - 1e-15
    above = result > floor * (1 + 1e-9) + 1e-12
    if above.any():
        scale = result[above] / weights[above]
        np.testing.assert_allclose(scale, scale[0], rtol=1e-9)
        assert np.all(scale[0] * weights[~above] <= floor * (1 + 1e-6) + 1e-9)


def test_floored_refuses_an_impossible_floor():
    np.testing.assert_allclose(simplex.floored([1.0, 0.0, 0.0], 1 / 3), np.full(3, 1 / 3))
    with pytest.raises(MixerError, match="at most 1/m"):
        simplex.floored([0.5, 0.5], 0.6)


def test_capped_by_hand():
    np.testing.assert_allclose(simplex.capped([0.6, 0.3, 0.1], [0.4, 1.0, 1.0]), [0.4, 0.45, 0.15])
    np.testing.assert_allclose(simplex.capped([0.6, 0.3, 0.1], [0.4, 0.42, 1.0]), [0.4, 0.42, 0.18])
    np.testing.assert_allclose(simplex.capped([0.6, 0.4, 0.0], [0.5, 0.5, 1.0]), [0.5, 0.5, 0.0])
    rows = simplex.capped([[0.6, 0.3, 0.1], [0.2, 0.3, 0.5]], [0.4, 1.0, 1.0])
    np.testing.assert_allclose(rows, [[0.4, 0.45, 0.15], [0.2, 0.3, 0.5]])


@given(mixtures(), st.floats(0.0, 1.0), st.integers(0, 10_000))
def test_capped_is_the_nearest_mixture_below_the_caps(weights, slack, seed):
    caps = np.random.default_rng(seed).uniform(0.0, 1.0, weights.size)
    there = weights > 1e-300
    caps = np.minimum(caps * (1.0 + slack) / max(caps[there].sum(), 1e-9) + 1e-9, 1.0)
    assume(caps[there].sum() >= 1.0)
    result = simplex.capped(weights, caps)
    assert_mixture(result)
    assert np.all(result <= caps + 1e-9)
    free = (result < caps - 1e-9) & there
    factors = result[free] / weights[free]
    held = there & ~free
    if free.any():
        np.testing.assert_allclose(factors, factors[0], rtol=1e-6)
        assert np.all(caps[held] <= factors[0] * weights[held] * (1 + 1e-6) + 1e-9), "who is capped would have more"


def test_capped_refuses_caps_that_hold_too_little():
    with pytest.raises(MixerError, match=r"caps of the domains with weight sum to 0\.7"):
        simplex.capped([0.5, 0.5, 0.0], [0.4, 0.3, 1.0])


def test_water_fill_by_hand():
    # 10 over 5: 2 each; the first holds 1, leaving 9 over 4 (2.25); the second holds 2, leaving 7 over 3
    np.testing.assert_allclose(simplex.water_fill(10.0, [9, 1, 8, 2, 7]), [7 / 3, 1, 7 / 3, 2, 7 / 3])
    np.testing.assert_allclose(simplex.water_fill(100.0, [1, 2, 3]), [1, 2, 3])


@given(hnp.arrays(np.float64, SIZES, elements=st.floats(0.0, 1e6)), st.floats(0.0, 1e7))
def test_water_fill_respects_caps_places_all_it_can_and_is_level(caps, total):
    amounts = simplex.water_fill(total, caps)
    assert np.all(amounts <= caps)
    assert amounts.sum() == pytest.approx(min(total, caps.sum()), rel=1e-9, abs=1e-6)
    open_ones = amounts < caps * (1 - 1e-9) - 1e-9
    if open_ones.any():
        level = amounts[open_ones]
        assert np.ptp(level) <= 1e-6 * max(1.0, level.max())
        assert amounts.max() <= level.max() * (1 + 1e-9) + 1e-9


def test_entropy_and_total_variation_by_hand():
    assert simplex.entropy([0.25] * 4) == pytest.approx(np.log(4.0))
    assert simplex.entropy([1.0, 0.0]) == 0.0
    assert simplex.total_variation([0.5, 0.5, 0.0], [0.2, 0.5, 0.3]) == pytest.approx(0.3)


@given(st.integers(1, 20).flatmap(lambda m: st.tuples(mixtures(st.just(m)), mixtures(st.just(m)))))
def test_total_variation_is_a_symmetric_share(pair):
    a, b = pair
    distance = simplex.total_variation(a, b)
    assert -1e-12 <= distance <= 1.0 + 1e-12
    assert distance == simplex.total_variation(b, a)
    assert simplex.total_variation(a, a) == 0.0


@given(mixtures())
def test_inputs_are_left_alone(weights):
    before = weights.copy()
    weights.setflags(write=False)
    simplex.softmax(weights)
    simplex.normalise(weights)
    simplex.exponentiated_gradient(weights, weights)
    simplex.mix_with_uniform(weights, 0.1)
    simplex.floored(weights, 0.5 / weights.size)
    simplex.water_fill(1.0, weights)
    np.testing.assert_array_equal(weights, before)
