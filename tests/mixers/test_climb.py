"""CLIMB: rounds of runs, what each proposes, and which mixture is the answer."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from mixer_fakes import make_problem
from offline_worlds import EXAMPLES, TRAIN, LawLab, best, world

from mixers import optimum, swarm
from mixers.base import MixerError
from mixers.climb import APART, Climb
from mixers.regmix import RegMix

ORDER = [2, 0, 3, 1]


def start(problem, lab=None, **fields):
    pytest.importorskip("lightgbm")
    mixer = Climb(Climb.Config(**{"candidates": 2000, "trees": 200, **fields}))
    weights = mixer.start(problem, LawLab(problem) if lab is None else lab).weights
    return weights, mixer


class CountingLab(LawLab):
    """Remembers how many runs each call ordered."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.counts = []

    def train(self, runs):
        self.counts.append(len(runs))
        return super().train(runs)


@pytest.mark.parametrize(
    ("total", "rounds"), [(112, [64, 32, 16]), (15, [9, 4, 2]), (27, [15, 8, 4]), (54, [31, 15, 8]), (7, [4, 2, 1])]
)
def test_runs_are_shared_out_in_the_paper_s_ratio(total, rounds):
    assert np.diff(Climb().ends(total), prepend=0).tolist() == rounds


def test_rounds_that_are_too_small_are_one_line():
    with pytest.raises(MixerError, match=r"^climb: 4 proxies make rounds of \[2, 1, 1\]; 3 in the first and 1 in each"):
        Climb().ends(4)
    lab = LawLab(world())
    with pytest.raises(MixerError, match="climb: 4 proxies"):
        start(world(), lab, proxies=4)
    assert lab.calls == 0


def test_each_round_is_one_call_and_all_is_declared():
    problem = world()
    lab = CountingLab(problem)
    _, mixer = start(problem, lab, proxy_share=0.3)
    declared = mixer.purchases(problem).runs
    assert lab.counts == [9, 4, 2]
    assert len(declared) == len(lab.orders) == 15
    for bought, promised in zip(lab.orders, declared, strict=True):
        assert (bought.steps, bought.size, bought.subsample) == (promised.steps, promised.size, promised.subsample)
    for bought, regmix in zip(lab.orders[:9], RegMix().purchases(problem).runs, strict=False):
        np.testing.assert_array_equal(bought.mixture.weights, regmix.mixture.weights)


def test_later_rounds_run_new_mixtures_out_of_the_best_predicted():
    problem = world()
    lab = LawLab(problem)
    _, mixer = start(problem, lab)
    back = [3, 2, 1, 0]  # domains d, c, b, a are in the order of their sizes
    x = np.stack([run.mixture.weights for run in lab.orders])
    surrogate = mixer.fit(x[:9][:, back], lab.losses(x[:9]))
    pool = mixer.pool(swarm.canonical(problem), 2000, 1009)
    pool = swarm.untried(pool, x[:9][:, back], APART)
    top = pool[np.argsort(optimum.predicted(surrogate, problem.target_shares, pool), kind="stable")[:12]]
    for fresh in x[9:13][:, back]:
        assert np.abs(top - fresh).sum(axis=1).min() < 1e-9, "one of the best 3 x 4"
    for k in range(9, 13):
        assert 0.5 * np.abs(x[:9] - x[k]).sum(axis=1).min() > APART


def test_rounds_find_better_mixtures_than_a_single_swarm():
    gains = []
    for seed in range(2):
        lab = LawLab(world(seed=seed))
        _, mixer = start(lab.problem, lab, proxies=49, trees=60)
        values = lab.losses(np.stack([run.mixture.weights for run in lab.orders])) @ lab.problem.target_shares
        gains.append(values[:28].mean() - values[28:].mean())
        least = [entry["best"] for entry in mixer.report()["before"]]
        assert least == sorted(least, reverse=True)
        assert least[0] == pytest.approx(values[:28].min())
    assert min(gains) > 0.1, "proposals are better than draws, on average"


def test_it_comes_near_the_optimum_with_the_paper_s_runs():
    lab = LawLab(world(seed=1))
    weights, _ = start(lab.problem, lab, proxies=112, candidates=10_000)
    least = best(lab)[1]
    assert lab.truth(weights) - least < 0.05 < lab.truth(TRAIN) - least


def test_the_order_and_the_names_of_the_domains_do_not_matter():
    weights, _ = start(world(), LawLab(world(), noise=0.02))
    lab = LawLab(world(ORDER), noise=0.02)
    np.testing.assert_allclose(start(world(ORDER), lab)[0], weights[ORDER], rtol=1e-9)
    names = "zxba"
    renamed, _ = start(world(names=names), LawLab(world(names=names), names=names))
    np.testing.assert_allclose(renamed, start(world())[0], rtol=1e-9)


def test_the_same_problem_gives_the_same_mixture_and_another_seed_another():
    first, _ = start(world())
    np.testing.assert_array_equal(start(world())[0], first)
    assert not np.allclose(start(world(seed=1))[0], first)


def test_losses_and_their_penalty_times_a_constant_give_the_same_mixture():
    once, _ = start(world(), l1=0.25)
    times, _ = start(world(), LawLab(world(), scale=4.0), l1=1.0)
    np.testing.assert_allclose(times, once, rtol=1e-9)


