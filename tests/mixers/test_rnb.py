import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from mixer_fakes import FakeGradients, FakeLab, GramGradients, make_problem, observe

from mixers import simplex
from mixers.base import DomainGradients, MixerError, UndeclaredSignalError
from mixers.rnb import RnB, balance

LAB = FakeLab()
GRAM = np.array([[2.0, 1.0, 0.0], [1.0, 3.0, -1.0], [0.0, -1.0, 1.0]])
P = np.array([0.5, 0.25, 0.25])


@st.composite
def cases(draw):
    m = draw(st.integers(1, 12))
    vectors = draw(hnp.arrays(np.float64, (m, 6), elements=st.floats(-3, 3)))
    target = draw(hnp.arrays(np.float64, m, elements=st.floats(0.0, 1.0))) + 1e-3
    return vectors @ vectors.T + 1e-3 * np.eye(m), target / target.sum()


def started(problem, **config):
    mixer = RnB(RnB.Config(**config))
    mixer.start(problem, LAB)
    return mixer


def answer(mixer, problem, gradients, round=0):
    return mixer.update(observe(problem, gradients=gradients, round=round), LAB)


def test_by_hand():
    # G p = (1.25, 1, 0), norm sqrt(2.5625) = 1.600781; logits at lam = 3: (2.342606, 1.874085, 0)
    powers = np.array([math.exp(3 * 1.25 / math.sqrt(2.5625)), math.exp(3 / math.sqrt(2.5625)), 1.0])
    np.testing.assert_allclose(balance(GRAM, P, 3.0), powers / powers.sum(), rtol=1e-12)
    np.testing.assert_allclose(balance(GRAM, P, 3.0), [0.580719, 0.363488, 0.055794], atol=1e-6)


def test_published_weights_of_s1_fit_the_normalised_form():
    # a unit vector (~0.59, 0.55, 8 × 0.21) gives the quoted 0.225 and 0.200 at m = 10, lam = 3
    v = np.array([0.59, 0.55] + [0.209] * 8)
    np.testing.assert_allclose(balance(np.diag(v), np.ones(10), 3.0)[:2], [0.225, 0.200], atol=0.005)


@given(cases(), st.floats(-100, 100))
def test_a_positive_factor_on_the_gradients_changes_nothing(case, exponent):
    gram, p = case
    np.testing.assert_allclose(balance(10.0**exponent * gram, p, 3.0), balance(gram, p, 3.0), rtol=1e-9)


@given(cases(), st.randoms(use_true_random=False))
def test_permutation_equivariance(case, random):
    gram, p = case
    order = list(range(len(p)))
    random.shuffle(order)
    permuted = balance(gram[np.ix_(order, order)], p[order], 3.0)
    np.testing.assert_allclose(permuted, balance(gram, p, 3.0)[order], rtol=1e-9)


@given(cases())
def test_lam_zero_is_uniform_and_large_lam_is_the_best_aligned_domain(case):
    gram, p = case
    np.testing.assert_allclose(balance(gram, p, 0.0), simplex.uniform(len(p)))
    aligned = gram @ p
    best = np.sort(aligned)[::-1]
    if len(p) > 1 and best[0] - best[1] > 1e-3 * np.linalg.norm(aligned):
        np.testing.assert_allclose(balance(gram, p, 1e6), np.arange(len(p)) == np.argmax(aligned), atol=1e-12)


@given(cases())
def test_every_logit_is_within_lam(case):
    weights = balance(*case, 3.0)
    assert weights.max() / weights.min() <= math.exp(6.0) * (1 + 1e-9)


def test_orthogonal_gradients_of_equal_norm_follow_the_target():
    expected = simplex.softmax(3.0 * P / np.linalg.norm(P))
    np.testing.assert_allclose(balance(7.0 * np.eye(3), P, 3.0), expected, rtol=1e-12)


