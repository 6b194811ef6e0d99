"""Curves of loss against cost: by hand, exact on exact data, scales, missing points, crossings, the bootstrap."""

from __future__ import annotations

import numpy as np
import pytest

from mixers import curves
from mixers.curves import Curves

COSTS = np.array([[100.0, 200.0, 400.0, 800.0]] * 3)
FLOOR, SCALE, EXPONENT = np.array([1.0, 2.0, 0.5]), np.array([3.0, 5.0, -2.0]), np.array([0.3, 0.7, 0.5])
TRUE = Curves(floor=FLOOR, scale=SCALE, exponent=EXPONENT)
LOSSES = TRUE.at(COSTS.T).T
NOISE = 0.01 * np.random.default_rng(0).normal(size=LOSSES.shape)


def single(floor, scale, exponent):
    return Curves(floor=np.array(floor), scale=np.array(scale), exponent=np.array(exponent))


def test_a_curve_by_hand():
    curve = single(1.0, 6.0, 0.5)
    np.testing.assert_allclose(curve.at(np.array([4.0, 9.0, 36.0])), [4.0, 3.0, 2.0])


def test_exact_points_give_their_curve_back_falling_or_rising():
    found = curves.fit(COSTS, LOSSES, falling=False)
    np.testing.assert_allclose(found.floor, FLOOR, atol=1e-5)
    np.testing.assert_allclose(found.scale, SCALE, rtol=1e-5)
    np.testing.assert_allclose(found.exponent, EXPONENT, rtol=1e-5)


def test_a_fit_has_no_less_error_anywhere_else():
    y = LOSSES + NOISE
    found = curves.fit(COSTS, y, falling=False)

    def error(curve):
        return ((curve.at(COSTS.T).T - y) ** 2).sum(axis=1)

    rng = np.random.default_rng(1)
    for size in (0.3, 0.03, 0.003):
        for _ in range(300):
            near = Curves(
                floor=np.maximum(found.floor + size * rng.normal(size=3), 0.0),
                scale=found.scale * (1.0 + size * rng.normal(size=3)),
                exponent=np.clip(found.exponent * (1.0 + size * rng.normal(size=3)), curves.LOWEST, curves.HIGHEST),
            )
            assert np.all(error(near) >= error(found) * (1.0 - 1e-9))


def test_what_rises_is_a_constant_where_curves_must_fall():
    found = curves.fit(COSTS, LOSSES)
    assert found.scale[2] == 0.0
    np.testing.assert_allclose(found.floor[2], LOSSES[2].mean())
    np.testing.assert_allclose(found.floor[:2], FLOOR[:2], atol=1e-5)


def test_the_floor_is_not_below_zero_for_positive_losses():
    straight = np.array([[4.0, 3.0, 2.0, 1.0]])  # in the logarithm of the cost: a power law with a floor below 0
    found = curves.fit(COSTS[:1], straight)
    assert found.floor[0] == 0.0
    assert found.at(1e12)[0] >= 0.0
    assert curves.fit(COSTS[:1], straight - 10.0).floor[0] < -9.0


@pytest.mark.parametrize("falling", [True, False])
def test_scales(falling):
    y = LOSSES + NOISE
    found, losses, costs = (
        curves.fit(c, v, falling=falling) for c, v in ((COSTS, y), (COSTS, 8.0 * y), (4.0 * COSTS, y))
    )
    np.testing.assert_allclose(losses.floor, 8.0 * found.floor, rtol=1e-9)
    np.testing.assert_allclose(losses.scale, 8.0 * found.scale, rtol=1e-9)
    np.testing.assert_allclose(costs.exponent, found.exponent, rtol=1e-6)
    np.testing.assert_allclose(costs.scale, found.scale * 4.0**found.exponent, rtol=1e-6)


def test_points_without_a_loss_are_left_out():
    costs = np.concatenate((COSTS, np.array([[1600.0]] * 3)), axis=1)
    y = TRUE.at(costs.T).T
    y[0, 1] = np.nan
    y[1, :2] = np.inf
    found = curves.fit(costs, y, falling=False)
    np.testing.assert_allclose(found.at(6400.0)[[0, 2]], TRUE.at(6400.0)[[0, 2]], rtol=1e-5)
    assert np.isnan([found.floor[1], found.scale[1], found.exponent[1]]).all(), "three points are too few"


def test_crossings_by_hand():
    # 1 + 6 c^-1/2 and 2 + 2 c^-1/2 meet where c^-1/2 = 1/4.
    first, second = single(1.0, 6.0, 0.5), single(2.0, 2.0, 0.5)
    np.testing.assert_allclose(curves.crossings(first, second, 1.0, 100.0), [16.0])
    assert curves.crossings(first, second, 17.0, 100.0) == []
    assert curves.crossings(first, first, 1.0, 100.0) == []
    # With x = c^-1/2: 1 + x against 0.88 + 1.8 x - x^2, twice: x = 0.2 and 0.6 of x^2 - 0.8 x + 0.12.
    twice = curves.crossings(single(0.12, 1.0, 1.0), single(0.0, 0.8, 0.5), 1.0, 100.0)
    np.testing.assert_allclose(twice, [1.0 / 0.36, 25.0])


