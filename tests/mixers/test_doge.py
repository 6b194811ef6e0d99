"""DoGE: steps by hand, the authors' own update on recorded gradients, the proxy's average, scale, state."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mixer_fakes import GradientLab, against_mean, frozen, make_problem, observe

from mixers.base import MixerError, RunResult
from mixers.doge import DoGE, Proxy, stepped
from mixers.simplex import softmax, uniform

ORACLE = json.loads((Path(__file__).parent / "oracles" / "doge.json").read_text())
RATE = 0.01
BARE = DoGE.Config(max_grad_norm=0.0)  # gradients as they are


def problem_of(m, steps=8):
    return make_problem(train=np.full(m, 1 / m), target=np.full(m, 1 / m), steps=steps)


def follow(problem, config, estimates, rates=None, steps=None):
    """A proxy through updates at the ends of its rounds; its mixtures [1 + updates], and itself."""
    made, lab = Proxy(config), GradientLab(estimates)
    mixtures = [made.start(problem, lab)]
    ends = made.needs().boundaries(problem.steps)[: len(estimates)]
    for i, end in enumerate(ends):
        rate = RATE if rates is None else rates[i]
        mixtures.append(made.update(observe(problem, step=end, learning_rate=rate), lab))
    return mixtures, made, lab


def weights_of(made, what="weights"):
    return np.array(list(made.state_dict()[what].values()))


# The update by hand. Norms 3 and 1, mean 2; products with (1, 1): 3 and 1.

VECTORS, TARGET = [[3.0, 0.0], [0.0, 1.0]], [1.0, 1.0]


def test_a_step_by_hand():
    new = stepped(frozen([0.5, 0.5]), against_mean(VECTORS, TARGET), RATE, BARE)
    np.testing.assert_allclose(new, softmax([RATE * 1.5 / 0.05, RATE * 0.5 / 0.05]), rtol=1e-6)
    again = stepped(new, against_mean(VECTORS, TARGET), RATE, BARE)
    np.testing.assert_allclose(again, softmax([0.6, 0.2]), rtol=1e-6, err_msg="it starts from the last weights")


def test_long_gradients_are_cut_before_they_are_multiplied():
    """Cut to 1, both domains have product 1 / sqrt 2 with the target, of length sqrt 2, cut as well."""
    new = stepped(frozen([0.7, 0.3]), against_mean(VECTORS, TARGET), RATE, DoGE.Config(max_grad_norm=1.0))
    np.testing.assert_allclose(new, [0.7, 0.3], rtol=1e-6)
    new = stepped(frozen([0.5, 0.5]), against_mean(VECTORS, [0.5, 0.0]), RATE, DoGE.Config(max_grad_norm=2.0))
    np.testing.assert_allclose(new, softmax([RATE * (2 * 0.5) / 1.5 / 0.05, 0.0]), rtol=1e-6)


@pytest.mark.parametrize(("floor", "logit"), [(0.0, 0.0), (-5.0, -1.5), (-1.2, -1.2)])
def test_a_harmful_domain_counts_as_an_orthogonal_one_unless_the_floor_is_lowered(floor, logit):
    seen = against_mean(VECTORS, [-1.0, 1.0])
    new = stepped(frozen([0.5, 0.5]), seen, RATE, replace(BARE, dw_min=floor))
    np.testing.assert_allclose(new, softmax([RATE * logit / 0.05, RATE * 0.5 / 0.05]), rtol=1e-6)


def test_no_exponent_passes_the_ceiling():
    seen = against_mean(VECTORS, [100.0, 1.0])
    new = stepped(frozen([0.5, 0.5]), seen, RATE, BARE)
    np.testing.assert_allclose(new, softmax([RATE * 5.0 / 0.05, RATE * 0.5 / 0.05]), rtol=1e-6)


def test_smoothing_keeps_a_share_of_uniform():
    new = stepped(frozen([1.0, 0.0]), against_mean(VECTORS, TARGET), RATE, replace(BARE, reweight_eps=0.2))
    np.testing.assert_allclose(new, [0.9, 0.1])


@pytest.mark.parametrize(("absent", "mean"), [("masked", 2.0), ("released", 4 / 3)])
def test_a_domain_without_data_has_score_zero(absent, mean):
    seen = against_mean([*VECTORS, [9.0, 9.0]], TARGET, present=[True, True, False])
    new = stepped(frozen([0.2, 0.2, 0.6]), seen, RATE, replace(BARE, absent=absent))
    logits = np.log([0.2, 0.2, 0.6]) + RATE / 0.05 * np.array([3 / mean, 1 / mean, 0.0])
    np.testing.assert_allclose(new, softmax(logits), rtol=1e-6)


@pytest.mark.parametrize("absent", ["masked", "released"])
def test_without_any_data_nothing_moves(absent):
    for seen in (against_mean(VECTORS, TARGET, present=[False, False]), against_mean(VECTORS, [0.0, 0.0])):
        new = stepped(frozen([0.7, 0.3]), seen, RATE, DoGE.Config(absent=absent))
        np.testing.assert_allclose(new, [0.7, 0.3])


# The authors' code


def settings(case, target_count):
    """The case's arguments; where the code sums n targets' gradients, ours takes their mean and n-th parts."""
    arguments = dict(case["arguments"])
    for name in ("mu", "dw_min", "dw_max"):
        arguments[name] /= target_count
    return DoGE.Config(**arguments, absent="released")


def held_rows(vectors, held):
    """The gradients that the code has at hand: of this batch, or else the last, or zeros."""
    return [last if new is None else np.array(new) for new, last in zip(vectors, held, strict=True)]


@pytest.mark.parametrize("case", ORACLE["cases"], ids=lambda case: f"{case['tape']}, {case['arguments']}")
def test_the_authors_update_agrees(case):
    tape = ORACLE["tapes"][case["tape"]]
    train, targets = tape["train"], tape["targets"]
    rows, estimates = [np.zeros(6)] * len(tape["vectors"][0]), []
    for vectors in tape["vectors"]:
        rows = held_rows(vectors, rows)
        present = [bool(np.any(rows[i])) for i in train]
        estimates.append(against_mean([rows[i] for i in train], np.mean([rows[j] for j in targets], axis=0), present))
    problem = problem_of(len(train), steps=len(estimates) + 1)
    mixtures, made, _ = follow(problem, settings(case, len(targets)), estimates, tape["rates"])
    ours = np.stack([mixture.loss_weights / problem.m for mixture in mixtures[1:]])
    np.testing.assert_allclose(ours, case["weights"], rtol=0, atol=1e-6)
    average = (weights_of(made, "sum") - uniform(problem.m)) / len(estimates)  # without our first, uniform step
    np.testing.assert_allclose(average, case["average"], rtol=0, atol=1e-6)
    assert np.abs(average - uniform(problem.m)).max() > 0.01


def test_the_expected_step_is_that_of_the_code():
    """Uniform samples under the loss weights: the mean over domains of weight times gradient."""
    compared = 0
    for case in ORACLE["cases"]:
        tape = ORACLE["tapes"][case["tape"]]
        if case["arguments"]["max_grad_norm"] == 0.0:
            for vectors, weights, step in zip(tape["vectors"], case["weights"], case["step"], strict=True):
                loss_weights = len(weights) * np.array(weights)
                gradients = np.array([vectors[i] for i in tape["train"]])
                np.testing.assert_allclose((loss_weights[:, None] * gradients).mean(axis=0), step, atol=1e-9)
                compared += 1
    assert compared == 28


def test_the_oracle_holds_every_situation():
    tapes = {case["tape"] for case in ORACLE["cases"]}
    assert len(tapes) == len(ORACLE["tapes"]) == 5
    assert ORACLE["tapes"]["targets are the training domains"]["targets"] == [0, 1, 2, 3]
    assert all(vectors[2] is None for vectors in ORACLE["tapes"]["a domain without data"]["vectors"])


# The proxy


def test_the_proxy_samples_uniformly_and_weighs_losses():
    problem = problem_of(2)
    mixtures, _, lab = follow(problem, BARE, [against_mean(VECTORS, TARGET)])
    first, second = mixtures
    assert first.loss_weights is None
    np.testing.assert_allclose(second.weights, [0.5, 0.5])
    np.testing.assert_allclose(second.loss_weights, 2 * softmax([0.3, 0.1]), rtol=1e-6)
    assert lab.orders == [(2, {"against": "mean"})]


@pytest.mark.parametrize(("m", "chosen", "examples"), [(2, 0, 2), (4, 0, 1), (50, 0, 1), (2, 7, 7)])
def test_an_update_takes_what_a_batch_has_of_a_domain(m, chosen, examples):
    problem = problem_of(m)
    assert problem.batch_size == 4
    config = replace(BARE, examples=chosen)
    _, made, lab = follow(problem, config, [against_mean(np.ones((m, 2)), [1.0, 0.0])])
    assert lab.orders == [(examples, {"against": "mean"})]
    assert made.purchases(problem).gradient_examples == examples


def test_the_average_counts_each_weighting_for_as_long_as_it_is_in_force():
    """Eight steps in rounds of three: three uniform steps, three after the first update, two after the second."""
    problem, config = problem_of(2), replace(BARE, every=3)
    _, made, _ = follow(problem, config, [against_mean(VECTORS, TARGET)] * 2)
    expected = 3 * uniform(2) + 3 * softmax([0.3, 0.1]) + 2 * softmax([0.6, 0.2])
    np.testing.assert_allclose(weights_of(made, "sum"), expected, rtol=1e-6)
    bought = made.purchases(problem)
    assert (bought.domain_gradients, bought.gradient_examples, bought.gradients_against) == (2, 2, "mean")
    _, single, _ = follow(problem_of(2, steps=1), BARE, [])
    np.testing.assert_allclose(weights_of(single, "sum"), [0.5, 0.5])


def test_the_learning_rate_is_that_of_the_observation():
    _, fast, _ = follow(problem_of(2), BARE, [against_mean(VECTORS, TARGET)] * 2, rates=[0.02, 0.0])
    _, strong, _ = follow(problem_of(2), replace(BARE, mu=0.025), [against_mean(VECTORS, TARGET)], rates=[0.01])
    np.testing.assert_allclose(weights_of(fast), weights_of(strong), rtol=1e-12)


@given(st.floats(0.01, 1.6))
def test_gradients_times_a_constant_act_as_the_exponent_times_it(c):
    """Below the bounds: at 1.6 the largest score is 4.8 of at most 5 learning rates."""
    vectors, target = c * np.array(VECTORS), c * np.array([2.0, 0.5])
    weights = stepped(frozen([0.6, 0.4]), against_mean(vectors, target), RATE, BARE)
    once = stepped(frozen([0.6, 0.4]), against_mean(VECTORS, [2.0, 0.5]), RATE, BARE)
    exponent, expected = (np.log(p[0] / p[1]) - np.log(0.6 / 0.4) for p in (weights, once))
    assert exponent == pytest.approx(c * expected, rel=1e-3, abs=1e-9)


def test_where_gradients_are_cut_their_length_does_not_matter():
    cut = DoGE.Config(max_grad_norm=0.5)
    one, hundred = (
        stepped(frozen([0.6, 0.4]), against_mean(c * np.array(VECTORS), c * np.array([2.0, 0.5])), RATE, cut)
        for c in (1.0, 100.0)
    )
    np.testing.assert_allclose(one, hundred, rtol=1e-6)
    assert abs(one[0] - 0.6) > 1e-3


def test_the_order_of_domains_and_more_of_them_than_a_batch_holds():
    rng = np.random.default_rng(0)
    vectors, target, order = rng.normal(size=(50, 6)), rng.normal(size=6), rng.permutation(50)
    problem = problem_of(50)
    turned = make_problem(train=np.full(50, 0.02), target=np.full(50, 0.02), domains=[f"d{i}" for i in order])
    _, plain, _ = follow(problem, BARE, [against_mean(vectors, target)] * 3)
    _, moved, _ = follow(replace(turned, steps=8), BARE, [against_mean(vectors[order], target)] * 3)
    for what in ("weights", "sum"):
        theirs = moved.state_dict()[what]
        assert plain.state_dict()[what] == {name: pytest.approx(theirs[name]) for name in problem.domains}
    assert weights_of(plain).max() > 1.2 / 50
    assert problem.batch_size < problem.m


def test_a_proxy_goes_on_from_its_state():
    problem, rng = problem_of(3), np.random.default_rng(1)
    estimates = [against_mean(rng.normal(size=(3, 4)), rng.normal(size=4)) for _ in range(6)]
    whole, _, _ = follow(problem, BARE, estimates)
    _, half, _ = follow(problem, BARE, estimates[:3])
    resumed, lab = Proxy(BARE), GradientLab(estimates[3:])
    resumed.start(problem, lab)
    resumed.load_state_dict(json.loads(json.dumps(half.state_dict())))
    for step in range(4, 7):
        mixture = resumed.update(observe(problem, step=step, learning_rate=RATE), lab)
        np.testing.assert_array_equal(mixture.loss_weights, whole[step].loss_weights)


# The main run


class ProxyLab:
    """Sells proxies whose state is given."""

    def __init__(self, state):
        self.state, self.orders = state, []

    def train(self, runs):
        self.orders += runs
        return [RunResult(steps=(run.steps,), losses=frozen([[1.0]]), state=self.state) for run in runs]


def test_the_main_run_samples_by_the_average_of_the_proxy_by_name():
    problem = make_problem(train=(0.5, 0.3, 0.2), domains="abc")
    lab = ProxyLab({"weights": {"a": 0.1, "b": 0.2, "c": 0.7}, "sum": {"c": 5.0, "a": 14.0, "b": 6.0}})
    mixer = DoGE(DoGE.Config(proxy_share=0.25, proxy_size=0.5, mu=0.02))
    mixture = mixer.start(problem, lab)
    np.testing.assert_allclose(mixture.weights, [0.56, 0.24, 0.2])
    assert mixture.loss_weights is None
    (order,) = lab.orders
    assert (order.steps, order.size, order.mixer.config) == (25, 0.5, mixer.config)
    assert isinstance(order.mixer, Proxy)
    assert [(run.steps, run.size) for run in mixer.purchases(problem).runs] == [(25, 0.5)]
    assert mixer.report() == {"last_weights": {"a": 0.1, "b": 0.2, "c": 0.7}}
    assert mixer.needs().boundaries(100) == (100,)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mu", 0.0),
        ("dw_min", 0.1),
        ("dw_max", 0.0),
        ("dw_max", float("inf")),
        ("reweight_eps", 1.5),
        ("max_grad_norm", -1.0),
        ("absent", "stale"),
        ("every", 0),
        ("examples", -1),
        ("proxy_share", 0.0),
        ("proxy_size", 0.0),
    ],
)
def test_a_senseless_setting_is_named(field, value):
    with pytest.raises(MixerError, match=rf"^doge: {field} ") as error:
        DoGE.Config(**{field: value})
    assert "\n" not in str(error.value)
