"""Aioli: interactions and mixtures by hand, the official trainer's tape, what fits into short runs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mixer_fakes import make_problem, observe

from mixers.aioli import Aioli, interactions, probe_mixtures
from mixers.base import MixerError
from mixers.simplex import softmax

ORACLE = json.loads((Path(__file__).parent / "oracles" / "aioli.json").read_text())
TWO = make_problem(train=(0.6, 0.4), target=(0.5, 0.5))


class ProbeLab:
    """Sells losses that fall by what a function of round, sweep and probed domain (its number) says, [n]."""

    def __init__(self, problem, begin, drops, numbers=None):
        self.begin, self.drops = begin, drops
        self.numbers = list(range(problem.m)) if numbers is None else list(numbers)
        self.passes, self.steps, self.examples, self.probed = 0, 0, set(), []
        self.enter(0)

    def enter(self, round):
        self.round, self.sweeps = round, [0] * len(self.numbers)
        self.losses = np.array(self.begin(round), dtype=np.float64)

    def validation_losses(self, examples=0):
        self.passes += 1
        self.examples.add(examples)
        return self.losses.copy()

    def probe(self, mixture, steps):
        j = self.numbers[int(mixture.weights.argmax())]
        self.steps += steps
        self.probed.append((self.round, j, steps, mixture))
        self.losses = self.losses - np.array(self.drops(self.round, self.sweeps[j], j))
        self.sweeps[j] += 1


def play(mixer, problem, lab, rounds, first=0):
    """Weights in force from ``first`` on, [rounds - first, m]."""
    weights = [mixer.start(problem, lab).checked(problem.domains).weights] if first == 0 else []
    for round in range(max(0, first - 1), rounds - 1):
        lab.enter(round + 1)
        answer = mixer.update(observe(problem, round=round), lab)
        weights.append(weights[-1] if answer is None else answer.checked(problem.domains).weights)
    return np.stack(weights)


def tape(m, n, seed=0):
    """Losses before each round, and drops that depend on round, sweep and domain."""
    rng = np.random.default_rng(seed)
    begin, drops = rng.uniform(2, 4, (50, n)), rng.normal(0.1, 0.1, (50, 8, m, n))
    return (lambda round: begin[round]), (lambda round, sweep, j: drops[round, sweep, j])


def mixer_of(**fields):
    return Aioli(Aioli.Config(**fields))


@pytest.mark.parametrize("case", ORACLE["cases"], ids=lambda case: f"{case['tape']}, ema {case['arguments']['ema']}")
def test_the_official_trainer_agrees(case):
    recorded, given_ = ORACLE["tapes"][case["tape"]], case["arguments"]
    drops, rounds = np.array(recorded["drops"]), len(recorded["begin"])
    m, f, length = drops.shape[-1], given_["one_hot_factor"], given_["update_steps"]
    problem = make_problem(train=np.full(m, 1 / m), target=np.full(m, 1 / m), steps=rounds * length)
    mixer = mixer_of(
        eta=given_["eta"],
        ema=given_["ema"],
        eps=(1 - f) * m / (m - 1),
        sweeps=given_["lp_rounds"],
        rounds=rounds,
        delta=given_["lp_rounds"] * given_["lp_steps"] * m / length,
    )
    np.testing.assert_allclose(probe_mixtures(m, mixer.config.eps), case["probes"], rtol=0, atol=1e-12)
    lab = ProbeLab(problem, lambda round: recorded["begin"][round], lambda round, sweep, j: drops[round, sweep, j])
    np.testing.assert_allclose(play(mixer, problem, lab, rounds), case["expected"], rtol=0, atol=1e-9)
    assert {steps for _, _, steps, _ in lab.probed} == {given_["lp_steps"]}
    learnt = [interactions(np.array(case["probes"]), by_round.mean(axis=0)) for by_round in drops]
    np.testing.assert_allclose(learnt, case["matrices"], rtol=0, atol=1e-9)
    if given_["ema"] is None:
        np.testing.assert_allclose(mixer.state_dict()["matrix"], case["matrices"][-1], rtol=0, atol=1e-9)


def test_the_oracle_has_rounds_with_harm_and_without():
    for name in ("three", "seven"):
        smallest = [np.min(matrix) for case in ORACLE["cases"] if case["tape"] == name for matrix in case["matrices"]]
        assert min(smallest) == 0.0
        assert max(smallest) > 0.0
    assert {case["arguments"]["ema"] is None for case in ORACLE["cases"]} == {True, False}


# Two domains, eps 0.5: P = [[0.75, 0.25], [0.25, 0.75]]; its inverse is [[1.5, -0.5], [-0.5, 1.5]].
HELP = ((0.35, 0.15), (0.25, 0.25))  # loss drops by probe: A_0 = (0.4, 0.2), A_1 = (0.1, 0.3), of sum 1


def test_interactions_by_hand():
    probes = probe_mixtures(2, 0.5)
    np.testing.assert_array_equal(probes, [[0.75, 0.25], [0.25, 0.75]])
    np.testing.assert_allclose(interactions(probes, np.array(HELP)), [[0.4, 0.2], [0.1, 0.3]])


def test_harm_is_shifted_to_zero():
    # A_0 = 1.5 × 0.1 + 0.5 × 0.1 = 0.2 and -0.2; A_1 = 0.1 and 0.1; shifted (0.4, 0; 0.3, 0.3), of sum 1
    drops = np.array([[0.1, 0.1], [-0.1, 0.1]])
    np.testing.assert_allclose(interactions(probe_mixtures(2, 0.5), drops), [[0.4, 0.0], [0.3, 0.3]])


def test_nothing_that_drops_gives_no_interactions():
    for drop in (0.0, -0.5):
        assert not interactions(probe_mixtures(3, 0.0), np.full((3, 2), drop)).any()


def test_mixtures_by_hand():
    lab = ProbeLab(TWO, lambda round: (3.0, 2.0), lambda round, sweep, j: HELP[j])
    mixer = mixer_of(eta=1.0, eps=0.5, rounds=4, sweeps=2)
    weights = play(mixer, TWO, lab, 3)
    for learnings, row in enumerate(weights, start=1):  # column sums 0.5 and 0.5: nothing moves
        np.testing.assert_allclose(row, [0.5, 0.5], err_msg=str(learnings))
    harmful = ProbeLab(TWO, lambda round: (3.0, 2.0), lambda round, sweep, j: ((0.1, 0.1), (-0.1, 0.1))[j])
    weights = play(mixer, TWO, harmful, 3)  # column sums 0.7 and 0.3
    for learnings, row in enumerate(weights, start=1):
        np.testing.assert_allclose(row, softmax([0.7 * learnings, 0.3 * learnings]))


def test_the_released_average_by_hand():
    drops = [((0.1, 0.1), (-0.1, 0.1)), HELP]  # column sums (0.7, 0.3), then (0.5, 0.5)
    lab = ProbeLab(TWO, lambda round: (3.0, 2.0), lambda round, sweep, j: drops[round % 2][j])
    mixer = mixer_of(eta=2.0, eps=0.5, rounds=4, sweeps=2, ema=0.25)
    weights = play(mixer, TWO, lab, 3)
    np.testing.assert_allclose(weights[0], softmax([1.4, 0.6]))
    np.testing.assert_allclose(weights[1], softmax([2 * (0.25 * 0.7 + 0.75 * 0.5), 2 * (0.25 * 0.3 + 0.75 * 0.5)]))
    third = 0.25 * 0.55 + 0.75 * 0.7
    np.testing.assert_allclose(weights[2], softmax([2 * third, 2 * (1 - third)]))


def test_drops_are_averaged_over_the_sweeps():
    off = ((0.1, -0.1), (-0.2, 0.2))
    lab = ProbeLab(
        TWO, lambda round: (3.0, 2.0), lambda round, sweep, j: np.array(HELP[j]) + (1 - 2 * sweep) * off[j][0]
    )
    mixer = mixer_of(eps=0.5, rounds=1, sweeps=2)
    play(mixer, TWO, lab, 1)
    np.testing.assert_allclose(mixer.state_dict()["matrix"], [[0.4, 0.2], [0.1, 0.3]])


def test_every_sweep_is_a_permutation_of_its_own():
    m = 6
    problem = make_problem(train=np.full(m, 1 / m), target=np.full(m, 1 / m), steps=2000)
    lab = ProbeLab(problem, *tape(m, m))
    play(mixer_of(sweeps=4, rounds=5), problem, lab, 2)
    orders = np.array([j for _, j, _, _ in lab.probed]).reshape(8, m)
    for order in orders:
        assert sorted(order) == list(range(m))
    assert len({tuple(order) for order in orders}) > 4
    again, other = (ProbeLab(problem, *tape(m, m)) for _ in range(2))
    play(mixer_of(sweeps=4, rounds=5), problem, again, 2)
    assert [j for _, j, _, _ in again.probed] == [j for _, j, _, _ in lab.probed]
    play(mixer_of(sweeps=4, rounds=5), make_problem(train=np.full(m, 1 / m), steps=2000, seed=1), other, 2)
    assert [j for _, j, _, _ in other.probed] != [j for _, j, _, _ in lab.probed]


@pytest.mark.parametrize("examples", [(900, 500, 300, 200), (500, 500, 500, 500)])
@pytest.mark.parametrize("ema", [None, 0.5])
def test_the_order_of_the_domains_does_not_matter(examples, ema):
    order = [2, 0, 3, 1]
    shares, examples = np.array([0.4, 0.3, 0.2, 0.1]), np.array(examples)
    plain = make_problem(train=shares, target=(0.5, 0.3, 0.2), examples=examples, targets="xyz", steps=400)
    names = [f"d{i}" for i in order]
    moved = make_problem(
        train=shares[order], target=(0.5, 0.3, 0.2), examples=examples[order], domains=names, targets="xyz", steps=400
    )
    labs = ProbeLab(plain, *tape(4, 3)), ProbeLab(moved, *tape(4, 3), numbers=order)
    a, b = (play(mixer_of(ema=ema, rounds=6), each, lab, 5) for each, lab in zip((plain, moved), labs, strict=True))
    assert [j for _, j, _, _ in labs[0].probed] == [j for _, j, _, _ in labs[1].probed], "also where order mattered"
    np.testing.assert_allclose(a[:, order], b, rtol=1e-9)
    assert np.ptp(a[-1]) > 1e-3


def test_targets_need_not_be_domains():
    problem = make_problem(train=(0.5, 0.3, 0.2), target=(0.5, 0.5), targets=("x", "y"), steps=400)
    mixer = mixer_of(rounds=4)
    weights = play(mixer, problem, ProbeLab(problem, *tape(3, 2)), 2)
    assert weights.shape == (2, 3)
    assert np.shape(mixer.report()["matrix"]) == (2, 3)


def test_a_target_without_examples_changes_nothing():
    begin, drops = tape(3, 2)
    problems = [
        make_problem(train=(0.5, 0.3, 0.2), target=np.full(n, 1 / n), targets=names, steps=400)
        for n, names in ((2, "xz"), (3, "xyz"))
    ]
    labs = (
        ProbeLab(problems[0], begin, drops),
        ProbeLab(
            problems[1], lambda round: np.insert(begin(round), 1, np.nan), lambda *key: np.insert(drops(*key), 1, 0)
        ),
    )
    mixers = [mixer_of(rounds=6), mixer_of(rounds=6)]
    without, absent = (
        play(mixer, *each, 5) for mixer, each in zip(mixers, zip(problems, labs, strict=True), strict=True)
    )
    assert np.min(mixers[0].state_dict()["matrix"]) == 0.0, "a shift was needed"
    np.testing.assert_allclose(absent, without, rtol=1e-12)
    assert mixers[1].report()["matrix"][1] == [0.0, 0.0, 0.0]
    json.dumps([mixers[1].state_dict(), mixers[1].report()], allow_nan=False)


def test_where_no_loss_can_be_read_or_drops_the_mixture_stays():
    for begin, drop in ((math.nan, 0.0), (math.inf, 0.0), (2.0, 0.0)):
        for ema in (None, 0.5):
            begins = [(3.0, 2.0), (begin, begin)]
            lab = ProbeLab(
                TWO,
                lambda round, begins=begins: begins[round],
                lambda round, sweep, j, drop=drop: (drop, drop) if round else ((0.1, 0.1), (-0.1, 0.1))[j],
            )
            mixer = mixer_of(eta=1.0, ema=ema, eps=0.5, rounds=4, sweeps=2)
            with np.errstate(invalid="ignore"):
                weights = play(mixer, TWO, lab, 2)
            np.testing.assert_array_equal(weights[1], weights[0])
            assert weights[0, 0] > 0.55
            assert mixer.report()["learnings"] == 2


@given(st.floats(1e-3, 1e3), st.sampled_from([None, 0.5]))
def test_losses_times_a_constant_give_the_same_mixtures(c, ema):
    problem = make_problem(steps=400)
    begin, drops = tape(3, 3)
    scaled = ProbeLab(problem, lambda round: c * begin(round), lambda *key: c * drops(*key))
    a = play(mixer_of(eta=2.0, ema=ema, rounds=5), problem, ProbeLab(problem, begin, drops), 4)
    np.testing.assert_allclose(play(mixer_of(eta=2.0, ema=ema, rounds=5), problem, scaled, 4), a, rtol=1e-6)
    assert np.ptp(a[-1]) > 0.01


def test_the_released_average_never_leaves_the_band():
    problem = make_problem(steps=4000)
    weights = play(mixer_of(eta=0.5, ema=0.1, rounds=40), problem, ProbeLab(problem, *tape(3, 3)), 40)
    assert (weights.max(axis=1) / weights.min(axis=1)).max() <= math.exp(0.5)


@pytest.mark.parametrize("ema", [None, 0.3])
@pytest.mark.parametrize(("steps", "sweeps", "done"), [(2000, 4, 4), (120, 2, 4), (40, 4, 3)])
def test_a_resumed_mixer_goes_on_as_if_nothing_had_happened(ema, steps, sweeps, done):
    problem, rounds = make_problem(steps=steps), 10
    fields = {"ema": ema, "sweeps": sweeps, "rounds": rounds, "eta": 1.0}
    whole = mixer_of(**fields)
    weights = play(whole, problem, ProbeLab(problem, *tape(3, 3)), rounds)
    half, resumed = mixer_of(**fields), mixer_of(**fields)
    play(half, problem, ProbeLab(problem, *tape(3, 3)), done)
    resumed.start(problem, ProbeLab(problem, *tape(3, 3, seed=9)))  # what start learns here is taken back
    resumed.load_state_dict(json.loads(json.dumps(half.state_dict())))
    lab = ProbeLab(problem, *tape(3, 3))
    force = [weights[done - 1]]
    for round in range(done - 1, rounds - 1):
        lab.enter(round + 1)
        answer = resumed.update(observe(problem, round=round), lab)
        force.append(force[-1] if answer is None else answer.checked(problem.domains).weights)
    np.testing.assert_array_equal(np.stack(force[1:]), weights[done:])
    assert (resumed.state_dict(), resumed.report()) == (whole.state_dict(), whole.report())


# m, steps, config -> rounds with probes, sweeps, steps of a probe
PLANS = [
    # a round of 250 has 75 for 8 probes
    (2, 5000, {}, tuple(range(20)), 4, 9),
    # rounds of 25 have 7 each; 96 probes need 13 rounds (97); the 7 rounds left over are too few for more
    (24, 500, {}, (0,), 4, 1),
    # rounds of 100 have 30 each, 4 of them 120
    (24, 2000, {}, (0, 4, 8, 12, 16), 4, 1),
    # 2 rounds of 100 have 60 for 48
    (24, 2000, {"sweeps": 2}, tuple(range(0, 20, 2)), 2, 1),
    # rounds of 2 or 3 steps; the shortest 3 in a row have 7 (2.1 of 7 steps), 8 probes need more: 11 rounds of 27 steps
    (4, 50, {"sweeps": 2}, (0,), 2, 1),
    # 20 probes, 12 steps in the whole run: two sweeps
    (5, 40, {}, (0,), 2, 1),
    # one sweep in 3 steps of 10, then one that is more than the share
    (3, 10, {}, (0,), 1, 1),
    (9, 10, {}, (0,), 1, 1),
    # more room than sweeps: 30 steps for 6 probes
    (3, 100, {"sweeps": 2, "rounds": 1}, (0,), 2, 5),
    (1, 10, {}, (), 4, 0),
]


@pytest.mark.parametrize(("m", "steps", "fields", "rounds", "sweeps", "length"), PLANS)
def test_what_fits(m, steps, fields, rounds, sweeps, length):
    problem = make_problem(train=np.full(m, 1 / m), target=np.full(m, 1 / m), steps=steps)
    mixer = mixer_of(**fields)
    plan = mixer.plan(problem)
    assert (plan.rounds, plan.sweeps, plan.steps) == (rounds, sweeps, length)
    report = mixer.start(problem, ProbeLab(problem, *tape(m, m))) and mixer.report()
    assert (report["sweeps"], report["steps_per_probe"], report["learnings"]) == (sweeps, length, min(1, len(rounds)))
    assert report["probe_share"] == min(1, len(rounds)) * m * sweeps * length / steps
    asked = mixer.config.sweeps
    assert report.get("sweeps_asked_for") == (asked if sweeps < asked else None)


@given(
    m=st.integers(2, 12),
    steps=st.integers(13, 600),
    rounds=st.integers(1, 30),
    sweeps=st.integers(1, 5),
    delta=st.floats(0.05, 0.95),
)
def test_what_is_bought_is_what_was_declared_and_stays_inside_the_run(m, steps, rounds, sweeps, delta):
    problem = make_problem(train=np.full(m, 1 / m), target=np.full(m, 1 / m), steps=steps)
    mixer = mixer_of(rounds=rounds, sweeps=sweeps, delta=delta, validation_examples=7)
    edges = (0, *mixer.needs().boundaries(steps))
    lab = ProbeLab(problem, *tape(m, m))
    mixer.start(problem, lab)
    spent = {0: lab.steps}
    for round in range(len(edges) - 2):
        lab.enter(round + 1)
        mixer.update(observe(problem, round=round), lab)
        spent[round + 1] = lab.steps - sum(spent.values())
    declared = mixer.purchases(problem)
    assert (lab.passes, lab.steps) == (declared.validation_losses, declared.probe_steps)
    assert declared.validation_examples == 7
    assert lab.examples <= {7}
    learnt = [round for round, steps_ in spent.items() if steps_]
    assert tuple(learnt) == mixer.plan(problem).rounds
    for begin, end in zip(learnt, [*learnt[1:], len(edges) - 1], strict=True):
        length = edges[end] - edges[begin]
        assert spent[begin] < length, "the mixture has steps of its own before the next probes"
        if len(learnt) > 1 or m <= delta * steps:
            assert spent[begin] <= delta * length + 1e-6
    assert mixer.report()["learnings"] == len(learnt) >= 1


def test_a_single_domain_buys_nothing():
    problem = make_problem(train=(1.0,), target=(1.0,))
    lab = ProbeLab(problem, *tape(1, 1))
    np.testing.assert_array_equal(play(mixer_of(), problem, lab, 5), np.ones((5, 1)))
    declared = mixer_of().purchases(problem)
    assert (lab.passes, lab.steps, declared.validation_losses, declared.probe_steps) == (0, 0, 0, 0)


def test_a_run_with_fewer_steps_than_domains_is_refused():
    problem = make_problem(train=np.full(30, 1 / 30), target=np.full(30, 1 / 30), steps=30)
    for call in (lambda: Aioli().purchases(problem), lambda: Aioli().start(problem, None)):
        with pytest.raises(MixerError, match=r"^aioli: one sweep over 30 domains takes 30 steps, .*; train for more"):
            call()


def test_more_domains_than_a_batch_has_examples():
    m = 40
    problem = make_problem(train=np.full(m, 1 / m), target=np.full(m, 1 / m), steps=600, batch_size=4)
    weights = play(mixer_of(eta=1.0), problem, ProbeLab(problem, *tape(m, m)), 20)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    assert np.ptp(weights[-1]) > 0.0


def test_needs_follow_the_config():
    assert mixer_of(rounds=7).needs().rounds == 7
    assert mixer_of().needs().signals == ()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("eta", -0.1),
        ("eta", math.inf),
        ("eta", math.nan),
        ("sweeps", 0),
        ("eps", 1.0),
        ("eps", -0.1),
        ("rounds", 0),
        ("delta", 0.0),
        ("delta", 1.0),
        ("ema", 1.0),
        ("ema", -0.1),
        ("validation_examples", -1),
    ],
)
def test_a_senseless_setting_is_named(field, value):
    with pytest.raises(MixerError, match=rf"^aioli: {field} must be .*[^\n]$"):
        Aioli.Config(**{field: value})
