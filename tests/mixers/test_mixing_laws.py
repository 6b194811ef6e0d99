"""Mixing laws as a mixer: finds the optimum of a world that follows one, in any order, under caps and penalty."""

from __future__ import annotations

import json

import numpy as np
import pytest
from mixer_fakes import make_problem
from offline_worlds import EXAMPLES, LAW, TRAIN, LawLab, best, world
from scipy import special

from mixers.base import MixerError
from mixers.mixing_laws import MixingLaws
from mixers.simplex import total_variation
from mixers.surrogates import LogLinear

ORDER = [2, 0, 3, 1]


def start(problem, lab=None, **fields):
    mixer = MixingLaws(MixingLaws.Config(**fields))
    weights = mixer.start(problem, LawLab(problem) if lab is None else lab).weights
    return weights, mixer


def test_it_finds_the_optimum_of_a_world_that_follows_the_law():
    problem = world()
    lab = LawLab(problem)
    weights, mixer = start(problem, lab, proxies=40)
    optimum, least = best(lab)
    assert total_variation(weights, optimum) < 0.02
    assert lab.truth(weights) <= least + 1e-4
    report = mixer.report()
    assert report["predicted"] == pytest.approx(least, abs=2e-3)
    assert report["in_sample"]["mae"] < 1e-3
    assert report["left_out"]["mae"] < 0.05
    assert report["left_out"]["spearman"] > 0.95


def test_more_runs_come_nearer_to_the_optimum():
    def regret(proxies):
        found = []
        for seed in range(4):
            lab = LawLab(world(seed=seed), noise=0.05)
            weights, _ = start(lab.problem, lab, proxies=proxies)
            found.append(lab.truth(weights) - best(lab)[1])
        return np.mean(found)

    few, some, many = regret(12), regret(36), regret(144)
    assert few > some > many
    assert many < 0.005


def test_the_order_and_the_names_of_the_domains_do_not_matter():
    weights, mixer = start(world(), LawLab(world(), noise=0.02))
    moved, other = start(world(ORDER), LawLab(world(ORDER), noise=0.02))
    np.testing.assert_allclose(moved, weights[ORDER], rtol=1e-6)
    assert other.report()["recommended"] == pytest.approx(mixer.report()["recommended"])
    names = "zxba"
    renamed, _ = start(world(names=names), LawLab(world(names=names), names=names, noise=0.0))
    np.testing.assert_allclose(renamed, start(world())[0], rtol=1e-6)


def test_it_buys_what_it_declared_in_one_call():
    problem = world()
    lab = LawLab(problem)
    _, mixer = start(problem, lab, proxy_share=0.3, match_repetition=True)
    declared = mixer.purchases(problem).runs
    assert lab.calls == 1
    assert len(lab.orders) == len(declared) == 15, "three times a run more than there are domains"
    for bought, promised in zip(lab.orders, declared, strict=True):
        assert (bought.steps, bought.subsample, bought.size) == (promised.steps, 0.3, 1.0)
        np.testing.assert_array_equal(bought.mixture.weights, promised.mixture.weights)
    assert mixer.needs().rounds == 1
    assert mixer.state_dict() == {}


def test_caps_on_repetition_hold_in_the_solve_but_not_in_the_swarm():
    problem = world(steps=500, batch_size=10)  # half of all data
    lab = LawLab(problem)
    free, _ = start(problem, lab, proxies=40)
    capped, _ = start(problem, LawLab(problem), proxies=40, max_epochs=1.0)
    caps = EXAMPLES / 5000
    assert free[3] > caps[3] + 0.05
    np.testing.assert_allclose(capped[3], caps[3], rtol=1e-9)
    assert np.all(capped <= caps + 1e-9)
    assert lab.truth(free) < lab.truth(capped) < lab.truth(TRAIN)
    assert max(run.mixture.weights[3] for run in lab.orders) > caps[3]


def test_the_penalty_pulls_to_the_training_shares():
    distances = [total_variation(start(world(), kl=kl)[0], TRAIN) for kl in (0.0, 0.05, 0.5, 1e3)]
    assert distances == sorted(distances, reverse=True)
    assert distances[0] - distances[1] > 0.01
    assert distances[-1] < 1e-3


def test_losses_times_a_constant_act_as_threshold_and_penalty_divided_by_it():
    problem = world()
    one, _ = start(problem, LawLab(problem, noise=0.02), kl=0.05, huber=0.01)
    four, _ = start(problem, LawLab(problem, noise=0.02, scale=4.0), kl=0.2, huber=0.04)
    np.testing.assert_allclose(four, one, atol=1e-5)
    other, _ = start(problem, LawLab(problem, noise=0.02, scale=4.0), kl=0.05, huber=0.01)
    assert total_variation(other, one) > 0.01


def test_a_target_by_name_gets_its_own_domain():
    for name in "abcd":
        weights, mixer = start(world(), proxies=40, target=name)
        assert weights[world().domains.index(name)] == pytest.approx(1.0, abs=1e-6)
        law = LAW.predict(np.eye(4)[["abcd".index(name)]])[0, "abcd".index(name)]
        assert mixer.report()["predicted"] == pytest.approx(law, abs=0.05)