def test_the_last_crossing_of_many_curves():
    first = Curves(floor=np.array([1.0, 1.0, 3.0]), scale=np.array([6.0, 4.0, 3.0]), exponent=np.full(3, 0.5))
    second = Curves(floor=np.full(3, 2.0), scale=np.full(3, 2.0), exponent=np.full(3, 0.5))
    found = curves.last_crossings(first, second, 1.0, 100.0)
    np.testing.assert_allclose(found[:2], [16.0, 4.0], rtol=1e-3)
    assert np.isnan(found[2])


def test_the_bootstrap_is_as_wide_as_the_noise_and_repeats_itself():
    exact = curves.fit(COSTS, LOSSES, falling=False)
    none = curves.bootstrap(exact, COSTS, LOSSES, draws=20, seed=[0], falling=False)
    np.testing.assert_allclose(none.at(1600.0), np.tile(TRUE.at(1600.0), (20, 1)), rtol=1e-4)
    widths = []
    for size in (0.1, 1.0):
        y = LOSSES + size * NOISE
        found = curves.fit(COSTS, y, falling=False)
        drawn, again = (
            curves.bootstrap(found, COSTS, y, draws=200, seed=[4], falling=False).at(600.0) for _ in range(2)
        )
        np.testing.assert_array_equal(drawn, again)
        low, high = np.quantile(drawn, [0.05, 0.95], axis=0)
        widths.append(high - low)
    assert np.all(widths[1] > 4.0 * widths[0])
    assert np.all((widths[1] > 0.005) & (widths[1] < 0.05)), "noise of 0.01 a point"


def test_the_bootstrap_covers_the_truth_about_as_often_as_it_says():
    rng, hits = np.random.default_rng(7), []
    many = np.array([[100.0, 150.0, 250.0, 400.0, 600.0, 800.0]] * 3)
    for _ in range(25):
        y = TRUE.at(many.T).T + 0.01 * rng.normal(size=many.shape)
        drawn = curves.bootstrap(curves.fit(many, y, falling=False), many, y, draws=100, seed=[1], falling=False).at(
            400.0
        )
        low, high = np.quantile(drawn, [0.05, 0.95], axis=0)
        hits.append((low <= TRUE.at(400.0)) & (TRUE.at(400.0) <= high))
    assert 0.75 < np.mean(hits) <= 1.0


def test_a_vertex_by_hand():
    x, y = np.array([0.0, 1.0, 3.0, 4.0]), np.array([[4.0, 1.0, 1.0, 4.0], [0.0, 1.0, 2.0, 3.0]])
    # (x - 2)^2 through 4, 1 and 1 has its least point at 2.
    np.testing.assert_allclose(curves.vertex(x, y, np.array([1, 0])), [2.0, 0.0])
    y[0, 0] = np.nan
    np.testing.assert_allclose(curves.vertex(x, y, np.array([1, 0])), [1.0, 0.0])
    np.testing.assert_allclose(curves.vertex(x[:2], y[:, :2], np.array([1, 0])), [1.0, 0.0])


def test_ranks_and_leads():
    assert curves.ranks(np.array([3.0, 1.0, np.nan, 2.0])) == [3, 1, None, 2]
    losses = np.array([[1.0, 2.0, np.nan], [2.0, 1.0, np.nan], [1.0, 1.5, np.nan], [np.nan] * 3])
    assert curves.leads(losses) == pytest.approx([2 / 3, 1 / 3, 0.0])
    assert curves.interval(np.array([np.nan])) is None
    np.testing.assert_allclose(curves.interval(np.array([np.nan, *np.arange(101.0)])), [5.0, 95.0])


def test_all_crossings_list_the_later_leader_first():
    three = Curves(floor=np.array([2.0, 1.0, 9.0]), scale=np.array([2.0, 6.0, 1.0]), exponent=np.full(3, 0.5))
    drawn = Curves(**{k: np.tile(getattr(three, k), (5, 1)) for k in ("floor", "scale", "exponent")})
    (pair,) = curves.all_crossings(["a", "b", "c"], three, drawn, 1.0, 100.0)
    assert (pair["ahead_at_last"], pair["behind"], pair["in_bootstrap"]) == ("b", "a", 1.0)
    np.testing.assert_allclose(pair["costs"], [16.0])
    assert curves.all_crossings(["a", "b", "c"], three, drawn, 100.0, 100.0) == []


def test_a_curve_whose_points_do_not_show_the_form_is_marked():
    ever_faster = np.array([[6.0, 5.9, 5.7, 5.3]])
    for losses, marked in ((LOSSES[:1], False), (ever_faster, True)):
        about = curves.points(COSTS[0], losses[0], curves.fit(COSTS[:1], losses).part(0))
        assert about["curve"]["at_limit"] is marked
    assert curves.points(COSTS[0], losses[0], single(np.nan, np.nan, np.nan))["curve"] is None
