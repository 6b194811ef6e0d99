"""The best of many draws and the search around a mixture, by hand."""

from __future__ import annotations

import numpy as np
from offline_worlds import law

from mixers import optimum
from mixers.surrogates import Linear


def test_best_of_by_hand():
    surrogate = Linear(b=np.zeros(2), t=np.array([[1.0, 0.0], [0.0, 5.0]]))
    mixtures = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [0.8, 0.2]])  # weighted losses 0.5, 1.5, 2.5, 0.9
    shares = np.array([0.5, 0.5])
    np.testing.assert_allclose(optimum.best_of(surrogate, shares, mixtures, 2), [0.9, 0.1])
    np.testing.assert_allclose(optimum.best_of(surrogate, np.array([0.0, 1.0]), mixtures[::-1], 1), [1.0, 0.0])


def test_among_equals_the_first_count():
    flat = Linear(b=np.zeros(1), t=np.zeros((1, 2)))
    mixtures = np.array([[0.3, 0.7], [0.5, 0.5], [0.9, 0.1]])
    np.testing.assert_allclose(optimum.best_of(flat, np.ones(1), mixtures, 1), [0.3, 0.7])


def test_more_mixtures_than_are_predicted_at_once(monkeypatch):
    mixtures = np.random.default_rng(0).dirichlet(np.ones(4), 50)
    whole = optimum.best_of(law(0), np.full(3, 1 / 3), mixtures, 5)
    monkeypatch.setattr(optimum, "ROWS", 7)
    np.testing.assert_allclose(optimum.best_of(law(0), np.full(3, 1 / 3), mixtures, 5), whole)


class Rounded:
    """Predicts the first share, to tenths."""

    def predict(self, mixtures):
        return np.round(mixtures[:, :1], 1)


def test_the_lowest_and_the_mean_of_equals_by_hand():
    mixtures = np.array([[0.5, 0.5], [0.21, 0.79], [0.3, 0.7], [0.19, 0.81]])
    np.testing.assert_array_equal(optimum.lowest(Rounded(), np.ones(1), mixtures, 3), [1, 3, 2])
    np.testing.assert_allclose(optimum.argmin(Rounded(), np.ones(1), mixtures), [0.2, 0.8])


def test_a_search_towards_other_mixtures_finds_an_inner_minimum():
    wanted = np.array([0.31, 0.47, 0.22])
    found = optimum.refine(lambda p: ((p - wanted) ** 2).sum(axis=1), np.array([1.0, 0.0, 0.0]), np.eye(3), rounds=60)
    np.testing.assert_allclose(found, wanted, atol=0.01)
    inside = np.array([[0.5, 0.5, 0.0], [0.5, 0.0, 0.5]])
    kept = optimum.refine(lambda p: p[:, 0], np.array([0.6, 0.2, 0.2]), inside)
    assert 0.5 <= kept[0] < 0.51, "never beyond the directions"
