"""ADMIRE: Gaussian processes over mixtures and sizes, what is run next by them, and which mixture is the answer."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from mixer_fakes import frozen, make_problem
from offline_worlds import EXAMPLES, TRAIN, LawLab, best, world

from mixers import gaussian, swarm
from mixers.admire import APART, Admire
from mixers.base import MixerError, RunResult
from mixers.gaussian import Settings

pytest.importorskip("botorch")
ORDER = [2, 0, 3, 1]
QUICK = {"candidates": 128, "answers": 512, "values": 4, "iterations": 20}


def start(problem, lab=None, **fields):
    mixer = Admire(Admire.Config(**{**QUICK, **fields}))
    weights = mixer.start(problem, LawLab(problem) if lab is None else lab).weights
    return weights, mixer


class SizedLab(LawLab):
    """Small models have higher losses, and a bill of the square of their size; every call's sizes are kept."""

    price = staticmethod(lambda size: 100.0 * size**2)

    def __init__(self, problem, **kwargs):
        super().__init__(problem, **kwargs)
        self.sizes = []

    def train(self, runs):
        self.sizes.append([run.size for run in runs])
        found = super().train(runs)
        return [
            RunResult(steps=r.steps, losses=frozen(r.losses + 0.3 * (1.0 - run.size)), flops=self.price(run.size))
            for r, run in zip(found, runs, strict=True)
        ]


def test_it_comes_nearer_to_the_optimum_than_the_swarm_it_began_with():
    lab = LawLab(world())
    weights, mixer = start(lab.problem, lab)
    least = best(lab)[1]
    began = min(lab.truth(run.mixture.weights) for run in lab.orders[:5])
    assert lab.truth(weights) - least < 0.03
    assert began - least > 0.1
    assert mixer.report()["left_out"]["spearman"] > 0.8


def test_the_answer_is_the_least_mean_and_no_run():
    lab = LawLab(world())
    weights, mixer = start(lab.problem, lab, proxies=10)
    back = [3, 2, 1, 0]  # domains d, c, b, a are in the order of their sizes
    x = np.stack([run.mixture.weights for run in lab.orders])
    y = (lab.losses(x) @ lab.problem.target_shares)[:, None]
    process = mixer.fit(x[:, back], y)
    found = float(process.predict(weights[back][None])[0, 0])
    pool = mixer.config.swarm.draw(swarm.canonical(lab.problem), 3000, 77, new=False)
    assert found <= process.predict(pool).min() + 1e-9
    assert found <= process.predict(x[:, back]).min() + 1e-9
    assert np.abs(x - weights).sum(axis=1).min() > 1e-3
    assert found == pytest.approx(mixer.report()["predicted"])


def test_one_process_of_the_weighted_loss_or_one_a_target():
    x = np.random.default_rng(0).dirichlet(np.ones(3), 12)
    y = np.column_stack((x[:, 0], x[:, 1] ** 2))
    runs = make_problem(target=(0.25, 0.75), targets="xy")
    for model, n in (("sum", 1), ("each", 2)):
        mixer = Admire(Admire.Config(model=model))
        seen = mixer.evidence(runs, x, y)
        assert mixer.fit(seen.inputs, seen.losses).predict(x).shape == (12, n)
        np.testing.assert_allclose(seen.values, y @ [0.25, 0.75])


def test_improvement_by_hand():
    """log E max(least - f, 0) of a normal f with the model's own mean and deviation."""
    from scipy.stats import norm

    rng = np.random.default_rng(1)
    x = rng.dirichlet(np.ones(3), 10)
    y = np.column_stack((x[:, 0] ** 2, x[:, 1]))
    process = gaussian.fit(x, y, 3, Settings())
    at, shares = rng.dirichlet(np.ones(3), 5), np.array([0.3, 0.7])
    import torch

    with torch.no_grad():
        posterior = process.model.posterior(torch.from_numpy(np.sqrt(at))[:, None])
        mean = -posterior.mean[:, 0].numpy() @ shares
        deviation = np.sqrt(posterior.variance[:, 0].numpy() @ shares**2)
    z = (0.2 - mean) / deviation
    expected = np.log(deviation * (norm.pdf(z) + z * norm.cdf(z)))
    np.testing.assert_allclose(process.log_improvement(at, shares, 0.2), expected, rtol=1e-6)
    np.testing.assert_allclose(process.predict(at) @ shares, mean, rtol=1e-9)


def test_entropy_is_divided_by_the_cost():
    rng = np.random.default_rng(2)
    x = np.column_stack((rng.dirichlet(np.ones(3), 14), np.tile([0.25, 1.0], 7)))
    process = gaussian.fit(x, x[:, :1] ** 2 - x[:, 3:], 3, Settings(iterations=20))
    rows = np.column_stack((rng.dirichlet(np.ones(3), 6), np.tile([0.25, 1.0], 3)))
    costs = np.where(rows[:, 3] == 1.0, 1.0, 0.1)
    once = process.entropy_for_cost(rows, x[:, :3], np.ones(6), samples=4, seed=3)
    assert np.all(once >= 0.0)
    assert once.max() > 0.0
    np.testing.assert_allclose(process.entropy_for_cost(rows, x[:, :3], costs, samples=4, seed=3), once / costs)


