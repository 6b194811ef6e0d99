"""Skill-It: hand-computed graphs and mixtures, the official trainer, window and lag, scale, state."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from mixer_fakes import frozen, make_problem, observe

from mixers.base import MixerError, RunResult
from mixers.simplex import softmax
from mixers.skill_it import SkillIt


class GraphLab:
    """Sells runs whose final losses are given by their mixture, and validation losses from a list."""

    def __init__(self, finals, before, losses):
        self.finals, self.before, self.losses = finals, np.array(before), list(losses)
        self.orders = []

    def train(self, runs):
        self.orders += runs
        return [
            RunResult(steps=(0, run.steps), losses=frozen([self.before, self.finals[tuple(run.mixture.weights)]]))
            for run in runs
        ]

    def validation_losses(self, examples=0):
        self.examples = examples
        return np.array(self.losses.pop(0))


SINGLE = {(1.0, 0.0): [1.0, 2.5], (0.0, 1.0): [3.2, 1.0]}  # before: 3 and 2
PAIR = {**SINGLE, (0.5, 0.5): [1.4, 0.6]}
PROBLEM = make_problem(train=(0.6, 0.4), target=(0.5, 0.5))


def play(mixer, lab, updates=3, problem=PROBLEM):
    mixtures = [mixer.start(problem, lab).weights]
    for round in range(updates):
        mixtures.append(mixer.update(observe(problem, round=round), lab).weights)
    return np.stack(mixtures)


def config(**fields):
    return SkillIt.Config(**{"eta": 0.5, **fields})


def test_the_graph_of_single_domains_by_hand():
    lab = GraphLab(SINGLE, [3.0, 2.0], [[3.0, 2.0]])
    mixer = SkillIt(config())
    first = mixer.start(PROBLEM, lab).weights
    assert mixer.report()["graph"] == [[2.0, 0.0], [0.0, 1.0]], "harm (2 to 2.5, 3 to 3.2) counts as no help"
    np.testing.assert_allclose(first, softmax([0.5 * 2, 0.5 * 1]))
    assert [run.steps for run in lab.orders] == [10, 10], "a tenth of 100 steps"
    assert lab.examples == 100


def test_relative_drops_by_hand():
    mixer = SkillIt(config(graph="relative"))
    mixer.start(PROBLEM, GraphLab(SINGLE, [3.0, 2.0], [[3.0, 2.0]]))
    np.testing.assert_allclose(mixer.report()["graph"], [[2 / 3, 0], [0, 0.5]], atol=1e-6)


def test_pairs_by_hand():
    lab = GraphLab(PAIR, [3.0, 2.0], [[3.0, 2.0]])
    mixer = SkillIt(config(graph="pairwise"))
    mixer.start(PROBLEM, lab)
    # Together loss 0 falls by 1.6 (alone 2: no help), loss 1 by 1.4 (alone 1: 0 helps 1 by 0.4).
    np.testing.assert_allclose(mixer.report()["graph"], [[2.0, 0.4], [0.0, 1.0]], atol=1e-9)
    assert len(lab.orders) == 3
    far = make_problem(train=(0.6, 0.4), target=(0.5, 0.5), targets=("x", "y"))
    with pytest.raises(MixerError, match="graph=pairwise needs targets that are the training domains; use graph=drop"):
        SkillIt(config(graph="pairwise")).start(far, lab)


def test_the_window_lags_by_a_round():
    losses = [[3.0, 2.0], [2.5, 1.9], [2.0, 1.8], [1.5, 1.7]]
    weights = play(SkillIt(config(window=2)), GraphLab(SINGLE, [3.0, 2.0], losses))
    np.testing.assert_allclose(weights[1], softmax(0.5 * np.array([2 * 3.0, 1 * 2.0])))
    np.testing.assert_allclose(weights[2], softmax(0.5 * np.array([2 * 5.5, 3.9])), err_msg="a sum, not a mean")
    np.testing.assert_allclose(weights[3], softmax(0.5 * np.array([2 * 4.5, 3.7])), err_msg="the window moved on")


def test_without_lag_it_sees_what_the_round_did():
    losses = [[3.0, 2.0], [2.5, 1.9], [2.0, 1.8], [1.5, 1.7]]
    weights = play(SkillIt(config(window=1, lag=False)), GraphLab(SINGLE, [3.0, 2.0], losses))
    np.testing.assert_allclose(weights[1], softmax(0.5 * np.array([2 * 2.5, 1.9])))


def test_losses_times_a_constant_act_as_eta_times_its_square():
    def scaled(c, eta):
        finals = {key: [c * x for x in value] for key, value in SINGLE.items()}
        losses = [[c * 3.0, c * 2.0], [c * 2.5, c * 1.9]]
        return play(SkillIt(config(eta=eta)), GraphLab(finals, [c * 3.0, c * 2.0], losses), updates=1)[1]

    np.testing.assert_allclose(scaled(2.0, 0.1), scaled(1.0, 0.4))


def test_with_an_empty_graph_it_is_uniform():
    finals = {key: [9.0, 9.0] for key in SINGLE}
    weights = play(SkillIt(config()), GraphLab(finals, [3.0, 2.0], [[3.0, 2.0], [2.0, 1.0]]), updates=1)
    np.testing.assert_allclose(weights, 0.5)


def test_it_goes_on_from_its_state():
    losses = [[3.0, 2.0], [2.5, 1.9], [2.0, 1.8], [1.5, 1.7]]
    mixer = SkillIt(config())
    whole = play(mixer, GraphLab(SINGLE, [3.0, 2.0], losses))
    first = SkillIt(config())
    play(first, GraphLab(SINGLE, [3.0, 2.0], losses), updates=2)
    second = SkillIt(config())
    second.start(PROBLEM, GraphLab(SINGLE, [3.0, 2.0], losses))
    second.load_state_dict(first.state_dict())
    answer = second.update(observe(PROBLEM, round=2), GraphLab(SINGLE, [3.0, 2.0], losses[3:]))
    np.testing.assert_array_equal(answer.weights, whole[3])


@pytest.mark.parametrize("fields", [{"eta": -1.0}, {"rounds": 0}, {"graph_share": 0.0}, {"graph_size": 0.0}])
def test_bad_settings_are_one_line(fields):
    with pytest.raises(MixerError, match=r"^skill_it: "):
        SkillIt.Config(**fields)


ORACLE = json.loads((Path(__file__).parent / "oracles" / "skill_it.json").read_text())["cases"]
official = pytest.mark.parametrize("case", ORACLE, ids=lambda case: case["name"])


def recorded(case, losses, lag):
    """Our mixtures of a recorded graph, which the lab's runs are made to show, and evaluations in this order."""
    graph = np.array(case["graph"])
    m, n = graph.shape
    problem = make_problem(
        train=np.full(m, 1 / m),
        target=np.full(n, 1 / n),
        domains=[f"domain {i}" for i in range(m)],
        targets=[f"target {j}" for j in range(n)],
    )
    finals = {tuple(np.eye(m)[i]): 5.0 - graph[i] for i in range(m)}
    lab = GraphLab(finals, np.full(n, 5.0), losses)
    mixer = SkillIt(SkillIt.Config(eta=case["eta"], window=case["window"], lag=lag))
    return play(mixer, lab, updates=len(case["expected"]) - 1, problem=problem)


