"""TiKMiX-M: what is bought, the noise of a sample, the interval, what the search finds, order, what is absent."""

from __future__ import annotations

import builtins
import json

import numpy as np
import pytest
from mixer_fakes import GradientLab, make_estimate, make_problem, observe

from mixers.base import MixerError
from mixers.influence import Objective
from mixers.simplex import entropy, total_variation
from mixers.tikmix_d import TiKMiXD
from mixers.tikmix_m import TiKMiXM, inside, sampled

pytest.importorskip("lightgbm")
TRAIN = np.array([0.4, 0.3, 0.2, 0.1])
ORDER = [2, 0, 3, 1]


def products(seed=1, m=4, n=2, d=4):
    rng = np.random.default_rng(seed)
    return (0.7 + rng.normal(size=(m, d))) @ (0.7 + rng.normal(size=(n, d))).T


def noisy(matrix, noise, parts=4, seed=0):
    drawn = np.random.default_rng(seed).normal(size=(parts, *matrix.shape))
    return matrix + noise * np.abs(matrix).max() * (drawn - drawn.mean(axis=0))


def problem_of(order=(0, 1, 2, 3), n=2, **changes):
    order = list(order)
    given = {"targets": [f"t{i}" for i in range(n)], "target": np.full(n, 1 / n), **changes}
    return make_problem(train=TRAIN[order], domains=[f"d{i}" for i in order], **given)


def refined(estimates, problem=None, cls=TiKMiXM, *, present=True, target_present=True, **config):
    """The mixture of the second stage, the mixer and the lab."""
    problem = problem_of(n=estimates.shape[2]) if problem is None else problem
    mixer = cls(cls.Config(**config))
    lab = GradientLab(make_estimate(part, present=present, target_present=target_present) for part in estimates)
    mixer.start(problem, lab)
    return mixer.update(observe(problem, rounds=2), lab).weights, mixer, lab


def test_parts_share_the_examples_of_a_measurement():
    problem = problem_of()
    _, mixer, lab = refined(noisy(products(), 0.1), problem, examples=30)
    assert [examples for examples, _ in lab.orders] == [7] * 4
    declared = mixer.purchases(problem)
    assert (declared.domain_gradients, declared.gradient_examples) == (4, 7)
    five = TiKMiXM(TiKMiXM.Config(stages=5, parts=2)).purchases(problem)
    assert (five.domain_gradients, five.gradient_examples) == (8, 16)


def test_the_noise_of_a_sample_is_that_of_one_as_large_as_a_domains():
    # Two parts at +- 1: the deviation of one part is estimated as sqrt(2), that of the mean of two as 1.
    rows = np.array([[3.0, 5.0]])
    parts = np.array([[[2.0, 4.0]], [[4.0, 6.0]]])
    objective = Objective(rows=rows, shares=np.ones(1), spread=0.0, gain=1.0, entropy=0.0)
    rng = np.random.default_rng(0)
    alone = sampled(objective, np.tile([1.0, 0.0], (400, 1)), parts, rng)
    np.testing.assert_allclose(np.unique(alone), [-4.0, -2.0])
    half = sampled(objective, np.tile([0.5, 0.5], (4000, 1)), parts, rng)
    assert half.mean() == pytest.approx(-4.0, abs=0.05)
    assert half.std() == pytest.approx(1.0, abs=0.05)  # (sqrt(1/2) 1)^2 twice


def test_one_part_is_the_additive_influence():
    objective = Objective(rows=products(n=3).T, shares=np.full(3, 1 / 3), spread=1.0, gain=2.0, entropy=0.5)
    mixtures = np.random.default_rng(0).dirichlet(np.ones(4), 5)
    values = sampled(objective, mixtures, objective.rows[None], np.random.default_rng(0))
    np.testing.assert_allclose(values, [objective.value(mixture) for mixture in mixtures])
    p = objective.rows @ mixtures[0]
    by_hand = p.std() - 2.0 * p.sum() - 0.5 * entropy(mixtures[0])
    assert values[0] == pytest.approx(by_hand)