def test_it_buys_one_swarm_and_then_one_run_a_call_as_declared():
    problem = world()
    lab = SizedLab(problem)
    _, mixer = start(problem, lab, proxy_share=0.3, proxies=9, initial=4)
    assert [len(sizes) for sizes in lab.sizes] == [4, 1, 1, 1, 1, 1]
    declared = mixer.purchases(problem).runs
    assert len(declared) == 9
    assert {(run.steps, run.size) for run in (*declared, *lab.orders)} == {(30, 1.0)}
    for bought, promised in zip(lab.orders[:4], declared, strict=False):
        np.testing.assert_array_equal(bought.mixture.weights, promised.mixture.weights)
    x = np.stack([run.mixture.weights for run in lab.orders])
    for k in range(4, 9):
        assert 0.5 * np.abs(x[:k] - x[k]).sum(axis=1).min() > APART


def test_by_default_it_makes_as_many_runs_as_the_others():
    assert len(Admire().purchases(world()).runs) == 15


@pytest.mark.parametrize("runs", [None, 12])
def test_with_two_sizes_the_bill_stays_below_what_was_declared(runs):
    problem = world()
    lab = SizedLab(problem)
    fields = {"sizes": (0.5, 1.0), "proxies": 8, "initial": 4, "runs": runs}
    weights, mixer = start(problem, lab, **fields)
    assert lab.sizes[0] == [0.5] * 4 + [1.0] * 3
    for a, b in zip(lab.orders[:3], lab.orders[4:7], strict=True):
        np.testing.assert_array_equal(a.mixture.weights, b.mixture.weights)
    declared = sum(lab.price(run.size) for run in mixer.purchases(problem).runs)
    spent = sum(lab.price(run.size) for run in lab.orders)
    assert declared == 4 * 25 + 3 * 100 + 3 * 100, "8 - 4 x 0.5 - 3 = 3 full runs are left"
    assert spent <= declared
    report = mixer.report()
    counts = [sum(run.size == size for run in lab.orders) for size in (0.5, 1.0)]
    assert report["sizes"] == {"0.5": counts[0], "1.0": counts[1]}
    assert report["prices"] == [0.25, 1.0], "as billed, not as believed"
    if runs is None:
        assert declared - spent < lab.price(0.5) or len(lab.orders) == 24
    else:
        assert len(lab.orders) == 12
    assert lab.truth(weights) < lab.truth(TRAIN)
    full = [run for run in lab.orders if run.size == 1.0]
    measured = min(lab.truth(run.mixture.weights) for run in full)
    assert report["best_run"]["measured"] == pytest.approx(measured), "small models' losses are no measure"
    json.dumps(report, allow_nan=False)


def test_without_a_bill_costs_are_believed():
    problem = world()
    lab = SizedLab(problem)
    lab.price = lambda size: 0.0
    _, mixer = start(problem, lab, sizes=(0.5, 1.0), costs=(1.0, 4.0), proxies=6, initial=4, runs=8)
    assert mixer.report()["prices"] == [0.25, 1.0]


def test_first_runs_beyond_the_budget_are_refused_before_anything_is_bought():
    lab = LawLab(world())
    with pytest.raises(MixerError, match=r"^admire: the first runs cost 5 of 4 proxies; raise proxies$"):
        start(world(), lab, sizes=(0.5, 1.0), proxies=4, initial=4)
    assert lab.calls == 0


@pytest.mark.parametrize("fields", [{}, {"model": "each"}, {"sizes": (0.5, 1.0), "runs": 8}])
def test_the_order_and_the_names_of_the_domains_do_not_matter(fields):
    fields = {"proxies": 7, "initial": 4, **fields}
    weights, _ = start(world(), LawLab(world()), **fields)
    moved, _ = start(world(ORDER), LawLab(world(ORDER)), **fields)
    np.testing.assert_allclose(moved, weights[ORDER], atol=1e-6)
    names = "zxba"
    renamed, _ = start(world(names=names), LawLab(world(names=names), names=names), **fields)
    np.testing.assert_allclose(renamed, weights, atol=1e-6)


def test_the_same_problem_gives_the_same_mixture_whatever_pytorch_did_before():
    import torch

    threads = torch.get_num_threads()
    torch.manual_seed(3)
    fields = {"proxies": 7, "initial": 4, "sizes": (0.5, 1.0), "runs": 9}
    first, _ = start(world(), **fields)
    state = torch.random.get_rng_state()
    torch.manual_seed(4)
    np.testing.assert_array_equal(start(world(), **fields)[0], first)
    torch.manual_seed(3)
    assert torch.equal(torch.random.get_rng_state(), state), "it leaves the generator as it was"
    assert torch.get_num_threads() == threads
    assert not np.allclose(start(world(seed=1), **fields)[0], first)


def test_losses_times_a_constant_give_the_same_mixture():
    once, _ = start(world(), proxies=8)
    times, _ = start(world(), LawLab(world(), scale=4.0), proxies=8)
    np.testing.assert_allclose(times, once, atol=1e-3)