def test_the_answer_by_hand_for_each_ending():
    """Mixtures a and b were run; the predictor says 1.0 of the recommended one."""

    class Says:
        def predict(self, mixtures):
            return np.ones((len(mixtures), 1))

    problem = make_problem(train=(0.5, 0.5), target=(1.0,), targets=("t",), domains="ab", examples=(10, 10))
    inputs, losses = np.array([[0.2, 0.8], [0.9, 0.1], [0.5, 0.5]]), np.array([[3.0], [1.5], [2.0]])
    answer = np.array([0.7, 0.3])
    for final, error, expected in (
        ("predicted", 9.0, answer),
        ("measured", 0.0, inputs[1]),
        ("guarded", 0.4, answer),  # 1.5 - 1.0 is above 0.4
        ("guarded", 0.6, inputs[1]),
    ):
        mixer = Climb(Climb.Config(final=final))
        runs = mixer.evidence(problem, inputs, losses)
        np.testing.assert_array_equal(mixer.settle(runs, Says(), answer, error), expected)
    wider = Climb(Climb.Config(final="guarded", margin=2.0))
    np.testing.assert_array_equal(wider.settle(runs, Says(), answer, 0.4), inputs[1])
    assert wider._remarks["final"] == {"gain": 0.5, "error": 0.4, "took": "measured"}


def test_a_measured_answer_is_a_run_and_keeps_to_caps():
    problem = world(steps=500, batch_size=10)
    lab = LawLab(problem)
    caps = EXAMPLES / 5000
    weights, mixer = start(problem, lab, final="measured", max_epochs=1.0, target="d")
    runs = np.stack([run.mixture.weights for run in lab.orders])
    assert np.abs(runs - weights).sum(axis=1).min() < 1e-9
    assert np.all(weights <= caps + 1e-9)
    assert np.all(runs[9:] <= caps + 1e-9), "what is proposed keeps to them, too"
    assert runs[:9, 3].max() > caps[3], "the swarm does not"
    assert mixer.report()["final"]["took"] == "measured"
    predicted, _ = start(problem, target="d", max_epochs=1.0)
    assert np.all(predicted <= caps + 1e-9)


def test_trees_that_never_split_give_the_mean_of_the_candidates():
    weights, mixer = start(world(), rounds=(1.0,), proxies=3)
    assert np.ptp(mixer.fit(np.eye(3), np.arange(3.0)[:, None]).predict(np.eye(3))) == 0.0
    home = swarm.canonical(world())
    np.testing.assert_allclose(weights[[3, 2, 1, 0]], mixer.pool(home, 2000, 1).mean(axis=0), rtol=1e-9)


def test_few_runs_still_split():
    x = np.random.default_rng(0).dirichlet(np.ones(3), 9)
    assert np.ptp(Climb().fit(x, x[:, :1]).predict(x)) > 0.0


def test_what_is_missing_is_skipped():
    problem = world()
    _, mixer = start(problem, LawLab(problem, missing="d", diverged=(2,)), proxies=21)
    report = mixer.report()
    assert report["skipped_targets"] == ["d"]
    assert report["runs"] + report["runs_without_losses"] == 21
    json.dumps(report, allow_nan=False)


def test_one_and_two_domains():
    single = make_problem(train=(1.0,), target=(1.0,), examples=(50,))
    mixer = Climb()
    np.testing.assert_array_equal(mixer.start(single, object()).weights, [1.0])
    assert mixer.purchases(single).runs == ()
    two = make_problem(train=(0.5, 0.5), target=(0.2, 0.8), examples=(500, 400), domains="ab")

    class Lab(LawLab):
        def losses(self, mixtures):
            return (mixtures - [0.3, 0.7]) ** 2

    weights, _ = start(two, Lab(two), proxies=21)
    assert 0.15 < weights[0] < 0.45


def test_without_lightgbm_nothing_is_bought(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    lab = LawLab(world())
    with pytest.raises(MixerError, match="LightGBM is not installed"):
        Climb().start(world(), lab)
    assert lab.calls == 0


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"rounds": ()}, r"rounds must be one or more positive numbers, such as 4, 2, 1, not \[\]"),
        ({"rounds": (4, 0)}, r"rounds must be one or more positive numbers, such as 4, 2, 1, not \[4, 0\]"),
        ({"exploration": 0}, "exploration must be at least 1, not 0"),
        ({"candidates": 0}, "candidates must be at least 1, not 0"),
        ({"final": "best"}, "final is predicted, measured or guarded, not best"),
        ({"margin": -1.0}, "margin must be finite and at least 0, not -1.0"),
        ({"depth": 0}, "depth, min_leaf, patience and trees must be at least 1"),
        ({"learning_rate": 2.0}, r"learning_rate must be in \(0, 1\], not 2.0"),
        ({"l1": -0.1}, "l1 and l2 must be finite and at least 0"),
        ({"inner_share": 0.6}, r"inner_share must be in \(0, 0.5\], not 0.6"),
        ({"proxy_share": 2.0}, r"proxy_share must be in \(0, 1\], not 2.0"),
    ],
)
def test_bad_settings_are_one_line(fields, rule):
    with pytest.raises(MixerError, match=f"^climb: {rule}$"):
        Climb.Config(**fields)


def test_a_round_does_not_repeat_itself_where_the_best_is_in_a_corner():
    problem = make_problem(
        train=(0.4, 0.3, 0.3), target=(1.0,), targets=("t",), domains="abc", examples=(400, 300, 200)
    )

    class Lab(LawLab):
        def losses(self, mixtures):
            return 3.0 - 2.0 * mixtures[:, [0]]

    lab = Lab(problem)
    _, mixer = start(problem, lab, proxies=28)
    x = np.stack([run.mixture.weights for run in lab.orders])
    for k in (slice(16, 24), slice(24, 28)):
        apart = 0.5 * np.abs(x[k, None] - x[None, k]).sum(axis=2) + np.eye(len(x[k]))
        assert apart.min() > APART
    assert mixer.ends(28).tolist() == [16, 24, 28]