def test_targets_without_losses_and_runs_that_diverged_are_skipped():
    problem = world()
    weights, mixer = start(problem, LawLab(problem, missing="d", diverged=(1, 4)), proxies=40)
    report = mixer.report()
    assert report["skipped_targets"] == ["d"]
    assert (report["runs"], report["runs_without_losses"]) == (38, 2)
    assert weights[3] < 0.05, "nobody is left who wants d"
    with pytest.raises(MixerError, match="no proxy run has a finite validation loss of any target"):
        start(problem, LawLab(problem, missing="abcd"))
    with pytest.raises(MixerError, match="2 of 15 proxy runs have finite losses"):
        start(problem, LawLab(problem, diverged=range(13)))


def test_targets_outside_the_training_domains_are_no_trouble():
    far = make_problem(train=TRAIN, target=(0.7, 0.3), examples=EXAMPLES, domains="abcd", targets="xy")

    class FarLab(LawLab):
        def losses(self, mixtures):
            return LAW.predict(mixtures)[:, :2]

    weights, _ = start(far, FarLab(far), proxies=40)
    assert weights[0] > 0.5, "x follows the law of a"


def test_a_single_domain_buys_nothing():
    single = make_problem(train=(1.0,), target=(1.0,), examples=(50,))
    weights, mixer = start(single, object())
    np.testing.assert_array_equal(weights, [1.0])
    assert mixer.purchases(single).runs == ()
    assert mixer.report() == {"runs": 0}


def test_the_report_is_json_and_warns_outside_of_the_swarm():
    problem = world()
    near, far = (
        start(problem, proxies=40, target=target, prior_cap=cap, strengths=strengths)[1].report()
        for target, cap, strengths in ((None, None, (2.0,)), ("d", 1.5, (2.0,)))
    )
    json.dumps([near, far], allow_nan=False)
    assert "out_of_support" not in near
    assert near["nearest_run"] <= near["farthest_neighbours"]
    assert far["out_of_support"]["beyond_largest_share"].keys() == {"d"}
    assert far["out_of_support"]["beyond_largest_share"]["d"] <= 0.15 + 1e-9
    assert far["degenerate"] == {"domain": "d", "train_share": 0.1}
    assert set(near["recommended"]) <= set("abcd")
    assert sum(near["best_run"]["mixture"].values()) == pytest.approx(1.0)


def test_a_target_that_does_not_exist_is_refused_before_anything_is_bought():
    lab = LawLab(world())
    with pytest.raises(MixerError, match="there is no target 'q'; the targets are b, d, a, c"):
        start(world(), lab, target="q")
    assert lab.calls == 0


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"kl": -0.1}, "kl must be finite and at least 0, not -0.1"),
        ({"huber": 0.0}, "huber must be positive and finite, not 0.0"),
        ({"starts": 0}, "starts must be at least 1, not 0"),
        ({"proxies": 2}, r"proxies must be at least 3, or none for 3 \(m \+ 1\), not 2"),
        ({"proxy_share": 0.0}, r"proxy_share must be in \(0, 1\], not 0.0"),
        ({"proxy_size": -1.0}, "proxy_size must be above 0 and finite, not -1.0"),
        ({"validation_examples": -1}, "validation_examples must be at least 0, not -1"),
        ({"max_epochs": 0.0}, "max_epochs must be positive and finite, or none, not 0.0"),
        ({"temperature": -1.0}, r"temperature must be in \[0, 1\], not -1.0"),
    ],
)
def test_bad_settings_are_one_line(fields, rule):
    with pytest.raises(MixerError, match=f"^mixing_laws: {rule}$"):
        MixingLaws.Config(**fields)


@pytest.mark.parametrize("fields", [{}, {"kl": 0.05, "max_epochs": 4.0}])
def test_a_solve_that_does_not_end_is_replaced_by_a_search_and_said(monkeypatch, fields):
    problem = world(steps=300, batch_size=100)
    solved, mixer = start(problem, proxies=40, **fields)
    assert "solved" not in mixer.report()

    def endless(*_, **__):
        raise MixerError("it does not end")

    monkeypatch.setattr("mixers.convex.solve", endless)
    searched, mixer = start(problem, proxies=40, **fields)
    assert mixer.report()["solved"] is False
    lab = LawLab(problem)
    penalty = [
        fields.get("kl", 0.0) * special.rel_entr(weights, problem.train_shares).sum() for weights in (solved, searched)
    ]
    assert lab.truth(searched) + penalty[1] <= lab.truth(solved) + penalty[0] + 0.01
    if fields:
        assert np.all(searched <= 4.0 * problem.examples / 30_000 + 1e-9)


def test_an_exploding_law_has_a_finite_slope():
    explosive = LogLinear(c=np.zeros(1), b=np.array([800.0]), t=np.array([[-900.0, 300.0, 300.0, 300.0]]))
    with np.errstate(all="raise"):
        slope = explosive.gradient(np.full(4, 0.25), np.ones(1))
    assert np.isfinite(slope).all()


def test_a_domain_that_the_prior_keeps_out_of_all_runs_gets_nothing():
    problem = make_problem(train=TRAIN, target=(0.5, 0.5), examples=EXAMPLES, domains="abcd", targets="ab")
    lab = LawLab(problem)
    weights, mixer = start(problem, lab, prior="target", proxies=12)
    assert all(np.all(run.mixture.weights[2:] == 0.0) for run in lab.orders)
    assert np.all(weights[2:] == 0.0)
    assert "out_of_support" not in mixer.report()
