"""Synthetic ratio in worlds where the law of every ratio is known."""

from __future__ import annotations

import json

import numpy as np
import pytest
from mixer_fakes import frozen, make_problem

from mixers.base import MixerError, RunResult
from mixers.synthetic_ratio import SyntheticRatio

TRAIN, EXAMPLES = np.array([0.4, 0.3, 0.2, 0.1]), np.array([4000, 3000, 2000, 1000])
NAMES, TARGETS, TARGET = "abcd", ("x", "y"), np.array([0.25, 0.75])
BUDGET = {"steps": 1000, "batch_size": 4}
REST = np.array([4, 3, 2]) / 9.0


def floor(ratio):
    return 2.0 + (ratio - 0.4) ** 2


def scale(ratio):
    return 4.0 - 2.0 * ratio


def law(ratio, budget):
    """Much of the domain is best at small budgets, 0.4 of it at infinite ones."""
    return floor(ratio) + scale(ratio) * budget**-0.5


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


class Ratios:
    """Sells runs whose losses follow the law of the designated domain's share."""

    def __init__(self, problem, domain="d", *, noise=0.0, scale=1.0, diverged=()):
        self.problem, self.domain, self.noise, self.scale = problem, domain, noise, scale
        self.diverged, self.orders = diverged, []

    def train(self, runs):
        self.orders += runs
        found = []
        for run in runs:
            ratio = float(run.mixture.weights[self.problem.domains.index(self.domain)])
            loss = law(ratio, run.steps * self.problem.batch_size)
            rng = np.random.default_rng([run.steps, round(1e6 * ratio)])
            loss = self.scale * (loss + self.noise * rng.normal())
            lost = any(abs(ratio - r) < 1e-9 for r in self.diverged)
            both = np.full(2, np.nan) if lost else np.array([loss + 3.0, loss - 1.0])
            found.append(RunResult(steps=(run.steps,), losses=frozen([both])))
        return found


def start(problem, lab=None, **fields):
    mixer = SyntheticRatio(SyntheticRatio.Config(**fields))
    return mixer.start(problem, Ratios(problem) if lab is None else lab).weights, mixer


def test_the_best_ratio_at_the_main_run_s_budget_is_taken():
    weights, mixer = start(world())
    ratios = np.array([0.0, 1 / 3, 2 / 3, 1.0])
    best = ratios[law(ratios, 4000.0).argmin()]
    assert best == 1 / 3
    np.testing.assert_allclose(weights, [*(2 / 3 * REST), 1 / 3])
    report = mixer.report()
    assert (report["domain"], report["ratio"], report["runs"], report["budget"]) == ("d", 1 / 3, 16, 4000.0)
    np.testing.assert_allclose([each["predicted"] for each in report["laws"]], law(ratios, 4000.0), rtol=1e-6)
    np.testing.assert_allclose([each["curve"]["floor"] for each in report["laws"]], floor(ratios), rtol=1e-5)
    assert [each["leads"] for each in report["laws"]] == [0.0, 1.0, 0.0, 0.0]
    json.dumps(report, allow_nan=False)


def test_the_best_ratio_is_a_function_of_the_budget():
    # 1/3 and 2/3 meet where (1/15)^2 + (4 - 2/3) x = (4/15)^2 + (4 - 4/3) x: x = 1/10, at 100 examples.
    _, mixer = start(world(), smallest=0.005, largest=0.1)
    report = mixer.report()
    course = [(each["budget"], each["ratio"]) for each in report["by_budget"]]
    assert [round(b, 3) for b in (course[0][0], course[-1][0])] == [20.0, 16000.0]
    assert all(ratio == (2 / 3 if budget < 100.0 else 1 / 3) for budget, ratio in course)
    pair = next(p for p in report["crossings"] if {p["ahead_at_last"], p["behind"]} == {"0.3333", "0.6667"})
    np.testing.assert_allclose(pair["costs"], [100.0], rtol=1e-3)
    assert start(world(), smallest=0.005, largest=0.1, budget=0.01)[1].report()["ratio"] == 2 / 3


def test_a_parabola_finds_the_ratio_between_the_grid_s():
    weights, mixer = start(world(), refine="parabola")
    # The predicted loss is a parabola of the ratio: 2 (r - 0.4) = 2 / sqrt(4000).
    np.testing.assert_allclose(mixer.report()["ratio"], 0.4 + 1.0 / np.sqrt(4000.0), rtol=1e-4)
    np.testing.assert_allclose(weights[3], mixer.report()["ratio"])


def test_what_is_declared_is_bought():
    problem, lab = world(), Ratios(world())
    _, mixer = start(problem, lab)
    declared = mixer.purchases(problem).runs
    assert len(declared) == len(lab.orders) == 16
    assert [run.steps for run in declared[:4]] == [50, 100, 200, 400]
    for a, b in zip(declared, lab.orders, strict=True):
        assert (a.steps, a.subsample) == (b.steps, 1.0)
        np.testing.assert_array_equal(a.mixture.weights, b.mixture.weights)
    shares = [run.subsample for run in SyntheticRatio(SyntheticRatio.Config(match_repetition=True))._runs(problem)[:4]]
    np.testing.assert_allclose(shares, [0.05, 0.1, 0.2, 0.4])


