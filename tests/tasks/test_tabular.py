"""The tabular task: surrogates, what a run and a judged mixture get, support, the best mixture, settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import GradientBoostingRegressor

from tasks import fitted_table as module
from tasks.base import TaskError
from tasks.cache import load_arrays, save_arrays
from tasks.fitted_table import FittedTable
from tasks.surrogates import SURROGATES
from tasks.surrogates.gaussian_process import GaussianProcess
from tasks.surrogates.trees import Trees
from tasks.tabular import Tabular
from tests.tasks.table_files import mixtures_of, truth, write_csv, write_regmix

SHARED = Path(__file__).parents[3] / "shared" / "data"
EVEN = np.full(3, 1 / 3)


@pytest.fixture
def load(tmp_path: Path):
    """Outcomes of a table that the test writes: 80 runs of 10m and 60 of 1m unless it says otherwise."""

    def make(path: Path | None = None, cache: str = "cache", **settings: Any) -> FittedTable:
        path = path or write_csv(tmp_path / "t.csv", {"1m": 60, "10m": 80}, noise=0.01)
        preset = Tabular.presets["demo"]
        return Tabular(Tabular.configure(preset, {"path": str(path), **settings}), preset, tmp_path / cache).load()

    return make


@pytest.mark.parametrize("family", [GaussianProcess(), Trees()], ids=["gp", "trees"])
def test_a_surrogate_learns_a_known_law_and_says_how_well(family):
    mixtures, fresh = mixtures_of(120), mixtures_of(60, seed=9)
    noise = 0.1 * np.random.default_rng(2).standard_normal(120)
    arrays, residuals = family.fit(mixtures, truth(mixtures)[:, 0] + noise)
    missed = family.predict(arrays, fresh) - truth(fresh)[:, 0]
    spread = truth(fresh)[:, 0].std()
    error = np.sqrt((missed**2).mean())
    assert error < (0.1 if family.name == "gp" else 0.25) * spread
    expected = np.sqrt(error**2 + 0.1**2)
    assert np.sqrt((residuals**2).mean()) == pytest.approx(expected, rel=0.25), "left-out errors and the runs' noise"


@pytest.mark.parametrize("family", [GaussianProcess(), Trees()], ids=["gp", "trees"])
def test_a_prediction_depends_on_the_mixture_alone_and_survives_the_disk(family, tmp_path):
    mixtures, fresh = mixtures_of(60), mixtures_of(30, seed=9)
    arrays, _ = family.fit(mixtures, truth(mixtures)[:, 1])
    together = family.predict(arrays, fresh)
    alone = [family.predict(arrays, mixture[None])[0] for mixture in fresh]
    np.testing.assert_array_equal(together, alone)
    save_arrays(tmp_path / "fit.npz", **arrays)
    stored = load_arrays(tmp_path / "fit.npz")
    assert stored is not None
    np.testing.assert_array_equal(family.predict(stored, fresh), together)


def test_the_walked_trees_are_those_of_scikit_learn():
    mixtures, losses = mixtures_of(60), truth(mixtures_of(60))[:, 0]
    arrays, _ = Trees().fit(mixtures, losses)
    model = GradientBoostingRegressor(
        n_estimators=150, learning_rate=0.12, max_depth=3, subsample=0.7, min_samples_leaf=4, random_state=0
    ).fit(mixtures, losses)
    fresh = mixtures_of(50, seed=3)
    np.testing.assert_allclose(Trees().predict(arrays, fresh), model.predict(fresh), rtol=1e-12)


def test_left_out_residuals_of_the_process_are_those_of_leaving_out():
    mixtures = mixtures_of(25)
    losses = truth(mixtures)[:, 0] + 0.05 * np.random.default_rng(0).standard_normal(25)
    arrays, residuals = GaussianProcess().fit(mixtures, losses)
    mean, scale = arrays["scale"]
    kernel = GaussianProcess().predict  # the same kernel, through the public door: weights chosen to read it off
    rows = np.array([
        kernel({**arrays, "weights": np.eye(25)[i], "scale": np.array([0.0, 1.0])}, mixtures) for i in range(25)
    ])  # fmt: skip
    outputs = (losses - mean) / scale
    noise = (outputs - rows @ arrays["weights"]) / arrays["weights"]  # K w + noise w = y
    np.testing.assert_allclose(noise, noise[0], rtol=1e-6)
    kept = np.arange(25) != 7
    weights = np.linalg.solve(rows[np.ix_(kept, kept)] + noise[0] * np.eye(24), outputs[kept])
    assert residuals[7] == pytest.approx(scale * (outputs[7] - rows[7, kept] @ weights), rel=1e-6)


def test_the_judged_loss_has_no_noise_and_a_bought_one_has_the_left_out_errors(load):
    outcomes = load()
    size = outcomes.judged
    assert outcomes.table.sizes[size].name == "10m"
    mean = outcomes.mean(size, EVEN[None])[0]
    np.testing.assert_allclose(mean, truth(EVEN[None])[0], atol=0.02)
    drawn = np.array([outcomes.run(size, EVEN, seed) for seed in range(400)]) - mean
    residuals = outcomes.fits[size].residuals
    seen = {tuple(np.round(row, 9)) for row in drawn}
    assert seen <= {tuple(np.round(row, 9)) for row in residuals}, (
        "whole rows of residuals, so that targets go together"
    )
    np.testing.assert_allclose(drawn.std(axis=0), residuals.std(axis=0), rtol=0.25)


def test_noise_follows_from_seed_size_and_mixture(load):
    outcomes = load()
    other = np.array([0.4, 0.4, 0.2])
    np.testing.assert_array_equal(outcomes.run(1, EVEN, 3), load(cache="another").run(1, EVEN, 3))

    def noise(size: int, mixture: np.ndarray, seed: int) -> list[float]:
        return (outcomes.run(size, mixture, seed) - outcomes.mean(size, mixture[None])[0]).tolist()

    draws = [noise(1, EVEN, 3), noise(1, EVEN, 4), noise(1, other, 3), noise(0, EVEN, 3)]
    assert all(a != b for i, a in enumerate(draws) for b in draws[:i])


def test_a_row_that_is_hit_gives_its_own_losses(load, tmp_path):
    outcomes = load()
    rows = np.flatnonzero(outcomes.table.size == 1)
    mixture = outcomes.table.mixtures[rows[5]]
    np.testing.assert_array_equal(
        outcomes.run(1, mixture + np.array([3e-7, -3e-7, 0]), 0), outcomes.table.losses[rows[5]]
    )
    assert not np.array_equal(outcomes.run(0, mixture, 0), outcomes.table.losses[rows[5]]), "of the size that was asked"
    assert not np.array_equal(outcomes.run(1, mixture + np.array([3e-5, -3e-5, 0]), 0), outcomes.table.losses[rows[5]])


def test_support_is_the_distance_that_rows_keep_to_each_other(tmp_path, load):
    shares = [i / 20 for i in range(21)]
    text = ["w_a,w_b,loss_x", *(f"{x:.2f},{1 - x:.2f},{1 + x:.2f}" for x in shares if x <= 0.5)]
    file = tmp_path / "line.csv"
    file.write_text("\n".join(text))
    outcomes = load(file)
    near = outcomes.support(0, np.array([0.32, 0.68]))
    assert (round(near.distance, 9), round(near.limit, 9), near.outside) == (0.02, 0.05, False)
    assert near.run == "line 8"
    far = outcomes.support(0, np.array([0.7, 0.3]))
    assert (round(far.distance, 9), far.outside) == (0.2, True)


def test_sizes_are_found_by_their_share_of_the_parameters(load):
    outcomes = load()
    assert [outcomes.size_of(share) for share in (1.0, 0.3, 0.1, 0.05, 4.0)] == [1, 0, 0, 0, 1]
    with pytest.raises(TaskError, match=r"no runs of about 0\.02 .*; order one of 0\.1 \(1m\), 1 \(10m\)"):
        outcomes.size_of(0.02)
    assert load(size="1m").table.sizes[load(size="1m").judged].name == "1m"
    with pytest.raises(TaskError, match="size=2m is none of the table's: 1m, 10m"):
        load(size="2m")


def test_a_size_whose_files_are_incomplete_is_refused_with_what_lacks(load, tmp_path):
    folder = write_regmix(tmp_path / "regmix", {"1m": 12, "60m": 12}, splits=("train",))
    (folder / "train_pile_loss_60m.csv").unlink()
    lacks = r"size=60m is none of the table's: 1m; left out train_mixture_60m\.csv: no file train_\.\.\._loss_60m\.csv"
    with pytest.raises(TaskError, match=lacks):
        load(folder, size="60m")
    outcomes = load(folder)
    assert outcomes.provenance()["notes"] == list(outcomes.table.notes) != []


def test_the_best_mixture_is_found(load):
    target = {"prose": 0.3, "exams": 0.7}
    outcomes = load(target=target)
    best = outcomes.best()
    grid = np.array([[a, b, 1 - a - b] for a in np.linspace(0, 1, 101) for b in np.linspace(0, 1 - a, 101)])
    scores = truth(grid) @ [0.3, 0.7]
    true_best = grid[scores.argmin()]
    assert float(truth(best.mixture[None])[0] @ [0.3, 0.7]) < scores.min() + 0.02
    assert 0.5 * np.abs(best.mixture - true_best).sum() < 0.1
    assert best.score == pytest.approx(float(best.losses @ [0.3, 0.7]))
    sample = outcomes.mean(outcomes.judged, mixtures_of(3000, seed=5)) @ [0.3, 0.7]
    assert best.score <= sample.min()


def test_one_domain_and_losses_without_variation_are_no_trouble(load, tmp_path):
    file = tmp_path / "one.csv"
    file.write_text("\n".join(["w_a,loss_x,loss_y", *(f"1,2,{3 + i / 10}" for i in range(8))]))
    outcomes = load(file)
    np.testing.assert_array_equal(outcomes.best().mixture, [1.0])
    np.testing.assert_allclose(outcomes.losses(np.ones(1)), [2.0, 3.35], atol=0.05)
    np.testing.assert_allclose(outcomes.run(0, np.ones(1), 0), [2.0, 3.35], atol=1e-9)  # the mean of the rows it hits


def test_fits_and_the_best_mixture_are_cached_by_content(load, monkeypatch, tmp_path):
    first = load()
    score = first.best().score
    monkeypatch.setattr(GaussianProcess, "fit", lambda *_: pytest.fail("fitted again"))
    monkeypatch.setattr("tasks.fitted_table.search", lambda *_: pytest.fail("searched again"))
    assert load().best().score == score
    with pytest.raises(pytest.fail.Exception, match="fitted again"):
        load(write_csv(tmp_path / "t.csv", {"1m": 60, "10m": 81}, noise=0.01))


def test_too_few_rows_and_missing_losses(load, tmp_path):
    file = write_csv(tmp_path / "t.csv", {"1m": 30, "10m": 4})
    with pytest.raises(TaskError, match="size 10m has 4 runs and no target with the 5 losses that gp needs"):
        load(file)
    small = load(file, size="1m")
    assert list(small.fits) == [0], "a size that cannot be fitted is not sold"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], *(line.rpartition(",")[0] + "," for line in lines[1:])]))
    with pytest.raises(
        TaskError, match="target exams has fewer losses at size 1m than the 5 that gp needs; leave it out"
    ):
        load(file, size="1m")
    answer = load(file, size="1m", target={"prose": 1}).run(0, EVEN, 0)
    assert np.isfinite(answer[0])
    assert np.isnan(answer[1])


@pytest.mark.parametrize(
    ("sizes", "surrogate", "remedy"),
    [
        ({"10m": 4}, "gp", "the table has too few runs to be judged"),
        ({"10m": 4}, "trees", "the table has too few runs to be judged"),
        ({"10m": 19}, "trees", "choose surrogate=gp"),
        ({"1m": 5, "10m": 4}, "gp", "choose size=1m"),
        ({"1m": 20, "10m": 4}, "trees", "choose size=1m"),
        ({"1m": 20, "10m": 5}, "trees", "choose size=1m or surrogate=gp"),
        ({"1m": 19, "10m": 4}, "trees", "choose size=1m,surrogate=gp"),
    ],
)
def test_too_few_rows_are_refused_with_what_would_do(load, tmp_path, sizes, surrogate, remedy):
    file = write_csv(tmp_path / "t.csv", sizes)
    with pytest.raises(TaskError, match=rf"losses that {surrogate} needs; {remedy}$"):
        load(file, surrogate=surrogate)
    if "," not in remedy and "choose" in remedy:
        told = {"surrogate": surrogate} | dict([remedy.removeprefix("choose ").split(" or ")[0].split("=")])
        assert load(file, **told).fits


def test_the_documented_numbers_of_runs_are_those_that_surrogates_need():
    text = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text(encoding="utf-8")
    least = {name: family.least_rows for name, family in SURROGATES.items()}
    assert f"`gp` needs {least['gp']} runs with a loss, `trees` {least['trees']}" in " ".join(text.split())


def test_shares_are_the_mean_mixture_and_all_targets_alike_unless_said(load, tmp_path):
    outcomes = load()
    np.testing.assert_allclose(outcomes.train_shares, outcomes.table.mixtures.mean(axis=0))
    np.testing.assert_allclose(outcomes.target_shares, [0.5, 0.5])
    told = load(natural={"code": 0.5, "prose": 0.5}, target={"exams": 1})
    np.testing.assert_allclose(told.train_shares, [0.5, 0.5, 0.0])
    np.testing.assert_allclose(told.target_shares, [0.0, 1.0])
    with pytest.raises(TaskError, match="natural names unknown domain 'exams'; the domains are code, prose, maths"):
        load(natural={"exams": 1})
    with pytest.raises(TaskError, match="target shares must be non-negative and sum to 1"):
        load(target={"exams": 0.4})


def test_formats_are_guessed_and_wrong_places_are_one_line(load, tmp_path):
    assert load(write_regmix(tmp_path / "regmix", {"1m": 30})).table.targets == ("law", "web")
    laws = tmp_path / "2Mix_70M.csv"
    rows = [f"r{i},100,{a:.3f},{1 - a:.3f},{1 + a:.3f}" for i, a in enumerate(np.linspace(0, 1, 9))]
    laws.write_text("\n".join(["run,step,w_a,w_b,loss_x", *rows]))
    assert load(laws).table.sizes[0].name == "70M"
    with pytest.raises(TaskError, match=r"not in RegMix's layout; name one file in it \(2Mix_70M\.csv\)"):
        load(tmp_path)
    with pytest.raises(TaskError, match="is no folder; format=regmix reads a folder"):
        load(laws, format="regmix")
    with pytest.raises(TaskError, match="step=5 is a setting of format=mixinglaws; this table's format is csv"):
        load(step=5)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"available": 0}, r"available=0\.0 must be above 0"),
        ({"tokens": -1}, r"tokens=-1\.0 must be above 0"),
        ({"tokens": {"1m": 0}}, r"tokens of 1m=0\.0 must be above 0"),
        ({"step": -1}, "step=-1 must not be negative"),
        ({"surrogate": "linear"}, "setting surrogate='linear'"),
        ({"pth": "x"}, "no setting 'pth'; did you mean 'path'"),
    ],
)
def test_wrong_settings_are_one_line(settings, said):
    with pytest.raises(TaskError, match=said):
        Tabular.configure(Tabular.presets["demo"], settings)


def test_the_order_of_a_table_s_domains_does_not_matter(load, tmp_path):
    file = write_csv(tmp_path / "t.csv", {"10m": 60}, noise=0.01)
    ours = load(file)
    lines = [line.split(",") for line in file.read_text().splitlines()]
    swapped = tmp_path / "swapped.csv"
    swapped.write_text("\n".join(",".join([*c[:2], c[4], c[2], c[3], *c[5:]]) for c in lines))
    theirs = load(swapped)
    assert theirs.table.domains == ("maths", "code", "prose")
    fresh = mixtures_of(20, seed=4)
    np.testing.assert_allclose(
        ours.mean(0, fresh), theirs.mean(0, fresh[:, [2, 0, 1]]), atol=2e-3
    )  # the search for the kernel's parameters ends a little elsewhere


def test_losses_times_a_constant_give_that_multiple(load, tmp_path):
    file = write_csv(tmp_path / "t.csv", {"10m": 60}, noise=0.01)
    ours = load(file)
    head, *rows = (line.split(",") for line in file.read_text().splitlines())
    scaled = tmp_path / "scaled.csv"
    body = [[*cells[:5], *(f"{8 * float(x):.6f}" for x in cells[5:])] for cells in rows]
    scaled.write_text("\n".join(",".join(cells) for cells in [head, *body]))
    theirs = load(scaled)
    fresh = mixtures_of(20, seed=4)
    np.testing.assert_allclose(8 * ours.mean(0, fresh), theirs.mean(0, fresh), rtol=1e-6)
    assert theirs.score_error() == pytest.approx(8 * ours.score_error(), rel=1e-4)


def test_the_error_of_the_score_is_that_of_the_weighted_losses(load):
    outcomes = load(target={"prose": 0.25, "exams": 0.75})
    residuals = outcomes.fits[outcomes.judged].residuals
    assert outcomes.score_error() == pytest.approx(np.sqrt(np.mean((residuals @ [0.25, 0.75]) ** 2)))


def test_the_two_families_are_the_documented_ones():
    assert set(SURROGATES) == {"gp", "trees"}
    assert module.NEAREST == 4.0


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "regmix").is_dir(), reason="the shared data are not beside this checkout")
@pytest.mark.parametrize(("family", "least"), [("gp", 0.99), ("trees", 0.98)])
def test_both_surrogates_rank_left_out_runs_of_regmix(load, family, least):
    outcomes = load(SHARED / "regmix", surrogate=family, target={"pile_cc": 1})
    errors = outcomes.fits[outcomes.judged].errors
    assert errors["pile_cc"]["spearman"] > least
    assert min(error["spearman"] for error in errors.values()) > 0.95
    best = outcomes.best()
    assert best.mixture[outcomes.table.domains.index("pile_cc")] > 0.7, "RegMix's own answer has 0.87"