@official
def test_the_official_trainer_agrees(case):
    if case["per_round"] == 1:
        ours = recorded(case, case["losses"], lag=True)
    else:  # its window of one is then the last evaluation before the update
        last = case["losses"][case["per_round"] - 1 :: case["per_round"]]
        ours = recorded(case, [case["losses"][0], *last], lag=False)
    np.testing.assert_allclose(ours, case["expected"], rtol=0, atol=1e-6)
    assert np.abs(np.diff(ours, axis=0)).max() > 0.003, "the tape moves the mixture"


@pytest.mark.parametrize("case", [case for case in ORACLE if case["per_round"] == 1], ids=lambda case: case["name"])
def test_the_official_trainer_agrees_without_lag_once_the_first_losses_have_left_the_window(case):
    before = np.full(len(case["losses"][0]), 9.0)
    ours = recorded(case, [before, *case["losses"]], lag=False)
    expected, first = np.array(case["expected"]), min(case["window"], len(case["expected"]))
    np.testing.assert_allclose(ours[first:], expected[first:], rtol=0, atol=1e-6)
    assert case["window"] == 1 or np.abs(ours[1] - expected[1]).max() > 1e-3, "before, they are not"


@pytest.mark.parametrize("case", [case for case in ORACLE if case["offline"]], ids=lambda case: case["name"])
def test_the_official_offline_mixture_is_the_first(case):
    np.testing.assert_allclose(recorded(case, case["losses"], lag=True)[0], case["offline"], rtol=0, atol=1e-6)


def test_the_oracle_covers_windows_other_targets_and_a_large_eta():
    shapes = [np.shape(case["graph"]) for case in ORACLE]
    assert {case["window"] for case in ORACLE} >= {1, 3}
    assert any(m != n for m, n in shapes)
    assert max(case["eta"] for case in ORACLE) == 100.0
    assert sum(case["offline"] is not None for case in ORACLE) >= 2