def test_the_domain_is_the_smallest_one_or_the_named_one():
    order = [2, 0, 3, 1]
    assert start(world(order), Ratios(world(order)))[1].report()["domain"] == "d"
    lab = Ratios(world(), "b")
    weights, _ = start(world(), lab, domain="b")
    np.testing.assert_allclose(weights, [0.4 / 0.7 * 2 / 3, 1 / 3, 0.2 / 0.7 * 2 / 3, 0.1 / 0.7 * 2 / 3])
    with pytest.raises(MixerError, match="there is no domain 'q'; set domain to one of a, b, c, d"):
        start(world(), object(), domain="q")


def test_order_and_names_do_not_matter():
    order = [2, 0, 3, 1]
    weights, mixer = start(world(), Ratios(world(), noise=0.05), refine="parabola")
    moved, other = start(world(order), Ratios(world(order), noise=0.05), refine="parabola")
    np.testing.assert_allclose(moved, weights[order], rtol=1e-6)
    assert other.report()["ratio_interval"] == pytest.approx(mixer.report()["ratio_interval"], rel=1e-5)
    renamed = world(names="zxba")
    np.testing.assert_allclose(start(renamed, Ratios(renamed, "a", noise=0.05), refine="parabola")[0], weights)


@pytest.mark.parametrize("refine", ["grid", "parabola"])
def test_losses_times_a_constant_change_nothing(refine):
    once, times = (start(world(), Ratios(world(), noise=0.05, scale=s), refine=refine)[0] for s in (1.0, 8.0))
    np.testing.assert_allclose(times, once, rtol=1e-9)


def test_noise_widens_the_interval():
    quiet, loud = (start(world(), Ratios(world(), noise=s), refine="parabola")[1].report() for s in (1e-4, 0.03))
    (a, b), (c, d) = quiet["ratio_interval"], loud["ratio_interval"]
    assert b - a < 0.05 < d - c


def test_a_ratio_that_diverged_is_no_candidate_and_all_of_them_are_an_error():
    for refine in ("grid", "parabola"):
        report = start(world(), Ratios(world(), diverged=(1 / 3,)), refine=refine)[1].report()
        assert report["ratio"] == 2 / 3
        assert (report["laws"][1]["curve"], report["laws"][1]["predicted"]) == (None, None)
        json.dumps(report, allow_nan=False)
    with pytest.raises(MixerError, match="no proxy run has a finite validation loss"):
        start(world(), Ratios(world(), diverged=(0.0, 1 / 3, 2 / 3, 1.0)))


def test_caps_on_repetition_bound_the_ratio():
    # Once through 1000 examples is a quarter of the main run's 4000.
    assert start(world(), max_epochs=1.0)[1].report()["ratio"] == 0.0
    assert start(world(), max_epochs=1.0, refine="parabola")[1].report()["ratio"] == 0.0
    assert start(world(), max_epochs=1.5)[1].report()["ratio"] == 1 / 3
    found = start(world(), max_epochs=1.5, refine="parabola")[1].report()["ratio"]
    assert found == pytest.approx(0.375), "the parabola's least point is above the cap"
    assert start(world(), max_epochs=1.0, ratios=(1 / 3, 2 / 3))[1].report()["ratio"] == pytest.approx(0.25)


def test_absent_domains_and_single_ones():
    absent = make_problem(train=(0.6, 0.4, 0.0), target=TARGET, examples=(600, 400, 0), targets=TARGETS, **BUDGET)
    weights, mixer = start(absent, Ratios(absent, "d1"))
    assert mixer.report()["domain"] == "d1"
    np.testing.assert_allclose(weights, [2 / 3, 1 / 3, 0.0])
    with pytest.raises(MixerError, match="domain 'd2' has no training examples"):
        start(absent, object(), domain="d2")
    for train in ((1.0,), (1.0, 0.0)):
        single = make_problem(train=train, target=TARGET, targets=TARGETS)
        assert mixer.purchases(single).runs == ()
        np.testing.assert_array_equal(mixer.start(single, object()).weights, train)


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"ratios": (0.5,)}, r"ratios must be two or more in \[0, 1\], ascending, not \[0.5\]"),
        ({"ratios": (0.5, 0.0)}, r"ratios must be two or more in \[0, 1\], ascending, not \[0.5, 0.0\]"),
        ({"ratios": (0.0, 1.5)}, r"ratios must be two or more in \[0, 1\], ascending, not \[0.0, 1.5\]"),
        ({"budgets": 2}, "budgets must be at least 4, one more than a curve's numbers, not 2"),
        ({"largest": 1.5}, "smallest and largest must be 0 < smallest < largest <= 1, not 0.05 and 1.5"),
        ({"budget": -1.0}, "budget must be positive and finite, not -1.0"),
        ({"refine": "spline"}, "refine is grid or parabola, not spline"),
        ({"max_epochs": 0.0}, "max_epochs must be positive and finite, or none, not 0.0"),
        ({"draws": 0}, "draws must be at least 1, not 0"),
        ({"validation_examples": -1}, "validation_examples must be at least 0, not -1"),
    ],
)
def test_bad_settings_are_one_line(fields, rule):
    with pytest.raises(MixerError, match=f"^synthetic_ratio: {rule}$"):
        SyntheticRatio.Config(**fields)