def test_caps_hold_in_proposals_and_in_the_answer():
    problem = world(steps=500, batch_size=10)
    lab = LawLab(problem)
    caps = EXAMPLES / 5000
    weights, _ = start(problem, lab, max_epochs=1.0, target="d")
    runs = np.stack([run.mixture.weights for run in lab.orders])
    assert np.all(weights <= caps + 1e-9)
    assert weights[3] > 0.8 * caps[3], "d wants d"
    assert np.all(runs[5:] <= caps + 1e-9)
    assert runs[:5, 3].max() > caps[3], "the swarm does not keep to them"


def test_what_is_missing_is_skipped_and_a_diverged_mixture_is_not_run_again():
    class Fragile(LawLab):
        def train(self, runs):
            found = super().train(runs)
            bad = [run.mixture.weights[3] > 0.6 for run in runs]
            return [
                RunResult(steps=r.steps, losses=frozen(np.full_like(r.losses, np.nan) if b else r.losses))
                for r, b in zip(found, bad, strict=True)
            ]

    problem = world()
    lab = Fragile(problem, missing="b")
    _, mixer = start(problem, lab, proxies=13)
    report = mixer.report()
    assert report["skipped_targets"] == ["b"]
    assert report["runs"] + report.get("runs_without_losses", 0) == 13
    x = np.stack([run.mixture.weights for run in lab.orders])
    apart = 0.5 * np.abs(x[:, None] - x[None]).sum(axis=2) + np.eye(13)
    assert apart[5:].min() > APART
    json.dumps(report, allow_nan=False)


def test_one_and_two_domains():
    single = make_problem(train=(1.0,), target=(1.0,), examples=(50,))
    mixer = Admire()
    np.testing.assert_array_equal(mixer.start(single, object()).weights, [1.0])
    assert mixer.purchases(single).runs == ()
    two = make_problem(train=(0.5, 0.5), target=(0.2, 0.8), examples=(500, 400), domains="ab")

    class Lab(LawLab):
        def losses(self, mixtures):
            return (mixtures - [0.3, 0.7]) ** 2

    assert start(two, Lab(two), inputs="share")[0][0] == pytest.approx(0.3, abs=0.03)


def test_a_constant_loss_and_a_fit_that_fails_still_give_a_process(monkeypatch):
    x = np.random.default_rng(0).dirichlet(np.ones(3), 6)
    flat = gaussian.fit(x, np.full((6, 1), 2.5), 3, Settings())
    np.testing.assert_allclose(flat.predict(x), 2.5, atol=1e-6)
    from botorch import fit as botorch_fit
    from botorch.exceptions.errors import ModelFittingError

    def fails(*args, **kwargs):
        raise ModelFittingError("no")

    monkeypatch.setattr(botorch_fit, "fit_gpytorch_mll", fails)
    rough = gaussian.fit(x, x[:, :1], 3, Settings())
    assert np.corrcoef(rough.predict(x)[:, 0], x[:, 0])[0, 1] > 0.9


def test_torch_is_imported_when_it_is_needed():
    code = "import sys, mixers.admire; assert not {'torch', 'botorch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_without_botorch_nothing_is_bought(monkeypatch):
    monkeypatch.setitem(sys.modules, "botorch", None)
    lab = LawLab(world())
    with pytest.raises(MixerError, match=r"^BoTorch is not installed: pip install 'mixoff\[admire\]'$"):
        start(world(), lab)
    assert lab.calls == 0


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"model": "all"}, "model is sum or each, not all"),
        ({"inputs": "log"}, "inputs is root or share, not log"),
        ({"sizes": (1.0, 0.5)}, r"sizes must ascend from above 0 to proxy_size = 1, not \[1.0, 0.5\]"),
        ({"sizes": (0.25, 0.5)}, r"sizes must ascend from above 0 to proxy_size = 1, not \[0.25, 0.5\]"),
        ({"sizes": (0.5, 1.0), "model": "each"}, "several sizes need model=sum"),
        ({"sizes": (0.5, 1.0), "ard": False}, "ard is of one size: with several it is always on"),
        ({"sizes": (0.5, 1.0), "costs": (1.0,)}, r"costs must be one positive number a size, of 2 in all, not \[1.0\]"),
        ({"initial": 2}, "initial must be at least 3, not 2"),
        ({"runs": 1}, "runs must be at least 3, not 1"),
        ({"candidates": 0}, "candidates, answers, values and iterations must be at least 1"),
        ({"proxies": 2}, r"proxies must be at least 3, or none for 3 \(m \+ 1\), not 2"),
    ],
)
def test_bad_settings_are_one_line(fields, rule):
    with pytest.raises(MixerError, match=f"^admire: {rule}$"):
        Admire.Config(**fields)


def test_more_initial_mixtures_than_proxies_are_refused():
    with pytest.raises(MixerError, match=r"^admire: initial is 20, of 6 proxies; raise proxies$"):
        Admire(Admire.Config(initial=20, proxies=6)).purchases(world())
