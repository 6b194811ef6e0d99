"""Effective data and SFT-DMO: the law by hand, the fit, the runs, the optimum of a world that follows the law."""

from __future__ import annotations

import json

import numpy as np
import pytest
from mixer_fakes import frozen, make_problem

from mixers import effective_data
from mixers.base import MixerError, RunResult
from mixers.effective_data import EffectiveData
from mixers.sft_dmo import SftDmo
from mixers.simplex import total_variation

TRAIN = np.array([0.4, 0.3, 0.2, 0.1])
LAW = EffectiveData(
    c=np.array([4.0, 6.0, 3.0, 5.0]),
    k=np.array([0.5, 2.0, 0.1, 3.0]),
    alpha=np.array([0.8, 0.6, 1.0, 0.5]),
    beta=np.array([0.3, 0.5, 0.2, 0.7]),
    e=np.array([1.0, 0.5, 1.5, 0.2]),
    own=np.arange(4),
)
LEVELS = (1 / 3, 1 / 2, 2.0, 3.0)
LEVELS_RULE = "levels must be two or more different positive numbers, none of them 1: not"


def world(order=(0, 1, 2, 3), names="abcd", **changes):
    order, targets = list(order), [1, 3, 0, 2]
    given = {"targets": [names[i] for i in targets], "target": np.full(4, 0.25), **changes}
    return make_problem(
        train=TRAIN[order],
        examples=10_000 * TRAIN[order],
        domains=[names[i] for i in order],
        **{"steps": 1000, "batch_size": 12, **given},
    )


class Shop:
    """Sells runs whose losses follow ``LAW`` in their amounts of examples, [m] by identity times ``each``."""

    def __init__(self, problem, names="abcd", *, noise=0.0, scale=1.0, missing=(), diverged=(), each=1.0):
        self.problem, self.names, self.noise, self.scale = problem, names, noise, scale
        self.missing, self.diverged, self.each, self.orders = missing, diverged, each, []

    def losses(self, mixture, steps):
        """[n] by target."""
        weights = np.array([mixture[self.problem.domains.index(name)] for name in self.names])
        law = self.scale * LAW.predict((weights * self.each * steps * self.problem.batch_size)[None])[0]
        return np.array([law[self.names.index(t)] if t in self.names else 1.0 for t in self.problem.targets])

    def train(self, runs):
        self.orders += runs
        rows = np.array([self.losses(run.mixture.weights, run.steps) for run in runs])
        rows = rows + self.scale * self.noise * np.random.default_rng(5).normal(size=rows.shape)
        rows[:, [self.problem.targets.index(name) for name in self.missing]] = np.nan
        rows[list(self.diverged)] = np.nan
        return [RunResult(steps=(run.steps,), losses=frozen([row])) for run, row in zip(runs, rows, strict=True)]

    def truth(self, mixture):
        return float(self.losses(np.asarray(mixture), self.problem.steps) @ self.problem.target_shares)


def best(shop):
    """The least weighted loss of any mixture, from many random ones around ever better ones."""
    rng, centre, value = np.random.default_rng(0), np.full(4, 0.25), np.inf
    for strength in (4.0, 30.0, 300.0, 3e3, 3e4):
        drawn = rng.dirichlet(np.maximum(strength * centre, 0.05), 1500)
        values = [shop.truth(mixture) for mixture in drawn]
        centre, value = drawn[int(np.argmin(values))], min(value, *values)
    return centre, value


def start(problem, shop=None, **fields):
    mixer = SftDmo(SftDmo.Config(**{"bootstrap": 0, **fields}))
    return mixer.start(problem, Shop(problem) if shop is None else shop).weights, mixer


def design(n=100.0, m=4):
    mixtures, lengths, moved = effective_data.moves(np.full(m, n), LEVELS, same_length=False)
    return mixtures * (m * n * lengths)[:, None], moved


def test_the_law_by_hand():
    law = EffectiveData(
        c=np.array([6.0]), k=np.array([2.0]), alpha=np.array([0.5]), beta=np.array([0.5]), e=np.array([1.0]),
        own=np.array([1]),
    )  # fmt: skip
    # 1 + 6 / sqrt(30 + 2 sqrt(9)) with 30 of its own and 4 + 5 others
    assert law.predict(np.array([[4.0, 30.0, 5.0]]))[0, 0] == pytest.approx(2.0)