def test_mixer_starts_uniform_and_uses_the_target_not_its_mixture():
    problem = make_problem(train=(0.7, 0.2, 0.1), target=P)
    mixer = RnB()
    np.testing.assert_allclose(mixer.start(problem, LAB).weights, np.full(3, 1 / 3))
    for round in range(3):
        # the same gradients give the same mixture, whatever was in force: no memory, no product
        np.testing.assert_allclose(answer(mixer, problem, GramGradients(GRAM), round).weights, balance(GRAM, P, 3.0))
    assert mixer.report() == {}


def test_zero_alignment_keeps_the_mixture_and_is_reported():
    problem = make_problem(target=P)
    mixer = started(problem)
    assert answer(mixer, problem, GramGradients(np.zeros((3, 3))), 0) is None
    assert answer(mixer, problem, GramGradients(np.full((3, 3), np.nan)), 1) is None
    assert answer(mixer, problem, GramGradients(np.full((3, 3), np.inf)), 3) is None
    assert mixer.report() == {"skipped_updates": "0-1,3", "skipped_because": "G p was zero or not finite"}


def test_targets_outside_the_training_domains_never_move_the_mixture():
    problem = make_problem(domains="abc", targets="xyz")
    mixer = started(problem)
    assert answer(mixer, problem, GramGradients(GRAM)) is None
    assert mixer.report()["skipped_because"] == "no training domain is a target domain"


def test_targets_partly_outside_use_what_is_inside():
    problem = make_problem(domains="abc", targets="bxa", target=(0.1, 0.7, 0.2))
    weights = answer(started(problem), problem, GramGradients(GRAM)).weights
    np.testing.assert_allclose(weights, balance(GRAM, np.array([0.2, 0.1, 0.0]), 3.0))


def test_absent_domains_have_logit_zero_and_are_reported():
    problem = make_problem(target=P)
    mixer = started(problem)
    vectors = np.array([[1.0, 0.0], [1.0, 1.0], [5.0, 5.0]])
    for round, counts in enumerate([(3, 5, 0), (3, 5, 0), (8, 0, 0), (4, 4, 4)]):
        weights = answer(mixer, problem, FakeGradients(vectors, counts), round).weights
        if round == 0:
            gp = np.array([0.5 * 1.0 + 0.25 * 1.0, 0.5 * 1.0 + 0.25 * 2.0, 0.0])
            np.testing.assert_allclose(weights, simplex.softmax(3.0 * gp / np.linalg.norm(gp)))
    assert mixer.report() == {"absent": {"d1": "2", "d2": "0-2"}}


def test_more_domains_than_examples():
    m = 64
    problem = make_problem(train=np.full(m, 1 / m), target=np.full(m, 1 / m))
    counts = np.zeros(m, dtype=int)
    counts[[3, 17, 40]] = (2, 1, 1)
    rng = np.random.default_rng(0)
    weights = answer(started(problem), problem, FakeGradients(rng.normal(size=(m, 100)), counts)).weights
    assert np.all(weights > 0.0)
    assert weights.sum() == pytest.approx(1.0)
    absent = weights[counts == 0]
    assert np.ptp(absent) == 0.0
    assert absent[0] < weights[counts > 0].min()


def test_undeclared_gradients_raise():
    problem = make_problem()
    with pytest.raises(UndeclaredSignalError, match="DomainGradients"):
        started(problem).update(observe(problem), LAB)


def test_needs_follow_the_config():
    needs = RnB(RnB.Config(rounds=7, layers=0, estimator="exact", debias=True)).needs()
    assert needs.rounds == 7
    assert needs.signals == (DomainGradients(layers=0, estimator="exact", self_products=True),)
    assert RnB().needs().signals == (DomainGradients(layers=1, estimator="sketch", self_products=False),)


def test_ema_averages_with_the_mixture_in_force():
    problem = make_problem(target=P)
    mixer = started(problem, ema=0.75)
    new = balance(GRAM, P, 3.0)
    first = answer(mixer, problem, GramGradients(GRAM), 0).weights
    np.testing.assert_allclose(first, 0.25 * new + 0.75 / 3)
    assert answer(mixer, problem, GramGradients(0 * GRAM), 1) is None
    np.testing.assert_allclose(answer(mixer, problem, GramGradients(GRAM), 2).weights, 0.25 * new + 0.75 * first)


