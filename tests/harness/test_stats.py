"""Statistics against numbers worked out by hand or by the textbook."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from harness.stats import holm, letter_groups, mean_interval, paired, smallest_detectable


def test_interval_of_three_values():
    # mean 2, sd 1, t(0.975, 2) = 4.302653, half = 4.302653 / sqrt(3)
    found = mean_interval([1.0, 2.0, 3.0])
    assert (found.n, found.mean, found.sd) == (3, 2.0, 1.0)
    assert found.half == pytest.approx(2.484138, abs=1e-6)
    assert found.low == pytest.approx(2 - 2.484138, abs=1e-6)
    assert found.high == pytest.approx(2 + 2.484138, abs=1e-6)


def test_one_value_has_no_interval_and_none_is_an_error():
    one = mean_interval([1.5])
    assert (one.mean, one.sd, one.half, one.low, one.high) == (1.5, None, None, None, None)
    with pytest.raises(ValueError, match="at least one"):
        mean_interval([])


def test_equal_values_have_an_interval_of_zero():
    found = mean_interval([0.1 + 0.2, 0.3, 0.3])
    assert found.sd == 0.0
    assert found.half == 0.0


def test_paired_by_shared_seeds_only():
    # differences 1, 2, 3: t = 2 / (1 / sqrt(3)) = 3.4641, two-sided p with 2 degrees of freedom = 0.074180
    found = paired({0: 2.0, 1: 4.0, 2: 6.0, 9: 100.0}, {0: 1.0, 1: 2.0, 2: 3.0, 7: -5.0})
    assert found is not None
    assert found.seeds == (0, 1, 2)
    assert found.difference.mean == pytest.approx(2.0)
    assert found.p == pytest.approx(0.0741799, abs=1e-6)


def test_paired_without_enough_seeds():
    assert paired({0: 1.0}, {1: 1.0}) is None
    one = paired({0: 2.0}, {0: 1.5})
    assert one is not None
    assert (one.difference.mean, one.difference.half, one.p) == (0.5, None, None)


def test_paired_without_variation():
    same = paired({0: 0.1 + 0.2, 1: 1.0}, {0: 0.3, 1: 1.0})
    shifted = paired({0: 1.1, 1: 2.1, 2: 0.3}, {0: 1.0, 1: 2.0, 2: 0.2})
    assert same is not None
    assert shifted is not None
    assert (same.p, same.difference.mean, same.difference.sd) == (1.0, 0.0, 0.0)
    assert (shifted.p, shifted.difference.sd) == (0.0, 0.0)


def test_no_difference_at_all_is_no_test():
    same = paired({0: 0.3, 1: 1.0, 2: 5.0}, {0: 0.3, 1: 1.0, 2: 5.0})
    assert (same.p, same.difference.mean, same.difference.half, same.identical) == (None, 0.0, 0.0, True)
    assert paired({0: 0.3}, {0: 0.3}).identical
    assert not paired({0: 0.3}, {0: 0.4}).identical
    assert not paired({0: 0.1 + 0.2, 1: 1.0}, {0: 0.3, 1: 1.0}).identical
    cancelling = paired({0: 1.0, 1: 2.0}, {0: 2.0, 1: 1.0})
    assert (cancelling.p, cancelling.identical) == (1.0, False)


def test_holm_by_hand():
    # sorted 0.01 x 4, 0.02 x 3, 0.03 x 2 = 0.06, 0.04 x 1 raised to 0.06
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_leaves_out_what_was_not_tested():
    assert holm([None, 0.02, None, 0.01]) == [None, 0.02, None, 0.02]


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_is_monotone_and_never_below_p(p_values):
    adjusted = holm(p_values)
    assert all(a >= p for a, p in zip(adjusted, p_values, strict=True))
    ordered = [a for _, a in sorted(zip(p_values, adjusted, strict=True))]
    assert ordered == sorted(ordered)


def test_letters_of_a_chain():
    assert letter_groups(4, [(0, 2), (0, 3), (1, 3)]) == ["a", "ab", "bc", "c"]
    assert letter_groups(3, []) == ["a", "a", "a"]
    assert letter_groups(3, [(0, 1), (0, 2), (1, 2)]) == ["a", "b", "c"]
    assert letter_groups(0, []) == []


@settings(deadline=None)
@given(
    st.integers(1, 8).flatmap(
        lambda n: st.tuples(st.just(n), st.sets(st.sampled_from(_pairs(n)) if n > 1 else st.nothing()))
    )
)
def test_rows_share_a_letter_exactly_if_not_separated(case):
    n, separated = case
    letters = letter_groups(n, sorted(separated))
    assert all(letters)
    for i, j in _pairs(n):
        assert bool(set(letters[i]) & set(letters[j])) == ((i, j) not in separated)


def _pairs(n):
    return list(itertools.combinations(range(n), 2))


@pytest.mark.parametrize(("n", "tests"), [(2, 1), (2, 40), (3, 10), (5, 105), (10, 1)])
def test_smallest_detectable_difference_has_power_080(n, tests):
    # The definition, by simulation: draws of the differences with that mean and sd 1.
    effect = smallest_detectable(n, 1.0, tests)
    draws = np.random.default_rng(0).normal(effect, 1.0, (200_000, n))
    t = draws.mean(1) / (draws.std(1, ddof=1) / math.sqrt(n))
    power = np.mean(np.abs(t) > scipy_stats.t.isf(0.025 / tests, n - 1))
    assert power == pytest.approx(0.8, abs=0.005)


def test_smallest_detectable_difference_against_the_textbook():
    # Ten pairs at level 0.05 and power 0.8: d = 0.9960 (G*Power); it grows with the spread.
    assert smallest_detectable(10, 1.0, 1) == pytest.approx(0.9960, abs=2e-3)
    assert smallest_detectable(10, 3.0, 1) == pytest.approx(3 * smallest_detectable(10, 1.0, 1))
    assert smallest_detectable(5, 0.0, 4) == 0.0
    assert smallest_detectable(1, 1.0, 1) is None
    assert smallest_detectable(5, 1.0, 0) is None