def test_draws_outside_are_moved_to_the_edge():
    centre, low, high = np.array([0.5, 0.3, 0.2]), np.array([0.25, 0.15, 0.1]), np.array([1.0, 0.6, 0.4])
    moved = inside(centre, np.array([[0.6, 0.3, 0.1], [0.1, 0.1, 0.8], [0.5, 0.3, 0.2], [1.0, 0.0, 0.0]]), low, high)
    np.testing.assert_allclose(moved[[0, 2]], [[0.6, 0.3, 0.1], [0.5, 0.3, 0.2]])
    np.testing.assert_allclose(moved[1], centre + (0.2 / 0.6) * np.array([-0.4, -0.2, 0.6]))
    np.testing.assert_allclose(moved[3], [0.75, 0.15, 0.1])


@pytest.mark.parametrize("m", [2, 4, 40])
def test_the_hypercube_fills_the_interval_and_nothing_else(m):
    mixer = TiKMiXM()
    centre = np.random.default_rng(m).dirichlet(np.full(m, 2.0))
    low, high = 0.5 * centre, np.minimum(2.0 * centre, 1.0)
    found, moved = mixer._hypercube(centre, low, high, np.random.default_rng(0))
    assert found.shape == (256, m)
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    assert np.all((found >= low - 1e-12) & (found <= high + 1e-12))
    assert (moved > 0) == (m == 40), "with so many domains hardly a draw is inside"
    if m < 40:
        smallest = int(centre.argmin())
        assert found[:, smallest].min() < 0.6 * centre[smallest]
        assert found[:, smallest].max() > 1.6 * centre[smallest]


def test_without_noise_the_search_stays_where_the_solver_was():
    for seed in range(3):
        matrix = products(seed)
        solver, _, _ = refined(matrix[None], cls=TiKMiXD, pareto=False)
        weights, mixer, _ = refined(matrix[None], parts=1, pareto=False)
        (stage,) = mixer.report()["stages"]
        exact, found = stage["objective"]
        assert stage["noise"] == pytest.approx(0.0, abs=1e-12)
        assert exact <= found + 1e-9, "nothing is better than the solver's optimum"
        assert total_variation(weights, solver) < 0.1


def test_a_search_that_begins_away_from_the_optimum_finds_it():
    # The constraint binds the centre and not the search: with it the solver cannot leave the prior.
    matrix = np.array([[5.0, 0.05], [0.0, 0.1]])
    problem = make_problem(train=(0.3, 0.7), target=(0.5, 0.5), targets="xy")
    held, _, _ = refined(matrix[None], problem, cls=TiKMiXD)
    np.testing.assert_allclose(held, [0.3, 0.7], atol=1e-6)
    weights, mixer, _ = refined(matrix[None], problem, parts=1)
    assert weights[0] > 0.4
    (stage,) = mixer.report()["stages"]
    assert stage["objective"][1] < stage["objective"][0] - 0.01
    assert stage["from_d"] == pytest.approx(weights[0] - 0.3, abs=1e-5)


def test_noise_moves_the_answer_within_the_interval():
    matrix = products()
    solver, _, _ = refined(matrix[None], cls=TiKMiXD)
    clean, _, _ = refined(np.repeat(matrix[None], 4, axis=0))
    weights, mixer, _ = refined(noisy(matrix, 0.5))
    (stage,) = mixer.report()["stages"]
    assert stage["noise"] > 0.01
    assert not np.array_equal(weights, clean)
    assert np.all((weights >= 0.5 * solver - 1e-9) & (weights <= 2.0 * solver + 1e-9))
    json.dumps(mixer.report(), allow_nan=False)