def test_floor_holds_and_must_be_possible():
    problem = make_problem(target=P)
    weights = answer(started(problem, floor=0.1, lam=50.0), problem, GramGradients(GRAM)).weights
    assert weights.min() == pytest.approx(0.1)
    with pytest.raises(MixerError, match="floor"):
        started(problem, floor=0.4)


def test_debias_removes_the_noise_from_the_diagonal():
    problem = make_problem(target=P)
    vectors = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    noisy = FakeGradients(vectors, noise=(0.0, 0.0, 9.0))
    clean = balance(vectors @ vectors.T, P, 3.0)
    np.testing.assert_allclose(answer(started(problem, debias=True), problem, noisy).weights, clean)
    assert answer(started(problem), problem, noisy).weights[2] > clean[2]


def test_sqrt_m_makes_lam_the_logit_where_all_agree():
    problem = make_problem(target=P)
    weights = answer(started(problem, sqrt_m=True), problem, GramGradients(GRAM)).weights
    np.testing.assert_allclose(weights, balance(GRAM, P, 3.0 * math.sqrt(3)))


def test_cosine_looks_at_directions_only():
    problem = make_problem(target=P)
    vectors = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    lengths = np.array([[1.0], [100.0], [0.01]])
    stretched = answer(started(problem, cosine=True), problem, FakeGradients(lengths * vectors)).weights
    np.testing.assert_allclose(stretched, balance(vectors @ vectors.T, P, 3.0))
    absent = answer(started(problem, cosine=True), problem, FakeGradients(vectors, counts=(1, 0, 1))).weights
    assert np.all(np.isfinite(absent))


@pytest.mark.parametrize("config", [{}, {"ema": 0.5}, {"ema": 0.9, "floor": 0.05}])
def test_a_resumed_mixer_goes_on_as_if_nothing_had_happened(config):
    problem = make_problem(target=P)
    rng = np.random.default_rng(1)
    views = [FakeGradients(rng.normal(size=(3, 5)), counts) for counts in [(1, 2, 0), (1, 1, 1), (0, 2, 2), (0, 0, 0)]]
    whole, half = started(problem, **config), started(problem, **config)
    for round in range(2):
        answer(whole, problem, views[round], round)
        answer(half, problem, views[round], round)
    state = json.loads(json.dumps(half.state_dict()))
    resumed = started(problem, **config)
    resumed.load_state_dict(state)
    for round in range(2, 4):
        a, b = (answer(mixer, problem, views[round], round) for mixer in (whole, resumed))
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            np.testing.assert_array_equal(a.weights, b.weights)
    assert whole.state_dict() == resumed.state_dict()
    assert whole.report() == resumed.report()


def test_state_is_a_snapshot():
    problem = make_problem(target=P)
    mixer = started(problem)
    before = mixer.state_dict()
    answer(mixer, problem, FakeGradients(np.eye(3), (0, 0, 0)))
    assert before == {"absent": {}, "skipped": []}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("lam", -1.0),
        ("lam", math.inf),
        ("rounds", 0),
        ("layers", -1),
        ("estimator", "guess"),
        ("ema", 1.0),
        ("floor", -0.1),
    ],
)
def test_a_senseless_setting_is_named(field, value):
    with pytest.raises(MixerError, match=f"rnb: {field}"):
        RnB.Config(**{field: value})


def test_published_overhead_reproduces_the_papers_figure():
    # Sup-NatInst: 30 domains, 10 rounds, 2000 × 16 × 512 tokens, 98.7 % of the parameters tracked: 0.00903 %
    problem = make_problem(train=np.full(30, 1 / 30), target=np.full(30, 1 / 30))
    overhead = RnB().published_overhead(problem, train_units=2000 * 16 * 512, tracked_fraction=0.987)
    assert 100 * overhead == pytest.approx(0.00903, rel=1e-3)