def test_the_gradient_is_that_of_the_law():
    amounts, weights = np.array([200.0, 50.0, 300.0, 100.0]), np.array([0.1, 0.2, 0.3, 0.4])
    steps = 1e-3 * np.eye(4)
    by_hand = [(LAW.predict((amounts + s)[None]) - LAW.predict((amounts - s)[None]))[0] @ weights / 2e-3 for s in steps]
    np.testing.assert_allclose(LAW.gradient(amounts, weights), by_hand, rtol=1e-5)
    at_an_end = LAW.gradient(np.array([650.0, 0.0, 0.0, 0.0]), weights)
    assert np.all(np.isfinite(at_an_end))


def test_the_runs_move_one_domain_each():
    amounts, moved = design(n=6.0, m=2)
    np.testing.assert_allclose(amounts, [[6, 6], [2, 6], [3, 6], [12, 6], [18, 6], [6, 2], [6, 3], [6, 12], [6, 18]])
    np.testing.assert_array_equal(moved, [-1, 0, 0, 0, 0, 1, 1, 1, 1])
    mixtures, lengths, _ = effective_data.moves(np.array([6.0, 6.0]), (2.0, 3.0), same_length=True)
    np.testing.assert_array_equal(lengths, 1.0)
    np.testing.assert_allclose(mixtures[2], [0.75, 0.25])


def test_clean_runs_give_the_parameters():
    amounts, moved = design()
    found = effective_data.fit(amounts, LAW.predict(amounts), np.arange(4), moved)
    for name in ("c", "k", "alpha", "beta", "e"):
        np.testing.assert_allclose(getattr(found, name), getattr(LAW, name), rtol=1e-3, err_msg=name)


def test_transferred_data_are_at_most_the_raw_amount():
    amounts, moved = design()
    rest = amounts.sum(axis=1)[:, None] - amounts
    for seed in range(5):
        noise = 0.02 * np.random.default_rng(seed).normal(size=amounts.shape)
        found = effective_data.fit(amounts, LAW.predict(amounts) + noise, np.arange(4), moved)
        assert np.all(found.k * rest**found.alpha <= rest * (1 + 1e-9))
        assert np.all((found.alpha >= 0) & (found.alpha <= 1) & (found.e >= 0) & (found.c >= 0))


def test_losses_times_a_constant_and_other_units_give_the_same_law():
    amounts, moved = design()
    y = LAW.predict(amounts) + 0.005 * np.random.default_rng(1).normal(size=amounts.shape)
    one = effective_data.fit(amounts, y, np.arange(4), moved, huber=0.01)
    four = effective_data.fit(amounts, 4.0 * y, np.arange(4), moved, huber=0.04)
    units = effective_data.fit(20.0 * amounts, y, np.arange(4), moved, huber=0.01)
    np.testing.assert_allclose(four.predict(3 * amounts), 4.0 * one.predict(3 * amounts), rtol=1e-4)
    np.testing.assert_allclose(units.predict(60 * amounts), one.predict(3 * amounts), rtol=1e-4)


def test_losses_on_which_nothing_hangs_are_a_constant():
    amounts, moved = design()
    flat = effective_data.fit(amounts, np.full((len(amounts), 1), 2.5), np.array([2]), moved)
    np.testing.assert_allclose(flat.predict(amounts), 2.5)
    worse = effective_data.fit(amounts, 0.01 * amounts[:, :1] + 1.0, np.array([0]), moved)
    own = worse.predict(amounts[:5])[:, 0]
    assert np.all(np.diff(own[np.argsort(amounts[:5, 0])]) <= 0.0), "more data never raises a loss by this law"
    np.testing.assert_allclose(worse.predict(amounts[5:]), 2.0, atol=0.05)


