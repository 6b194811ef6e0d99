"""Source utility in worlds where each source's curve of loss against cost is known."""

from __future__ import annotations

import json

import numpy as np
import pytest
from mixer_fakes import frozen, make_problem

from mixers.base import Checkpoint, MixerError, RunResult
from mixers.source_utility import SourceUtility

TRAIN, EXAMPLES = np.array([0.4, 0.3, 0.2, 0.1]), np.array([4000, 3000, 2000, 1000])
NAMES, TARGETS, TARGET = "abcd", ("x", "y"), np.array([0.25, 0.75])
# E, B, b of the target loss, of the replay and of each source. d is better than c in the end, and c before.
REPLAY = (2.0, 4.0, 0.5)
CURVES = {"a": (2.0, 4.0, 0.5), "b": (2.05, 4.0, 0.5), "c": (1.95, 2.0, 0.5), "d": (1.7, 8.0, 0.5)}
BUDGET = {"steps": 1000, "batch_size": 4}


def world(order=(0, 1, 2, 3), names=NAMES, **changes):
    order = list(order)
    return make_problem(
        train=TRAIN[order],
        target=TARGET,
        examples=EXAMPLES[order],
        domains=[names[i] for i in order],
        targets=TARGETS,
        **{**BUDGET, **changes},
    )


class Annealer:
    """Sells annealing runs whose losses follow the curve of the domain that has more than its share."""

    def __init__(self, problem, names=NAMES, *, share=0.3, noise=0.0, scale=1.0, diverged=()):
        self.problem, self.names, self.share, self.noise, self.scale = problem, names, share, noise, scale
        self.diverged, self.orders = diverged, []

    def source(self, run):
        extra = run.mixture.weights - (1.0 - self.share) * self.problem.train_shares
        if np.allclose(extra, self.share * self.problem.train_shares):
            return "replay"
        (where,) = np.flatnonzero(extra > 0.5 * self.share)
        return NAMES[self.names.index(self.problem.domains[where])]

    def train(self, runs):
        self.orders.append(list(runs))
        found = []
        for run in runs:
            if run.keep:
                found.append(RunResult(steps=(run.steps,), losses=frozen([[3.0, 3.0]]), checkpoint=Checkpoint(key="k")))
                continue
            assert run.start == Checkpoint(key="k")
            assert run.seed == 1
            source = self.source(run)
            e, b, power = REPLAY if source == "replay" else CURVES[source]
            loss = e + b * (run.steps * self.problem.batch_size) ** -power
            rng = np.random.default_rng([run.steps, *source.encode()])
            loss += self.noise * rng.normal()
            both = np.array([loss + 3.0, loss - 1.0])  # 0.25 and 0.75 of them are the loss
            losses = self.scale * (np.full(2, np.nan) if source in self.diverged else both)
            found.append(RunResult(steps=(run.steps,), losses=frozen([losses])))
        return found


def start(problem, lab=None, **fields):
    mixer = SourceUtility(SourceUtility.Config(**fields))
    return mixer.start(problem, Annealer(problem) if lab is None else lab).weights, mixer


def gains(at=4000.0):
    def loss(curve):
        return curve[0] + curve[1] * at ** -curve[2]

    return np.array([loss(REPLAY) - loss(CURVES[name]) for name in NAMES])


def test_the_mixture_is_a_tilt_by_the_gains_at_the_main_run_s_cost():
    weights, mixer = start(world(), temperature=0.5)
    expected = TRAIN * np.exp(gains() / (0.3 * 0.5))
    np.testing.assert_allclose(weights, expected / expected.sum(), rtol=1e-4)
    report = mixer.report()
    found = [report["sources"][name]["gain"] for name in NAMES]
    np.testing.assert_allclose(found, gains(), atol=1e-5)
    np.testing.assert_allclose(report["replay"]["predicted"], 2.0 + 4.0 / np.sqrt(4000.0), rtol=1e-6)
    json.dumps(report, allow_nan=False)


def test_gains_alone_may_share():
    weights, _ = start(world(), rule="gain")
    positive = np.maximum(gains(), 0.0)
    np.testing.assert_allclose(weights, positive / positive.sum(), atol=1e-4)


def test_ranks_change_with_the_budget_and_the_crossing_is_found():
    report = start(world())[1].report()
    # c: 1.95 + 2 x, d: 1.7 + 8 x, so x = 0.25 / 6 and the cost 576.
    sources = report["sources"]
    assert [sources[name]["rank_at_first"] for name in "cd"] == [1, 4], "d is the last at 100 examples"
    assert [sources[name]["rank"] for name in "cd"] == [2, 1]
    pair = next(p for p in report["crossings"] if {p["ahead_at_last"], p["behind"]} == {"c", "d"})
    assert pair["ahead_at_last"] == "d"
    np.testing.assert_allclose(pair["costs"], [576.0], rtol=1e-3)
    assert pair["in_bootstrap"] == 1.0
    early = start(world(), budget=0.05)[0]
    late = start(world())[0]
    assert early[2] > TRAIN[2]
    assert early[3] < TRAIN[3] < late[3]


def test_a_dear_source_is_read_at_fewer_examples():
    costs = {"d": 10.0}
    _, mixer = start(world(), costs=costs)
    about = mixer.report()["sources"]["d"]
    np.testing.assert_allclose(about["costs"], 4.0 * (1.0 + 0.3 * 10.0) * np.array([25, 50, 100, 200]))
    # At a cost of 4000 there are 1000 examples of training.
    np.testing.assert_allclose(about["predicted"], 1.7 + 8.0 / np.sqrt(1000.0), rtol=1e-5)
    assert start(world(), costs=costs)[0][3] < start(world())[0][3]


