"""DGA: steps by hand in each scaling, the moving average, bases, who is absent, scale, order, state."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mixer_fakes import GradientLab, against_mean, make_problem, observe

from mixers.base import MixerError
from mixers.dga import DGA
from mixers.simplex import softmax, uniform

# Norms 3 and 1, products with (1, 1) 3 and 1, the target's norm sqrt 2.
VECTORS, TARGET = [[3.0, 0.0], [0.0, 1.0]], [1.0, 1.0]
SEEN = against_mean(VECTORS, TARGET)


def problem_of(m=2, **changes):
    return make_problem(train=np.full(m, 1 / m), target=np.full(m, 1 / m), **changes)


def follow(estimates, problem=None, **config):
    """All mixtures in force, [1 + updates, m], and the mixer."""
    problem = problem_of(len(estimates[0].norms)) if problem is None else problem
    mixer, lab = DGA(DGA.Config(**config)), GradientLab(estimates)
    weights = [mixer.start(problem, lab).weights]
    weights += [mixer.update(observe(problem, round=i), lab).weights for i in range(len(estimates))]
    return np.stack(weights), mixer


def logits(weights, other=1):
    return np.log(weights / weights[other])


@pytest.mark.parametrize(
    ("scaling", "alignments"),
    [("raw", [3.0, 1.0]), ("mean_norm", [1.5, 0.5]), ("cosine", [1 / np.sqrt(2), 1 / np.sqrt(2)])],
)
def test_steps_by_hand(scaling, alignments):
    weights, mixer = follow([SEEN, SEEN], scaling=scaling, eta=0.2)
    np.testing.assert_allclose(weights[0], [0.5, 0.5])
    np.testing.assert_allclose(weights[1], softmax(0.2 * np.array(alignments)))
    np.testing.assert_allclose(weights[2], softmax(0.4 * np.array(alignments)), err_msg="from the last weights")
    assert mixer.report() == {"alignment": pytest.approx(dict(zip(("d0", "d1"), alignments, strict=True)))}


def test_a_harmful_domain_shrinks_more_than_an_orthogonal_one():
    weights, _ = follow([against_mean([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], [2.0, 0.0])], eta=0.5)
    np.testing.assert_allclose(weights[1], softmax([1.0, -1.0, 0.0]))


def test_the_moving_average_is_in_force_and_the_weights_go_on_without_it():
    plain, _ = follow([SEEN] * 3, eta=0.5)
    averaged, _ = follow([SEEN] * 3, eta=0.5, beta=0.25)
    expected = uniform(2)
    for i in range(1, 4):
        expected = 0.75 * expected + 0.25 * plain[i]
        np.testing.assert_allclose(averaged[i], expected)


@given(st.floats(0.1, 5.0), st.sampled_from([("raw", 2), ("mean_norm", 1), ("cosine", 0)]))
def test_gradients_times_a_constant(c, how):
    scaling, power = how
    vectors, target = np.array([[1.0, 0.5], [0.2, -1.0]]), np.array([0.4, 0.3])
    once, _ = follow([against_mean(vectors, target)], scaling=scaling, eta=0.3)
    scaled, _ = follow([against_mean(c * vectors, c * target)], scaling=scaling, eta=0.3)
    np.testing.assert_allclose(logits(scaled[1]), c**power * logits(once[1]), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("scaling", ["raw", "mean_norm", "cosine"])
def test_a_domain_without_data_keeps_its_weight(scaling):
    seen = against_mean([*VECTORS, [9.0, 9.0]], [1.0, 0.5], present=[True, True, False])
    weights, mixer = follow([seen], scaling=scaling, eta=0.2)
    assert weights[1, 2] == pytest.approx(1 / 3)
    two, _ = follow([against_mean(VECTORS, [1.0, 0.5])], scaling=scaling, eta=0.2)
    np.testing.assert_allclose(weights[1, :2], two[1] * 2 / 3)
    assert mixer.report()["absent"] == ["d2"]


@pytest.mark.parametrize("scaling", ["raw", "mean_norm", "cosine"])
def test_without_any_data_nothing_moves(scaling):
    nobody = against_mean(VECTORS, TARGET, present=[False, False])
    no_target = against_mean(VECTORS, [0.0, 0.0], target_present=[False, False])
    weights, mixer = follow([SEEN, nobody, no_target], scaling=scaling)
    np.testing.assert_allclose(weights[2], weights[1])
    np.testing.assert_allclose(weights[3], weights[1])
    assert "absent" not in mixer.report()


# Bases: two of them over three domains, with products 4, 1 and 2

THREE = against_mean([[4.0, 0.0], [1.0, 0.0], [2.0, 3.0]], [1.0, 0.0])
BASES = ({"d0": 3.0, "d1": 1.0}, {"d1": 0.5, "d2": 0.5})
COLUMNS = np.array([[0.75, 0.0], [0.25, 0.5], [0.0, 0.5]])


def test_bases_by_hand():
    weights, mixer = follow([THREE, THREE], bases=BASES, eta=0.3)
    np.testing.assert_allclose(weights[0], COLUMNS @ [0.5, 0.5])
    np.testing.assert_allclose(weights[1], COLUMNS @ softmax([0.3 * 3.25, 0.3 * 1.5]))
    np.testing.assert_allclose(weights[2], COLUMNS @ softmax([0.6 * 3.25, 0.6 * 1.5]))
    assert len(mixer.state_dict()["weights"]) == 2


def test_bases_are_found_by_name_and_one_for_each_domain_changes_nothing():
    names = ("d2", "d0", "d1")
    turned = against_mean([[2.0, 3.0], [4.0, 0.0], [1.0, 0.0]], [1.0, 0.0])
    weights, _ = follow([turned], problem_of(3, domains=names), bases=BASES, eta=0.3)
    plain, _ = follow([THREE], bases=BASES, eta=0.3)
    np.testing.assert_allclose(weights, plain[:, [2, 0, 1]])
    single, _ = follow([THREE], bases=({"d0": 1.0}, {"d1": 1.0}, {"d2": 1.0}), eta=0.3)
    without, _ = follow([THREE], eta=0.3)
    np.testing.assert_allclose(single, without)


def test_a_basis_is_judged_by_its_domains_that_have_data():
    part = against_mean([[4.0, 0.0], [9.0, 0.0], [2.0, 3.0]], [1.0, 0.0], present=[True, False, True])
    weights, _ = follow([part], bases=BASES, eta=0.3)
    np.testing.assert_allclose(weights[1], COLUMNS @ softmax([0.3 * 4.0, 0.3 * 2.0]))
    none = against_mean([[4.0, 0.0], [9.0, 0.0], [2.0, 3.0]], [1.0, 0.0], present=[True, False, False])
    weights, _ = follow([none], bases=({"d0": 1.0}, {"d1": 1.0, "d2": 1.0}), eta=0.3)
    np.testing.assert_allclose(weights[1], [0.5, 0.25, 0.25], err_msg="the only one with data keeps its share")


def test_a_basis_of_a_strange_domain_is_refused():
    with pytest.raises(MixerError, match="dga: bases name 'd7', which is no training domain"):
        DGA(DGA.Config(bases=({"d7": 1.0},))).start(problem_of(2), GradientLab([]))


# What is bought, order, many domains, state


def test_purchases_and_rounds_follow_the_config():
    problem = problem_of(steps=100)
    mixer = DGA(DGA.Config(every=30, examples=5, geometry="adam"))
    assert mixer.needs().boundaries(100) == (30, 60, 90, 100)
    bought = mixer.purchases(problem)
    assert (bought.domain_gradients, bought.gradient_examples, bought.gradients_against) == (3, 5, "mean")
    assert DGA(DGA.Config(rounds=4)).purchases(problem).domain_gradients == 3
    lab = GradientLab([SEEN])
    mixer.start(problem, lab)
    mixer.update(observe(problem), lab)
    assert lab.orders == [(5, {"scaling": "adam", "against": "mean"})]


def test_the_order_of_domains_and_more_of_them_than_a_batch_holds():
    rng, m = np.random.default_rng(0), 40
    vectors, target, order = rng.normal(size=(m, 6)), rng.normal(size=6), rng.permutation(m)
    names = [f"d{i}" for i in range(m)]
    plain, _ = follow([against_mean(vectors, target)] * 3, eta=0.1)
    turned = problem_of(m, domains=[names[i] for i in order])
    moved, _ = follow([against_mean(vectors[order], target)] * 3, turned, eta=0.1)
    np.testing.assert_allclose(moved, plain[:, order], rtol=1e-9)
    assert turned.batch_size < m
    assert plain[-1].max() > 2 / m


@pytest.mark.parametrize("config", [{}, {"beta": 0.3, "scaling": "cosine"}, {"bases": BASES, "beta": 0.3}])
def test_a_resumed_mixer_goes_on_as_if_nothing_had_happened(config):
    problem, rng = problem_of(3), np.random.default_rng(1)
    present = ([True, True, True], [True, False, True])
    estimates = [against_mean(rng.normal(size=(3, 4)), rng.normal(size=4), present[i % 2]) for i in range(6)]
    whole, _ = follow(estimates, problem, eta=0.2, **config)
    _, half = follow(estimates[:3], problem, eta=0.2, **config)
    resumed, lab = DGA(half.config), GradientLab(estimates[3:])
    resumed.start(problem, lab)
    resumed.load_state_dict(json.loads(json.dumps(half.state_dict())))
    assert resumed.report() == half.report()
    for i in range(3, 6):
        np.testing.assert_array_equal(resumed.update(observe(problem, round=i), lab).weights, whole[i + 1])


def test_state_goes_by_name():
    problem, turned = problem_of(domains="ab"), problem_of(domains="ba")
    _, mixer = follow([SEEN], problem, eta=0.2, beta=0.5)
    other, lab = DGA(mixer.config), GradientLab([against_mean(VECTORS[::-1], TARGET)])
    other.start(turned, lab)
    other.load_state_dict(mixer.state_dict())
    onward = mixer.update(observe(problem), GradientLab([SEEN])).weights
    np.testing.assert_allclose(other.update(observe(turned), lab).weights, onward[::-1])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("eta", -1.0),
        ("eta", float("nan")),
        ("rounds", 0),
        ("every", 0),
        ("examples", 0),
        ("scaling", "norm"),
        ("geometry", "sgd"),
        ("beta", 0.0),
        ("beta", 1.5),
        ("bases", ({"a": -1.0, "b": 2.0},)),
        ("bases", ({"a": 0.0},)),
        ("bases", ({},)),
    ],
)
def test_a_senseless_setting_is_named(field, value):
    with pytest.raises(MixerError, match=rf"^dga: {field} ") as error:
        DGA.Config(**{field: value})
    assert "\n" not in str(error.value)


def test_bases_have_no_cosine():
    with pytest.raises(MixerError, match="use scaling=mean_norm or raw"):
        DGA.Config(bases=BASES, scaling="cosine")