def test_it_finds_the_optimum_of_a_world_that_follows_the_law():
    shop = Shop(world())
    weights, mixer = start(shop.problem, shop)
    optimum, least = best(shop)
    assert shop.truth(weights) <= least + 1e-4
    assert total_variation(weights, optimum) < 0.03
    assert total_variation(weights, TRAIN) > 0.1
    report = mixer.report()
    assert report["predicted"] == pytest.approx(least, abs=2e-3)
    assert report["predicted_natural"] == pytest.approx(shop.truth(TRAIN), abs=2e-3)
    assert report["longer"] == pytest.approx(12_000 / (150 * 12))


def test_noise_costs_little_and_the_bootstrap_shows_it():
    def play(noise):
        shop = Shop(world(), noise=noise)
        weights, mixer = start(shop.problem, shop, bootstrap=10)
        return shop.truth(weights) - best(shop)[1], mixer.report()

    (_, clean), (regret, noisy) = play(0.0), play(0.005)
    assert regret < 0.05
    assert clean["bootstrap"]["fits"] == noisy["bootstrap"]["fits"] == 10
    assert clean["bootstrap"]["moved"] < 0.01 < noisy["bootstrap"]["moved"]
    beta, low, high = noisy["laws"]["a"]["beta"]
    assert low < high
    assert beta > 0
    json.dumps(noisy, allow_nan=False)


def test_the_order_and_the_names_of_the_domains_do_not_matter():
    order = [2, 0, 3, 1]
    weights, _ = start(world(), Shop(world(), noise=0.003))
    moved, _ = start(world(order), Shop(world(order), noise=0.003))
    np.testing.assert_allclose(moved, weights[order], rtol=1e-6)
    names = "zxba"
    renamed, _ = start(world(names=names), Shop(world(names=names), names, noise=0.003))
    np.testing.assert_allclose(renamed, weights, rtol=1e-6)


def test_it_buys_what_it_declared_at_the_price_in_its_docstring():
    for same_length, expected in ((False, 0.1 * (1 + 4 * 3 + 35 / 6)), (True, 0.1 * 17)):
        shop = Shop(world(steps=12_000))
        _, mixer = start(shop.problem, shop, match_repetition=True, same_length=same_length)
        declared = mixer.purchases(shop.problem).runs
        assert len(shop.orders) == len(declared) == 17
        for bought, promised in zip(shop.orders, declared, strict=True):
            assert (bought.steps, bought.subsample) == (promised.steps, promised.steps / 12_000)
            np.testing.assert_array_equal(bought.mixture.weights, promised.mixture.weights)
        assert sum(run.steps for run in declared) == pytest.approx(expected * 12_000, rel=1e-3)
        np.testing.assert_allclose(declared[0].mixture.weights, 0.25)


def test_runs_of_one_length_give_the_law_too():
    shop = Shop(world())
    weights, _ = start(shop.problem, shop, same_length=True)
    assert {run.steps for run in shop.orders} == {100}
    assert shop.truth(weights) <= best(shop)[1] + 2e-3


def test_units_count_by_the_length_of_an_example():
    problem = world()
    long = np.array([400.0, 100.0, 100.0, 25.0])
    problem = make_problem(
        train=TRAIN, target=np.full(4, 0.25), examples=problem.examples, domains="abcd", steps=1000, batch_size=12
    )
    object.__setattr__(problem, "units", (problem.examples * long).astype(np.int64))
    shop = Shop(problem, each=long)
    weights, _ = start(problem, shop, count="units")
    base = shop.orders[0].mixture.weights
    np.testing.assert_allclose(base * long, base[0] * long[0])
    assert shop.truth(weights) <= best(shop)[1] + 2e-3
    by_examples, _ = start(problem, Shop(problem, each=long))
    assert total_variation(weights, by_examples) > 0.01


def test_target_shares_weigh_and_equal_does_not():
    heavy = world(target=(0.85, 0.05, 0.05, 0.05))  # of b
    weights, _ = start(heavy)
    equal, _ = start(heavy, shares="equal")
    np.testing.assert_allclose(equal, start(world())[0], atol=1e-6)
    assert weights[1] > equal[1] + 0.1


def test_caps_on_repetition_hold():
    problem = world()  # 12,000 of 10,000 examples
    free, _ = start(problem)
    capped, _ = start(problem, max_epochs=1.5)
    caps = 1.5 * 10_000 * TRAIN / 12_000
    assert np.any(free > caps + 0.01)
    assert np.all(capped <= caps + 1e-9)


