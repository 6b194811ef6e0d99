"""Skill-It: hand-computed graphs and mixtures, window and lag, scale, state."""

from __future__ import annotations

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


def play(mixer, lab, updates=3):
    mixtures = [mixer.start(PROBLEM, lab).weights]
    for round in range(updates):
        mixtures.append(mixer.update(observe(PROBLEM, round=round), lab).weights)
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