def test_order_names_and_the_scale_of_influence_do_not_matter():
    parts = noisy(products(), 0.3)
    weights, _, _ = refined(parts)
    moved, _, _ = refined(parts[:, ORDER], problem_of(ORDER))
    np.testing.assert_allclose(moved, weights[ORDER], rtol=1e-12)
    renamed, _, _ = refined(parts, make_problem(train=TRAIN, target=(0.5, 0.5), domains="zxba", targets="pq"))
    np.testing.assert_array_equal(renamed, weights)
    scaled, _, _ = refined(8.0 * parts)
    np.testing.assert_allclose(scaled, weights, rtol=1e-9)
    other, _, _ = refined(parts, problem_of(seed=1))
    assert not np.array_equal(other, weights)


def test_domains_without_a_gradient_keep_their_share_and_targets_may_be_missing():
    parts = noisy(products(n=3), 0.2)
    weights, mixer, _ = refined(parts, present=[True, False, True, True], target_present=[True, True, False])
    assert weights[1] == pytest.approx(TRAIN[1])
    (stage,) = mixer.report()["stages"]
    assert stage["no_gradient"] == ["d1"]
    assert set(stage["influence"]) <= {"t0", "t1"}
    weights, mixer, _ = refined(parts, present=[False, True, False, False])
    np.testing.assert_allclose(weights, TRAIN)
    assert "from_d" not in mixer.report()["stages"][0], "there is nothing to search"


def test_no_stage_repeats_a_domain_more_often_than_allowed():
    parts, scarce = noisy(products(), 0.3), (400, 300, 200, 20)
    free, mixer, _ = refined(parts, problem_of(examples=scarce))
    assert "capped" not in mixer.report()["stages"][0]
    roomy, mixer, _ = refined(parts, problem_of(examples=scarce), max_epochs=1e6)
    np.testing.assert_allclose(roomy, free, rtol=1e-12)
    assert mixer.report()["stages"][0]["capped"] == 0.0
    caps = 0.5 * np.array(scarce) / 400  # of 400 examples drawn, half of each domain's at most
    weights, mixer, _ = refined(parts, problem_of(examples=scarce), max_epochs=0.5)
    assert np.any(free > caps + 0.01)
    assert np.all(weights <= caps + 1e-9)
    assert mixer.report()["stages"][0]["capped"] == pytest.approx(total_variation(free, weights), abs=1e-5)
    moved, _, _ = refined(parts[:, ORDER], problem_of(ORDER, examples=np.array(scarce)[ORDER]), max_epochs=0.5)
    np.testing.assert_allclose(moved, weights[ORDER], rtol=1e-9)
    json.dumps(mixer.report(), allow_nan=False)


def test_the_first_stage_is_capped_too():
    problem = problem_of(examples=(400, 300, 200, 20))
    mixer = TiKMiXM(TiKMiXM.Config(prior="uniform", max_epochs=1.0))
    np.testing.assert_allclose(mixer.start(problem, GradientLab([])).weights, [0.95 / 3] * 3 + [0.05])


def test_without_lightgbm_it_says_what_is_left(monkeypatch):
    real = builtins.__import__

    def missing(name, *words, **more):
        if name == "lightgbm":
            raise ImportError(name)
        return real(name, *words, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MixerError, match=r"LightGBM is not installed: .* or use tikmix_d$"):
        TiKMiXM().start(problem_of(), GradientLab([]))


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"parts": 33}, "parts must be from 1 to examples = 32, not 33"),
        ({"mixtures": 9}, "mixtures must be at least 10, not 9"),
        ({"narrow": 1.0}, r"narrow must be in \[0, 1\) and wide above 1, not 1.0 and 2.0"),
        ({"iterations": 0}, "iterations must be at least 1, not 0"),
        ({"top_k": 1001}, "top_k must be from 1 to draws = 1000, not 1001"),
        ({"first_strength": 1e5}, "strengths must be positive and rise, not 100000.0 and 10000.0"),
        ({"max_epochs": float("inf")}, "max_epochs must be positive and finite, or none, not inf"),
        ({"stages": 0}, "stages must be at least 1, not 0"),
    ],
)
def test_bad_settings_are_one_line(fields, rule):
    with pytest.raises(MixerError, match=f"^tikmix_m: {rule}$"):
        TiKMiXM.Config(**fields)