def test_targets_without_losses_or_domains_and_diverged_runs():
    shop = Shop(world(), missing="d", diverged=(0, 3))
    weights, mixer = start(shop.problem, shop)
    assert mixer.report()["skipped_targets"] == ["d"]
    assert (mixer.report()["runs"], mixer.report()["runs_without_losses"]) == (15, 2)
    assert weights[3] < 0.01, "no law is left that wants more of d"
    far = world(targets=["a", "x", "y", "b"])
    weights, mixer = start(far)
    assert mixer.report()["skipped_targets"] == ["x", "y"]
    assert weights[0] + weights[1] > 0.98
    shop = Shop(far)
    with pytest.raises(MixerError, match="no training domain is a target"):
        start(world(targets="wxyz"), shop)
    assert shop.orders == []
    with pytest.raises(MixerError, match="sft_dmo: 4 of 17 runs have finite losses, 6 are needed"):
        start(world(), Shop(world(), diverged=range(13)))
    with pytest.raises(MixerError, match="no training domain has a share of the target and a finite loss"):
        start(world(), Shop(world(), missing="abcd"))


def test_where_the_minimum_is_not_found_it_says_so(monkeypatch):
    def fails(gradient, prior, **how):
        raise MixerError("too far")

    monkeypatch.setattr(effective_data.convex, "solve", fails)
    with pytest.raises(MixerError, match="sft_dmo: the laws have no minimum that can be found; make runs longer"):
        start(world())


def test_one_domain_buys_nothing_and_two_are_enough():
    single = make_problem(train=(1.0,), target=(1.0,), examples=(50,))
    weights, mixer = start(single, object())
    np.testing.assert_array_equal(weights, [1.0])
    assert mixer.purchases(single).runs == ()
    assert mixer.report() == {"runs": 0}
    two = make_problem(train=(0.5, 0.5), target=(0.5, 0.5), domains="ab", steps=1000, batch_size=12)

    class Two(Shop):
        def losses(self, mixture, steps):
            return LAW.predict(np.array([[*mixture, 0.0, 0.0]]) * steps * 12)[0][:2]

    assert len(SftDmo().purchases(two).runs) == 9
    weights, _ = start(two, Two(two))
    assert 0.0 < weights[0] < 1.0


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"levels": (2.0,)}, rf"{LEVELS_RULE} \[2.0\]"),
        ({"levels": (1.0, 2.0)}, rf"{LEVELS_RULE} \[1.0, 2.0\]"),
        ({"count": "bytes"}, "count is examples or units, not bytes"),
        ({"shares": "mine"}, "shares is target or equal, not mine"),
        ({"max_epochs": 0.0}, "max_epochs must be positive and finite, or none, not 0.0"),
        ({"huber": 0.0}, "huber must be positive and finite, not 0.0"),
        ({"starts": 0}, "starts must be at least 1, not 0"),
        ({"bootstrap": -1}, "bootstrap must be at least 0, not -1"),
        ({"proxy_share": 0.0}, r"proxy_share must be in \(0, 1\], not 0.0"),
    ],
)
def test_bad_settings_are_one_line(fields, rule):
    with pytest.raises(MixerError, match=f"^sft_dmo: {rule}$"):
        SftDmo.Config(**fields)


@pytest.mark.parametrize(
    ("fields", "levels", "message"),
    [
        ({"target": (0.5, 0.5)}, (0.5, 2.0), "sft_dmo: levels make 5 runs, 6 are needed; add levels"),
        ({"target": (0.0, 1.0), "targets": ("d0", "x")}, (0.5, 2.0, 3.0), "sft_dmo: no training domain is a target"),
    ],
)
def test_what_cannot_be_fitted_is_refused_before_anything_is_bought(fields, levels, message):
    class Unasked:
        def train(self, runs):
            raise AssertionError("bought")

    with pytest.raises(MixerError, match=message):
        SftDmo(SftDmo.Config(levels=levels)).start(make_problem(train=(0.5, 0.5), **fields), Unasked())
