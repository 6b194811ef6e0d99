"""The swarm: by hand, equivariant, within its caps, and what the strengths do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from mixer_fakes import make_problem

from mixers import swarm
from mixers.base import MixerError
from mixers.swarm import Swarm

TRAIN, TARGET = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.1, 0.2, 0.3, 0.4])
EXAMPLES = np.array([4000, 3000, 2000, 1000])
ORDER = [2, 0, 3, 1]


def problem(order=(0, 1, 2, 3), names="abcd", **budget):
    order = list(order)
    domains = [names[i] for i in order]
    return make_problem(train=TRAIN[order], target=TARGET[order], examples=EXAMPLES[order], domains=domains, **budget)


def test_draws_follow_the_domains_to_other_positions():
    drawn = Swarm().draw(problem(), 50, 0)
    np.testing.assert_array_equal(Swarm().draw(problem(ORDER), 50, 0), drawn[:, ORDER])


def test_draws_are_the_same_under_other_names():
    np.testing.assert_array_equal(Swarm().draw(problem(names="zxba"), 50, 0), Swarm().draw(problem(), 50, 0))


def test_between_equal_domains_names_decide():
    even = {"train": (0.25,) * 4, "target": (0.25,) * 4, "examples": (500,) * 4}
    drawn = Swarm().draw(make_problem(domains="abcd", **even), 20, 0)
    np.testing.assert_array_equal(Swarm().draw(make_problem(domains="cadb", **even), 20, 0), drawn[:, ORDER])


def test_seeds_and_only_seeds_make_other_draws():
    first = Swarm().draw(problem(), 30, 0)
    np.testing.assert_array_equal(Swarm().draw(problem(), 30, 0), first)
    assert not np.allclose(Swarm().draw(problem(), 30, 1), first)
    assert not np.allclose(Swarm().draw(problem(seed=1), 30, 0), first)


def test_every_draw_is_a_mixture_between_floor_and_cap():
    drawn = Swarm(floor=0.05, prior_cap=2.0).draw(problem(), 200, 0)
    np.testing.assert_allclose(drawn.sum(axis=1), 1.0)
    assert np.all(drawn <= np.minimum(2.0 * TRAIN, 1.0) + 1e-9)
    assert drawn[drawn > 0.0].min() >= 0.05
    assert np.any(drawn == 0.0)


def test_a_mixture_below_the_floor_everywhere_is_kept():
    drawn = Swarm(floor=0.4, strengths=(1e4,)).draw(
        problem(), 10, 0, new=False
    )  # close to the tempered shares, 0.33 at most
    np.testing.assert_allclose(drawn.max(axis=1), 1.0)  # the largest share is left and gets all


def test_other_caps_come_on_top_and_go_first_where_both_leave_nothing():
    caps = np.array([0.35, 1.0, 1.0, 1.0])
    assert Swarm().draw(problem(), 100, 0, caps=caps)[:, 0].max() <= 0.35 + 1e-9
    tight = Swarm(prior_cap=1.0)
    np.testing.assert_allclose(tight.caps(problem(), caps), caps)
    np.testing.assert_allclose(tight.draw(problem(), 5, 0), np.tile(TRAIN, (5, 1)), err_msg="only the prior is left")


def test_caps_that_reject_nearly_everything_are_still_kept():
    caps = np.array([0.3, 0.3, 0.3, 0.15])
    drawn = Swarm(strengths=(0.1,), temperature=0.0).draw(problem(), 300, 0, caps=caps, new=False)
    assert drawn.shape == (300, 4)
    assert np.all(drawn <= caps + 1e-9)
    np.testing.assert_allclose(drawn.sum(axis=1), 1.0)


def test_no_mixture_comes_twice():
    sparse = Swarm(strengths=(0.1,))
    drawn = sparse.draw(problem(), 200, 0)
    assert len(np.unique(np.round(drawn / sparse.floor), axis=0)) == 200
    many = sparse.draw(problem(), 2000, 0, new=False)
    assert len(np.unique(many, axis=0)) < 2000, "without the rule single domains repeat"


def test_a_domain_without_data_gets_nothing():
    empty = make_problem(train=(0.6, 0.4, 0.0), target=(0.2, 0.3, 0.5), examples=(60, 40, 0))
    drawn = Swarm().draw(empty, 40, 0)
    assert np.all(drawn[:, 2] == 0.0)
    np.testing.assert_allclose(drawn.sum(axis=1), 1.0)


def test_small_strengths_give_few_domains_and_temperature_raises_rare_ones():
    def mean(**fields):
        return Swarm(**fields).draw(problem(), 2000, 0, new=False)

    assert mean(strengths=(0.1,)).max(axis=1).mean() > 0.8 > 0.5 > mean(strengths=(50.0,)).max(axis=1).mean()
    np.testing.assert_allclose(mean(temperature=1.0, prior_cap=None).mean(axis=0), TRAIN, atol=0.03)
    even = np.sqrt(TRAIN) / np.sqrt(TRAIN).sum()
    np.testing.assert_allclose(mean(temperature=0.5, prior_cap=None).mean(axis=0), even, atol=0.03)


CLOSE = {
    "strengths": (1e7,),
    "floor": 0.0,
    "temperature": 1.0,
    "prior_cap": None,
}  # draws as near as can be to the prior
HOLED = {"train": (0.5, 0.3, 0.2, 0.0), "examples": (5000, 3000, 2000, 0)}


@pytest.mark.parametrize(
    ("prior", "expected"),
    [
        ("train", (0.5, 0.3, 0.2, 0.0)),
        ("uniform", (1 / 3, 1 / 3, 1 / 3, 0.0)),
        ("target", (0.25, 0.0, 0.75, 0.0)),  # 0.1 and 0.3 of a target half of which lies on domains without examples
    ],
)
def test_draws_are_around_the_prior_and_absent_domains_get_nothing(prior, expected):
    given = make_problem(**HOLED, target=(0.1, 0.3, 0.4, 0.2), domains="abcd", targets="acdx")
    drawn = Swarm(prior=prior, **CLOSE).draw(given, 50, 0, new=False)
    np.testing.assert_allclose(drawn, np.tile(expected, (50, 1)), atol=2e-3)
    assert np.all(drawn[:, 3] == 0.0)
    caps = np.array([0.34, 1.0, 0.7, 1.0])  # hardly a draw is below them
    assert np.all(Swarm(prior=prior).draw(given, 50, 0, caps=caps)[:, 3] == 0.0)


@pytest.mark.parametrize("prior", ["uniform", "target"])
def test_draws_around_every_prior_follow_the_domains_and_are_tempered(prior):
    drawn = Swarm(prior=prior).draw(problem(), 50, 0)
    assert not np.allclose(drawn, Swarm().draw(problem(), 50, 0))
    np.testing.assert_array_equal(Swarm(prior=prior).draw(problem(ORDER), 50, 0), drawn[:, ORDER])
    np.testing.assert_array_equal(Swarm(prior=prior).draw(problem(names="zxba"), 50, 0), drawn)
    half = Swarm(prior=prior, **{**CLOSE, "temperature": 0.5}).draw(problem(), 20, 0, new=False)
    root = np.ones(4) if prior == "uniform" else np.sqrt(TARGET)
    np.testing.assert_allclose(half, np.tile(root / root.sum(), (20, 1)), atol=2e-3)


@pytest.mark.parametrize("prior", ["uniform", "target"])
def test_the_cap_is_a_multiple_of_the_training_share_whatever_the_prior(prior):
    drawn = Swarm(prior=prior, prior_cap=2.0).draw(problem(), 200, 0)
    assert np.all(drawn <= 2.0 * TRAIN + 1e-9)
    assert drawn[:, 3].max() > 0.19, "0.1 of the training data, and more than half of that by either prior"


def test_a_target_prior_that_leaves_nothing_to_draw_is_one_line():
    around = Swarm(prior="target", mixer="regmix")
    for targets, count in (("wxyz", 0), ("axyz", 1)):
        apart = make_problem(train=TRAIN, target=TARGET, domains="abcd", targets=targets)
        with pytest.raises(
            MixerError, match=rf"^regmix: prior=target needs two training .* not {count}; use prior=train"
        ):
            around.draw(apart, 10, 0)
    rare = make_problem(train=(0.97, 0.02, 0.01), target=(0.5, 0.5), domains="abc", targets="bc")
    rule = r"^regmix: the caps leave 0\.45 of a mixture to the domains of prior=target; raise prior_cap"
    with pytest.raises(MixerError, match=rule):
        around.draw(rare, 10, 0)


def test_repetition_caps_by_hand():
    small = problem(steps=500, batch_size=10)  # 5,000 examples are served
    np.testing.assert_allclose(swarm.repetition_caps(small, 1.0), [0.8, 0.6, 0.4, 0.2])
    np.testing.assert_allclose(swarm.repetition_caps(small, 2.0), [1.0, 1.0, 0.8, 0.4])
    np.testing.assert_allclose(swarm.repetition_caps(small, None), 1.0)
    np.testing.assert_allclose(swarm.repetition_caps(small, 0.1), TRAIN, err_msg="more than there is: all as often")


@pytest.mark.parametrize(
    ("weights", "caps", "expected"),
    [
        ([0.0, 0.0, 1.0], [1.0, 1.0, 0.3], [0.4375, 0.2625, 0.3]),  # the rest by training shares, 5 : 3
        ([0.0, 0.0, 1.0], [0.4, 1.0, 0.3], [0.4, 0.3, 0.3]),
        ([0.0, 0.4, 0.6], [1.0, 1.0, 0.3], [0.0, 0.7, 0.3]),  # those above 0 have room
    ],
)
def test_what_a_mixture_has_no_room_for_goes_to_the_others(weights, caps, expected):
    found = swarm.within(np.array(weights), np.array([0.5, 0.3, 0.2]), np.array(caps))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_canonical_keeps_the_problem_and_sorts_by_size():
    home = swarm.canonical(problem(ORDER))
    assert home.domains == ("d", "c", "b", "a")
    np.testing.assert_array_equal(home.examples, [1000, 2000, 3000, 4000])
    np.testing.assert_array_equal(home.train_shares, [0.1, 0.2, 0.3, 0.4])
    assert replace(home, domains=("a",)).targets == problem(ORDER).targets


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"prior": "natural"}, "prior is train, uniform or target, not natural"),
        ({"temperature": 1.5}, r"temperature must be in \[0, 1\], not 1.5"),
        ({"strengths": ()}, "strengths must be one or more positive numbers"),
        ({"strengths": (1.0, 0.0)}, "strengths must be one or more positive numbers"),
        ({"floor": 0.7}, r"floor must be in \[0, 0.5\)"),
        ({"prior_cap": 0.5}, "prior_cap must be finite and at least 1, or none, not 0.5"),
    ],
)
def test_bad_settings_are_one_line(fields, rule):
    with pytest.raises(MixerError, match=f"^regmix: {rule}"):
        Swarm(**fields, mixer="regmix").checked()


def test_what_was_not_tried_yet_by_hand():
    mixtures = np.array([[0.5, 0.5], [0.55, 0.45], [0.9, 0.1]])
    np.testing.assert_array_equal(swarm.untried(mixtures, np.array([[0.5, 0.5]]), 0.01), mixtures[1:])
    np.testing.assert_array_equal(swarm.untried(mixtures, np.array([[0.5, 0.5]]), 0.06), mixtures[2:])
    np.testing.assert_array_equal(swarm.untried(mixtures, mixtures, 0.01), mixtures)


def test_spaced_mixtures_are_the_first_that_are_apart():
    mixtures = np.array([[0.5, 0.5], [0.505, 0.495], [0.6, 0.4], [0.52, 0.48], [0.0, 1.0]])
    np.testing.assert_array_equal(swarm.spaced(mixtures, 3, 0.01), mixtures[[0, 2, 3]])
    np.testing.assert_array_equal(swarm.spaced(mixtures, 9, 0.01), mixtures[[0, 2, 3, 4]])
