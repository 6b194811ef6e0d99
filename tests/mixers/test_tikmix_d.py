"""TiKMiX-D: what is bought, sign, guards, what is absent, scale, order, state."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from mixer_fakes import make_estimate, make_problem, observe

from mixers import influence
from mixers.base import MixerError
from mixers.tikmix_d import TiKMiXD


class InfluenceLab:
    """Sells products [m, n], one matrix a call."""

    def __init__(self, *matrices, present=True, target_present=True):
        self.matrices, self.orders = list(matrices), []
        self.there = {"present": present, "target_present": target_present}

    def domain_gradients(self, examples, *, parts=1, scaling="none"):
        self.orders.append((examples, parts, scaling))
        return make_estimate(np.array(self.matrices.pop(0), dtype=np.float64), **self.there)


def problem_of(prior, n=None, **changes):
    n = len(prior) if n is None else n
    named = {"targets": [f"t{i}" for i in range(n)], "target": np.full(n, 1 / n)}
    return make_problem(train=np.array(prior), **{**named, **changes})


def solved(prior, matrix, *, problem=None, present=True, target_present=True, **config):
    """The mixture of the second stage, and the mixer."""
    matrix = np.array(matrix, dtype=np.float64)
    problem = problem_of(prior, matrix.shape[1]) if problem is None else problem
    mixer = TiKMiXD(TiKMiXD.Config(**config))
    lab = InfluenceLab(matrix, present=present, target_present=target_present)
    mixer.start(problem, lab)
    return mixer.update(observe(problem, rounds=2), lab).weights, mixer


def products(seed, m, n, d=4):
    rng = np.random.default_rng(seed)
    return (0.5 + rng.normal(size=(m, d))) @ (0.5 + rng.normal(size=(n, d))).T


def test_the_first_mixture_is_the_prior():
    problem = make_problem(train=(0.5, 0.3, 0.2), target=(0.2, 0.3, 0.5))
    for prior, expected in (("natural", (0.5, 0.3, 0.2)), ("uniform", (1 / 3,) * 3), ("target", (0.2, 0.3, 0.5))):
        mixer, lab = TiKMiXD(TiKMiXD.Config(prior=prior)), InfluenceLab()
        np.testing.assert_allclose(mixer.start(problem, lab).weights, expected)
        assert lab.orders == []
    apart = problem_of((0.5, 0.5), 1)
    with pytest.raises(MixerError, match="prior=target needs a training domain that is a target; use prior=natural"):
        TiKMiXD(TiKMiXD.Config(prior="target")).start(apart, InfluenceLab())


def test_a_measurement_at_every_boundary_is_bought():
    problem = problem_of((0.5, 0.5))
    for stages, bought in ((1, 0), (2, 1), (5, 4), (1000, 99)):
        mixer = TiKMiXD(TiKMiXD.Config(stages=stages, examples=7))
        assert len(mixer.needs().boundaries(problem.steps)) == bought + 1
        assert mixer.purchases(problem).domain_gradients == bought
        assert mixer.purchases(problem).gradient_examples == 7
    for scaling in ("adam", "none"):
        mixer, lab = TiKMiXD(TiKMiXD.Config(examples=7, scaling=scaling)), InfluenceLab(np.eye(2))
        mixer.start(problem, lab)
        mixer.update(observe(problem), lab)
        assert lab.orders == [(7, 1, scaling)]


def test_by_hand():
    # One target, and influence 2 and 0: P = w, so that the optimum is where logit(w) = beta / gamma.
    weights, mixer = solved((0.5, 0.5), [[2.0], [0.0]])
    np.testing.assert_allclose(weights[0], 1 / (1 + math.exp(-1)), atol=1e-9)
    weights, _ = solved((0.5, 0.5), [[2.0], [0.0]], beta=3.0, gamma=2.0)
    np.testing.assert_allclose(weights[0], 1 / (1 + math.exp(-1.5)), atol=1e-9)
    (stage,) = mixer.report()["stages"]
    assert stage == {
        "step": 50,
        "solved": True,
        "moved": 0.231059,
        "influence": {"t0": [0.5, 0.731059]},
        "left_out": [],
        "no_gradient": [],
    }


def test_two_targets_by_hand():
    # P = (w, 1 - w/2) after the normaliser; 2/3 makes both gains even (see the solver's test).
    matrix = [[5.0, 0.05], [0.0, 0.1]]
    weights, _ = solved((0.3, 0.7), matrix, pareto=False)
    np.testing.assert_allclose(weights, [2 / 3, 1 / 3], atol=1e-8)
    weights, _ = solved((0.3, 0.7), matrix)
    np.testing.assert_allclose(weights, [0.3, 0.7], atol=1e-8, err_msg="a larger first share makes the second worse")


def test_a_domain_that_raises_the_loss_loses_weight():
    weights, _ = solved((0.4, 0.3, 0.3), [[1.0], [-1.0], [0.5]])
    np.testing.assert_allclose(weights, np.exp([1.0, -1.0, 0.5]) / np.exp([1.0, -1.0, 0.5]).sum(), atol=1e-8)


def test_no_target_falls_below_the_prior():
    for seed in range(10):
        matrix = products(seed, 7, 3)
        prior = np.random.default_rng(seed).dirichlet(np.ones(7))
        weights, mixer = solved(prior, matrix)
        for before, after in mixer.report()["stages"][0]["influence"].values():
            assert after >= before - 1e-5
        used = matrix.max(axis=0) > 1e-3 * np.abs(matrix).max(axis=0)
        assert ((weights - prior) @ matrix)[used].min() >= -1e-7 * np.abs(matrix).max()


def test_a_target_that_no_domain_helps_is_left_out_and_named():
    matrix = products(1, 5, 3)
    matrix[:, 1] = -np.abs(matrix[:, 1])
    prior = (0.3, 0.3, 0.2, 0.1, 0.1)
    weights, mixer = solved(prior, matrix)
    without, _ = solved(prior, matrix[:, [0, 2]])
    np.testing.assert_allclose(weights, without, atol=1e-10)
    assert mixer.report()["stages"][0]["left_out"] == ["t1"]
    assert set(mixer.report()["stages"][0]["influence"]) == {"t0", "t2"}
    matrix[2, 1] = 1e-4 * np.abs(matrix[:, 1]).max()  # hardly any help
    np.testing.assert_allclose(solved(prior, matrix)[0], without, atol=1e-10)
    assert np.abs(solved(prior, matrix, guard=1e-5)[0] - without).max() > 0.01


@pytest.mark.parametrize("matrix", [np.zeros((3, 2)), -np.ones((3, 2)), np.full((3, 2), np.nan)])
def test_with_no_target_left_it_stays_on_the_prior(matrix):
    weights, mixer = solved((0.5, 0.3, 0.2), matrix)
    np.testing.assert_allclose(weights, (0.5, 0.3, 0.2))
    assert mixer.report()["stages"][0]["influence"] == {}


def test_absent_domains_keep_their_prior_and_absent_targets_count_for_nothing():
    matrix, prior = products(2, 5, 4), np.array([0.3, 0.25, 0.2, 0.15, 0.1])
    there, targets = np.array([True, False, True, True, True]), np.array([True, True, False, True])
    weights, mixer = solved(prior, matrix, present=there, target_present=targets)
    assert weights[1] == pytest.approx(0.25)
    assert np.abs(weights - prior).max() > 0.01
    assert mixer.report()["stages"][0]["no_gradient"] == ["d1"]
    assert "t2" not in mixer.report()["stages"][0]["influence"]
    assert mixer.report()["stages"][0]["left_out"] == []
    np.testing.assert_allclose(solved(prior, matrix[:, targets], present=there)[0], weights, atol=1e-9)
    # What is left is the same problem on three quarters of the simplex: P and entropy, in units of their own.
    kept = matrix[there][:, targets].T
    rows = kept / kept.max(axis=1, keepdims=True)
    goal = influence.Objective(rows=0.75 * rows, shares=np.full(3, 1 / 3), spread=1.0, gain=1.0, entropy=0.75)
    expected, _ = influence.minimise(goal, prior[there] / 0.75, 0.0)
    np.testing.assert_allclose(weights[there], 0.75 * expected, atol=1e-9)


def test_a_domain_without_data_is_no_optimum_of_a_domain_without_influence():
    matrix = np.array([[1.0], [0.0], [0.5]])
    absent, _ = solved((0.2, 0.6, 0.2), matrix, present=[True, False, True])
    useless, _ = solved((0.2, 0.6, 0.2), matrix)
    assert absent[1] == pytest.approx(0.6)
    assert useless[1] < 0.3


@pytest.mark.parametrize("constant", [1e-12, 0.1, 1e9])
def test_scale_does_not_matter(constant):
    matrix, prior = products(4, 6, 4), np.random.default_rng(4).dirichlet(np.ones(6))
    weights, _ = solved(prior, matrix)
    np.testing.assert_allclose(solved(prior, constant * matrix)[0], weights, atol=1e-8)
    each = matrix * np.array([constant, 1.0, 3.0, 0.2])
    np.testing.assert_allclose(solved(prior, each)[0], weights, atol=1e-8, err_msg="nor does each target's")
    one = matrix.copy()
    one[0] *= 2.0
    assert np.abs(solved(prior, one)[0] - weights).max() > 1e-3, "that of a domain's gradient does"


@pytest.mark.parametrize("shares", ["equal", "target"])
def test_the_order_of_domains_and_targets_does_not_matter(shares):
    matrix, prior = products(5, 6, 5), np.random.default_rng(5).dirichlet(np.ones(6))
    target = np.array([0.4, 0.3, 0.1, 0.1, 0.1])
    order, turned = np.array([4, 0, 5, 2, 1, 3]), np.array([3, 1, 4, 0, 2])

    def play(rows, columns):
        problem = make_problem(
            train=prior[rows],
            target=target[columns],
            domains=[f"d{i}" for i in rows],
            targets=[f"t{i}" for i in columns],
        )
        return solved(None, matrix[np.ix_(rows, columns)], problem=problem, shares=shares)

    weights, mixer = play(np.arange(6), np.arange(5))
    other, shuffled = play(order, turned)
    np.testing.assert_allclose(other, weights[order], atol=1e-8)
    assert np.abs(weights - prior).max() > 0.01
    (one,), (two,) = mixer.report()["stages"], shuffled.report()["stages"]
    assert one["influence"].keys() == two["influence"].keys()
    for name, values in one["influence"].items():
        assert two["influence"][name] == pytest.approx(values, abs=2e-6)


def test_target_shares_weigh_only_where_asked_for():
    matrix = np.array([[1.0, 0.1], [0.1, 1.0], [0.3, 0.3]])
    problem = problem_of((0.3, 0.3, 0.4), 2, target=(0.9, 0.1))
    config = {"problem": problem, "alpha": 0.0, "pareto": False}
    weights, _ = solved(None, matrix, **config)
    assert weights[0] == pytest.approx(weights[1])
    # Without spread it is softmax(n sum_i share_i S_ij) = softmax of (1.82, 0.38, 0.6).
    logits = np.array([1.82, 0.38, 0.6])
    weights, _ = solved(None, matrix, shares="target", **config)
    np.testing.assert_allclose(weights, np.exp(logits) / np.exp(logits).sum(), atol=1e-8)


def test_many_domains_and_few_examples():
    m, rng = 300, np.random.default_rng(0)
    matrix = 0.2 + rng.normal(size=(m, 8)) @ rng.normal(size=(8, 12)) / 8
    present = rng.random(m) < 0.8
    prior = rng.dirichlet(np.ones(m))
    problem = problem_of(prior, 12, batch_size=8, examples=np.maximum(1, np.round(500 * prior)))
    weights, mixer = solved(None, matrix, problem=problem, present=present, examples=1)
    (stage,) = mixer.report()["stages"]
    assert stage["solved"]
    assert stage["moved"] > 0.05
    np.testing.assert_allclose(weights[~present], prior[~present], rtol=1e-9)
    assert weights.sum() == pytest.approx(1.0)


def test_every_stage_is_solved_anew_against_the_prior():
    matrices = [products(seed, 5, 3) for seed in range(3)]
    problem = problem_of((0.4, 0.2, 0.2, 0.1, 0.1), 3)
    mixer, lab = TiKMiXD(TiKMiXD.Config(stages=4)), InfluenceLab(*matrices)
    mixer.start(problem, lab)
    for round, matrix in enumerate(matrices):
        weights = mixer.update(observe(problem, round=round, rounds=4), lab).weights
        np.testing.assert_array_equal(weights, solved(None, matrix, problem=problem)[0])
    assert [stage["step"] for stage in mixer.report()["stages"]] == [25, 50, 75]


def test_it_goes_on_from_its_state():
    matrices = [products(seed, 5, 3) for seed in range(3)]
    problem = problem_of((0.4, 0.2, 0.2, 0.1, 0.1), 3)

    def play(mixer, rounds):
        lab = InfluenceLab(*(matrices[round] for round in rounds))
        return [mixer.update(observe(problem, round=round, rounds=4), lab).weights for round in rounds]

    whole, half, resumed = (TiKMiXD(TiKMiXD.Config(stages=4)) for _ in range(3))
    for mixer in (whole, half, resumed):
        mixer.start(problem, InfluenceLab())
    expected = play(whole, (0, 1, 2))
    play(half, (0,))
    resumed.load_state_dict(json.loads(json.dumps(half.state_dict())))
    np.testing.assert_array_equal(play(resumed, (1, 2)), expected[1:])
    assert resumed.report() == whole.report()
    assert resumed.state_dict() == whole.state_dict()
    assert len(half.report()["stages"]) == 1, "what was loaded is not shared"


def test_a_solver_that_stops_early_is_reported(monkeypatch):
    monkeypatch.setattr(influence, "ITERATIONS", 3)
    _, mixer = solved((0.4, 0.3, 0.3), products(0, 3, 2))
    assert mixer.report()["stages"][0]["solved"] is False


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stages": 0}, "stages must be at least 1, not 0"),
        ({"alpha": -1.0}, "alpha, beta and gamma must be finite and at least 0"),
        ({"beta": math.inf}, "alpha, beta and gamma must be finite and at least 0"),
        ({"gamma": math.nan}, "alpha, beta and gamma must be finite and at least 0"),
        ({"alpha": 0.0, "beta": 0.0, "gamma": 0.0}, "one of alpha, beta and gamma must be above 0"),
        ({"prior": "human"}, "prior is natural, uniform or target: human"),
        ({"examples": 0}, "examples must be at least 1, not 0"),
        ({"scaling": "ekfac"}, "scaling is adam or none, not ekfac"),
        ({"shares": "macro"}, "shares is equal or target, not macro"),
        ({"slack": -0.1}, "slack must be finite and at least 0, not -0.1"),
        ({"slack": math.inf}, "slack must be finite and at least 0, not inf"),
        ({"slack": math.nan}, "slack must be finite and at least 0, not nan"),
        ({"guard": 1.0}, r"guard must be in \[0, 1\), not 1.0"),
    ],
)
def test_bad_settings_are_one_line(fields, message):
    with pytest.raises(MixerError, match=f"^tikmix_d: {message}$"):
        TiKMiXD.Config(**fields)