def test_what_is_declared_is_bought():
    problem = world()
    lab = Annealer(problem)
    _, mixer = start(problem, lab)
    declared = mixer.purchases(problem).runs
    bought = [run for call in lab.orders for run in call]
    assert [len(call) for call in lab.orders] == [1, 20]
    assert len(declared) == len(bought) == 21
    for a, b in zip(declared, bought, strict=True):
        assert (a.steps, a.size, a.keep, a.seed) == (b.steps, b.size, b.keep, b.seed)
        np.testing.assert_array_equal(a.mixture.weights, b.mixture.weights)
    assert declared[0].steps == 200
    assert [run.steps for run in declared[1:5]] == [25, 50, 100, 200]


def test_order_and_names_do_not_matter():
    order = [2, 0, 3, 1]
    weights, mixer = start(world(), Annealer(world(), noise=0.02))
    moved, other = start(world(order), Annealer(world(order), noise=0.02))
    np.testing.assert_allclose(moved, weights[order], rtol=1e-6)
    assert other.report()["sources"]["d"]["gain_interval"] == pytest.approx(
        mixer.report()["sources"]["d"]["gain_interval"], rel=1e-5
    )
    renamed, _ = start(world(names="zxba"), Annealer(world(names="zxba"), "zxba", noise=0.02))
    np.testing.assert_allclose(renamed, weights, rtol=1e-6)


def test_losses_times_a_constant_act_as_a_temperature_over_it():
    times, _ = start(world(), Annealer(world(), scale=4.0), temperature=0.4)
    np.testing.assert_allclose(times, start(world(), temperature=0.1)[0], rtol=1e-6)


def test_a_source_that_diverged_has_no_gain_and_a_replay_that_did_is_an_error():
    weights, mixer = start(world(), Annealer(world(), diverged=("d",)))
    expected = TRAIN * np.exp(gains() * [1, 1, 1, 0] / 0.03)
    np.testing.assert_allclose(weights, expected / expected.sum(), rtol=1e-3)
    about = mixer.report()["sources"]["d"]
    assert (about["curve"], about["gain"], about["rank"], about["leads"]) == (None, None, None, 0.0)
    json.dumps(mixer.report(), allow_nan=False)
    with pytest.raises(MixerError, match="fewer than 4 of the replay runs have finite losses"):
        start(world(), Annealer(world(), diverged=("replay",)))


def test_absent_domains_and_single_ones():
    absent = make_problem(train=(0.6, 0.4, 0.0), target=TARGET, examples=(600, 400, 0), targets=TARGETS, **BUDGET)
    mixer = SourceUtility()
    assert len(mixer.purchases(absent).runs) == 1 + 3 * 4
    assert all(run.mixture.weights[2] == 0.0 for run in mixer.purchases(absent).runs)
    for train in ((1.0,), (1.0, 0.0)):
        single = make_problem(train=train, target=TARGET, targets=TARGETS)
        assert mixer.purchases(single).runs == ()
        np.testing.assert_array_equal(mixer.start(single, object()).weights, train)


def test_runs_of_a_short_main_run_differ_in_length():
    runs = SourceUtility().purchases(world(steps=10)).runs
    assert [run.steps for run in runs[1:5]] == [1, 2, 3, 4]


def test_caps_on_repetition_hold():
    weights, _ = start(world(), max_epochs=1.0)
    assert np.all(weights <= EXAMPLES / 4000.0 + 1e-9)
    assert weights[3] == pytest.approx(0.25)
    assert start(world())[0][3] > 0.5


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"share": 0.0}, r"share must be in \(0, 1\], not 0.0"),
        ({"budgets": 3}, "budgets must be at least 4, one more than a curve's numbers, not 3"),
        ({"smallest": 0.5}, "smallest and largest must be 0 < smallest < largest <= 1, not 0.5 and 0.2"),
        ({"checkpoint": 2.0}, r"checkpoint must be in \(0, 1\], not 2.0"),
        ({"costs": {"a": -1.0}}, "costs must be finite and at least 0"),
        ({"budget": 0.0}, "budget must be positive and finite, not 0.0"),
        ({"rule": "best"}, "rule is tilt or gain, not best"),
        ({"temperature": 0.0}, "temperature must be positive and finite, not 0.0"),
        ({"max_epochs": 0.0}, "max_epochs must be positive and finite, or none, not 0.0"),
        ({"draws": 0}, "draws must be at least 1, not 0"),
        ({"proxy_size": 0.0}, "proxy_size must be above 0 and finite, not 0.0"),
    ],
)
def test_bad_settings_are_one_line(fields, rule):
    with pytest.raises(MixerError, match=f"^source_utility: {rule}$"):
        SourceUtility.Config(**fields)


def test_unknown_domains_and_targets_are_refused_before_anything_is_bought():
    with pytest.raises(MixerError, match="costs names 'q'; the domains are a, b, c, d"):
        SourceUtility(SourceUtility.Config(costs={"q": 1.0})).start(world(), object())
    with pytest.raises(MixerError, match="there is no target 'q'"):
        SourceUtility(SourceUtility.Config(target="q")).start(world(), object())
