"""Reusing a mixture: kept domains move as one, in the smaller problem, in the orders and in the answer."""

from __future__ import annotations

import numpy as np
import pytest
from mixer_fakes import make_problem
from offline_worlds import LawLab, best, world

from mixers.base import MixerError
from mixers.mixing_laws import MixingLaws
from mixers.reuse import collapse
from mixers.swarm import repetition_caps

KEPT = {"b": 0.3, "d": 0.1}


def start(problem, lab=None, **fields):
    mixer = MixingLaws(MixingLaws.Config(**{"reuse": KEPT, **fields}))
    return mixer.start(problem, LawLab(problem) if lab is None else lab).weights, mixer


def test_the_smaller_problem_by_hand():
    problem = world(steps=100, batch_size=10)
    smaller = collapse(problem, KEPT, "x").problem
    assert smaller.domains == ("reused", "a", "c")
    np.testing.assert_allclose(smaller.train_shares, [0.3 + 0.1, 0.4, 0.2])
    # b and d are drawn 3 to 1: the 3000 examples of b last for 4000 of both, the 1000 of d for 4000 as well
    np.testing.assert_array_equal(smaller.examples, [4000, 4000, 2000])
    scarce = collapse(problem, {"b": 0.5, "d": 0.5}, "x").problem
    np.testing.assert_array_equal(scarce.examples, [2000, 4000, 2000])
    np.testing.assert_allclose(repetition_caps(scarce, 0.25), [0.5, 1.0, 0.5], err_msg="1000 drawn, 250 of d at most")


def test_a_mixture_of_the_smaller_problem_is_expanded_by_hand():
    problem = world()
    reuse = collapse(problem, KEPT, "x")
    found = reuse.expand(reuse.problem.mixture([0.4, 0.5, 0.1]))
    np.testing.assert_allclose(found.weights, [0.5, 0.3, 0.1, 0.1])


def test_runs_and_answer_keep_the_proportions_and_fewer_runs_are_bought():
    problem = world()
    lab = LawLab(problem)
    weights, mixer = start(problem, lab)
    assert weights[1] == pytest.approx(3.0 * weights[3])
    declared = mixer.purchases(problem).runs
    assert len(lab.orders) == len(declared) == 12, "three times a run more than the three domains that are left"
    for bought, promised in zip(lab.orders, declared, strict=True):
        assert bought.mixture.domains == problem.domains
        np.testing.assert_array_equal(bought.mixture.weights, promised.mixture.weights)
        assert bought.mixture.weights[1] == pytest.approx(3.0 * bought.mixture.weights[3])
    assert set(mixer.report()["recommended"]) <= {"reused", "a", "c"}


def test_reusing_the_optimum_finds_it_again():
    problem = world()
    lab = LawLab(problem)
    optimum, least = best(lab)
    weights, _ = start(problem, lab, reuse={"b": float(optimum[1]), "d": float(optimum[3])}, proxies=40)
    assert lab.truth(weights) <= least + 1e-3


def test_places_and_names_of_free_domains_do_not_matter():
    weights, _ = start(world())
    order = [2, 0, 3, 1]
    moved, _ = start(world(order))
    np.testing.assert_allclose(moved, weights[order], rtol=1e-6)


def test_all_domains_kept_leave_nothing_to_search():
    problem = world()
    lab = LawLab(problem)
    weights, mixer = start(problem, lab, reuse={"a": 1, "b": 2, "c": 3, "d": 4})
    np.testing.assert_allclose(weights, [0.1, 0.2, 0.3, 0.4])
    assert lab.orders == []
    assert mixer.purchases(problem).runs == ()


def test_the_virtual_domain_gets_a_name_of_its_own():
    problem = make_problem(domains=["reused", "b", "c"])
    assert collapse(problem, {"b": 1.0}, "x").problem.domains == ("reused_", "reused", "c")


@pytest.mark.parametrize(
    ("kept", "rule"),
    [
        ({"z": 1.0}, "mixing_laws: reuse names z; the training domains are a, b, c, d"),
        ({"a": 0.0}, "reuse needs shares of at least 0, one of them above"),
        ({"a": -1.0, "b": 2.0}, "reuse needs shares of at least 0"),
        ({"a": float("nan")}, "reuse needs shares of at least 0"),
    ],
)
def test_bad_shares_are_one_line(kept, rule):
    with pytest.raises(MixerError, match=rule) as caught:
        start(world(), reuse=kept)
    assert "\n" not in str(caught.value)


def test_proportions_that_run_out_of_data_are_refused_before_runs_are_bought():
    problem = world(steps=100, batch_size=10)
    scarce = {"b": 0.5, "d": 0.5}  # 0.11 epochs: 1100 of all examples, but 880 while b and d are drawn alike
    lab = LawLab(problem)
    with pytest.raises(MixerError, match=r"max_epochs=0.11 the data do not fill the run while b, d keep"):
        start(problem, lab, reuse=scarce, max_epochs=0.11)
    assert not lab.orders
    weights, _ = start(problem, reuse=scarce, max_epochs=0.13)
    assert np.all(weights <= 0.13 * problem.examples / 1000 + 1e-9)
    start(problem, reuse=scarce, max_epochs=0.05)  # less than the budget in any case: everything repeats alike
