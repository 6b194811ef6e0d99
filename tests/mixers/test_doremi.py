"""DoReMi: hand-computed steps of the proxy, the official trainer's tape, the loss weights, the average, rounds."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from mixer_fakes import frozen, make_problem

from mixers.base import BatchLosses, Checkpoint, MixerError, RunResult
from mixers.doremi import DoReMi, Proxy, ProxyConfig

ORACLE = json.loads((Path(__file__).parent / "oracles" / "doremi.json").read_text())
PROBLEM = make_problem(train=(0.5, 0.3, 0.2))


def batch(labels, losses, reference, mask=None, domains=PROBLEM.domains):
    losses = np.array(losses, dtype=np.float64)
    mask = np.ones_like(losses, dtype=bool) if mask is None else np.array(mask, dtype=bool)
    reference = np.array(reference, dtype=np.float64)
    return BatchLosses(domains=domains, labels=np.array(labels), losses=losses, mask=mask, reference=reference, step=0)


ONE = batch([0, 0, 1], [[2.0, 1.0], [3.0, 1.0], [1.0, 1.0]], [[1.0, 2.0], [1.0, 1.0], [0.5, 2.0]])


def proxy(**fields):
    made = Proxy(ProxyConfig(**{"smoothing": 0.0, **fields}))
    made.start(PROBLEM, None)
    return made


def test_a_step_by_hand():
    """Clipped per token: domain 0 has (1 + 0 + 2 + 0) / 4, where clipping its mean 0.5 would give 0.5; 1 has 0.25."""
    made = proxy(smoothing=0.1)
    given = made.reweigh(ONE)
    raw = np.exp([0.75, 0.25, 0.0]) / 3
    alpha = 0.9 * raw / raw.sum() + 0.1 / 3
    np.testing.assert_allclose(made.state_dict()["weights"], alpha)
    np.testing.assert_allclose(given, [alpha[0] * 3 / 2, alpha[1] * 3 / 1, 0.0], err_msg="the new alpha, per domain")


def test_the_weighted_loss_is_the_sum_of_alpha_times_domain_means():
    made = proxy()
    given = made.reweigh(ONE)
    per_example = ONE.losses.mean(1)
    alpha = made.state_dict()["weights"]
    assert np.mean(given[ONE.labels] * per_example) == pytest.approx(alpha[0] * 1.75 + alpha[1] * 1.0)


def test_the_released_normaliser_divides_by_the_weighted_count():
    made = proxy(normaliser="released")
    given = made.reweigh(ONE)
    alpha = np.array(made.state_dict()["weights"])
    loss = np.mean(given[ONE.labels] * ONE.losses.mean(1))
    expected = (alpha[0] * (1.5 + 2.0) + alpha[1] * 1.0) / (2 * alpha[0] + alpha[1])
    assert loss == pytest.approx(expected)


def test_masked_tokens_do_not_count():
    made = proxy()
    made.reweigh(batch([0], [[2.0, 9.0]], [[1.0, 0.0]], mask=[[1, 0]]))
    assert made.state_dict()["excess"] == [1.0, 0.0, 0.0]


def test_an_absent_domain_keeps_its_last_excess():
    made = proxy()
    made.reweigh(ONE)
    made.reweigh(batch([2], [[2.0]], [[0.0]]))
    assert made.state_dict()["excess"] == [0.75, 0.25, 2.0]


def test_without_excess_alpha_drifts_to_uniform_at_the_rate_of_the_smoothing():
    made = proxy(smoothing=0.2)
    made.load_state_dict({"weights": [0.8, 0.1, 0.1], "excess": [0, 0, 0], "sum": [0, 0, 0], "count": 0})
    made.reweigh(batch([0, 1, 2], [[1.0]] * 3, [[2.0]] * 3))
    np.testing.assert_allclose(made.state_dict()["weights"], 0.8 * np.array([0.8, 0.1, 0.1]) + 0.2 / 3)


def replay(case, excess, normaliser="released"):
    """The proxy on an official tape, from ``excess`` on: its states, its loss weights and the batches."""
    tape, arguments = ORACLE["tapes"][case["tape"]], case["arguments"]
    m = tape["m"]
    problem = make_problem(train=np.full(m, 1 / m), target=np.full(m, 1 / m))
    made = Proxy(
        ProxyConfig(
            step_size=arguments["reweight_eta"],
            smoothing=arguments["reweight_eps"],
            normaliser=normaliser,
            reference="r",
        )
    )
    made.start(problem, None)
    made.load_state_dict(made.state_dict() | {"excess": [excess] * m})
    states, given, batches = [], [], []
    for labels, *values, mask in zip(tape["labels"], tape["losses"], tape["reference"], tape["mask"], strict=True):
        batches.append(batch(labels, *values, mask=mask, domains=problem.domains))
        given.append(made.reweigh(batches[-1]))
        states.append(made.state_dict())
    return states, given, batches


@pytest.mark.parametrize("case", ORACLE["cases"], ids=lambda case: f"{case['tape']}, {case['arguments']}")
def test_the_official_trainer_agrees(case):
    """But for two differences, undone here: first scores of ln(vocabulary), and alpha_0 in the average."""
    states, given, batches = replay(case, excess=math.log(case["arguments"]["words"]))
    np.testing.assert_allclose([state["weights"] for state in states], case["weights"], rtol=0, atol=1e-6)
    steps, m = np.shape(case["weights"])
    assert states[-1]["count"] == steps
    with_first = (np.full(m, 1 / m) + states[-1]["sum"]) / (steps + 1)
    np.testing.assert_allclose(with_first, case["average"], rtol=0, atol=1e-6)
    assert np.abs(np.array(states[-1]["sum"]) / steps - case["average"]).max() > 1e-3, "alpha_0 is seen in the average"
    shares = np.array([weights[one.labels] / len(one.labels) for weights, one in zip(given, batches, strict=True)])
    if "several lengths" in case["tape"]:  # we weigh examples, the official trainer tokens
        assert np.abs(shares - case["gradient"]).max() > 1e-2
        return
    np.testing.assert_allclose(shares, case["gradient"], rtol=0, atol=1e-6)
    means = [np.sum(one.losses * one.mask, axis=1) / one.mask.sum(1) for one in batches]
    np.testing.assert_allclose((shares * means).sum(1), case["loss"], rtol=0, atol=1e-5)


def test_the_first_score_matters_only_to_domains_that_the_first_batch_does_not_hold():
    for case in ORACLE["cases"]:
        labels = ORACLE["tapes"][case["tape"]]["labels"][0]
        states, _, _ = replay(case, excess=0.0)
        differ = np.abs(np.array([state["weights"] for state in states]) - case["weights"]).max()
        complete = len(set(labels)) == np.shape(case["weights"])[1]
        assert (differ < 1e-6) == (complete or case["arguments"]["words"] == 1)


def test_the_papers_normaliser_gives_other_loss_weights_from_the_same_alpha():
    case = ORACLE["cases"][0]
    (released, one, _), (paper, other, _) = replay(case, 0.0), replay(case, 0.0, normaliser="domain")
    np.testing.assert_array_equal(released[-1]["weights"], paper[-1]["weights"])
    assert np.abs(np.array(one) - other).max() > 0.1


def test_losses_times_a_constant_act_as_step_size_times_it():
    double = batch(ONE.labels, 2 * ONE.losses, 2 * ONE.reference)
    first, second = proxy(step_size=0.5), proxy(step_size=1.0)
    first.reweigh(double)
    second.reweigh(ONE)
    np.testing.assert_allclose(first.state_dict()["weights"], second.state_dict()["weights"])


def test_the_order_of_domains_and_many_of_them():
    names = tuple(f"d{i}" for i in range(50))
    problem = make_problem(train=np.full(50, 0.02), target=np.full(50, 0.02), domains=names)
    order = np.random.default_rng(0).permutation(50)
    shuffled = make_problem(train=np.full(50, 0.02), target=np.full(50, 0.02), domains=[names[i] for i in order])
    plain, moved = Proxy(ProxyConfig()), Proxy(ProxyConfig())
    plain.start(problem, None)
    moved.start(shuffled, None)
    labels = np.array([3, 3, 41, 7])
    losses, reference = [[2.0], [1.0], [4.0], [1.5]], [[1.0]] * 4
    plain.reweigh(batch(labels, losses, reference, domains=problem.domains))
    places = np.array([np.flatnonzero(order == label)[0] for label in labels])
    moved.reweigh(batch(places, losses, reference, domains=shuffled.domains))
    np.testing.assert_allclose(np.array(plain.state_dict()["weights"])[order], moved.state_dict()["weights"])


def test_a_proxy_goes_on_from_its_state():
    whole, first, second = proxy(), proxy(), proxy()
    for made in (whole, first):
        made.reweigh(ONE)
    second.load_state_dict(first.state_dict())
    np.testing.assert_array_equal(second.reweigh(ONE), whole.reweigh(ONE))
    assert second.state_dict() == whole.state_dict()


class ProxyLab:
    """Sells references, and proxies whose averages are given."""

    def __init__(self, averages):
        self.averages = list(averages)
        self.orders = []

    def train(self, runs):
        self.orders += runs
        (run,) = runs
        state = {} if run.mixer is None else {"sum": (10 * np.array(self.averages.pop(0))).tolist(), "count": 10}
        kept = Checkpoint(key=f"model-{len(self.orders)}") if run.keep else None
        return [RunResult(steps=(run.steps,), losses=frozen([[1.0] * 3]), state=state, checkpoint=kept)]


def test_the_main_run_samples_by_the_average():
    lab = ProxyLab([[0.7, 0.2, 0.1]])
    mixture = DoReMi(DoReMi.Config(proxy_share=0.25)).start(PROBLEM, lab)
    np.testing.assert_allclose(mixture.weights, [0.7, 0.2, 0.1])
    assert mixture.loss_weights is None
    reference, driven = lab.orders
    np.testing.assert_allclose(reference.mixture.weights, PROBLEM.train_shares)
    assert (reference.steps, driven.steps) == (25, 25)
    assert driven.mixer.config.reference == "model-1"


def test_rounds_start_from_the_average_and_stop_when_it_stays():
    lab = ProxyLab([[0.7, 0.2, 0.1], [0.6, 0.2, 0.2], [0.6, 0.2, 0.2]])
    mixer = DoReMi(DoReMi.Config(rounds=5, reference="uniform"))
    np.testing.assert_allclose(mixer.start(PROBLEM, lab).weights, [0.6, 0.2, 0.2])
    references = [order.mixture.weights.tolist() for order in lab.orders if order.mixture is not None]
    np.testing.assert_allclose(references, [[1 / 3] * 3, [0.7, 0.2, 0.1], [0.6, 0.2, 0.2]])
    assert len(mixer.report()["rounds"]) == 3
    assert len(mixer.purchases(PROBLEM).runs) == 10, "what it may buy at most"


@pytest.mark.parametrize("fields", [{"step_size": -1.0}, {"smoothing": 2.0}, {"rounds": 0}, {"proxy_share": 0.0}])
def test_bad_settings_are_one_line(fields):
    with pytest.raises(MixerError, match=r"^doremi: "):
        DoReMi.Config(**fields)
