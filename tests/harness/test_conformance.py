"""``harness check``: the mixers of the tree pass, each fault is found by its own check and by no other."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.conformance import World, check
from harness.conformance.promises import CHECKS
from harness.errors import UserError
from harness.registry import Registry
from tests.harness.conftest import PLUGINS

FAULTY = PLUGINS / "faulty_mixers.py"
SLOW = {"admire"}  # fits a Gaussian process for every run that it orders
STANDS_ON = {"regmix": "lightgbm", "climb": "lightgbm", "tikmix_m": "lightgbm", "admire": "botorch"}
BUILT_IN = [plugin.name for plugin in Registry().all("mixers").values()]

# mixer, the check that must fail, what its line must say
FAULTS = [
    ("fails_simplex", "simplex", "MixtureError: the mixture is not on the simplex (sum 2.5"),
    ("fails_simplex_list", "simplex", "update returned list; return a Mixture, such as problem.mixture(weights)"),
    ("fails_simplex_raises", "simplex", "RuntimeError: no idea what to do; an ordinary run must go through"),
    ("fails_determinism", "determinism", "draw from np.random.default_rng(problem.seed)"),
    ("fails_determinism_global", "determinism", "draw from np.random.default_rng(problem.seed)"),
    ("fails_signals", "signals", "domain_gradients was not declared: add DomainGradients() to needs().signals"),
    ("fails_signals_peeks", "signals", "declare them in needs().signals and read seen.train_losses"),
    ("fails_permutation", "permutation", "let what a domain shows decide, never its position"),
    ("fails_names", "names", "use names to match domains with targets, and for nothing else"),
    ("fails_absent", "absent", "choose by seen.present"),
    ("fails_absent_state", "absent", "after rounds without a domain state_dict() holds NaN"),
    ("fails_many_domains", "many_domains", "there are 30 domains and 8 examples a step here"),
    ("fails_many_domains_refused", "many_domains", "MixerError: fails_many_domains_refused: too many domains"),
    ("fails_single_domain", "single_domain", "there is one domain here"),
    ("fails_targets", "targets", "match them by name (problem.target_on_domains())"),
    ("fails_state", "state", "restored after update 1 it goes on differently, the weights after update 2"),
    ("fails_state_array", "state", "state_dict() is not JSON (object of type ndarray"),
    ("fails_state_not_loaded", "state", "has state but does not implement load_state_dict"),
    ("fails_state_report", "state", "its report() ends differently; let state_dict() return all"),
    ("fails_inputs", "inputs", "it writes to an array of its inputs; copy before changing"),
    ("fails_inputs_forced", "inputs", "it changed Problem.train_shares, though that is read-only; copy before"),
    ("fails_search_space", "search_space", "search_space has 'heat', which is no field of Config"),
    ("fails_search_space_value", "search_space", "search_space allows heat=-1.0, which Config refuses: heat must be"),
    ("fails_cost", "cost", "3 bought, 2 declared; raise purchases().validation_losses"),
]


def _only(target, files=()):
    (report,) = check(target, files)
    return report


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in BUILT_IN]
)
def test_every_built_in_mixer_passes(name):
    if package := STANDS_ON.get(name):
        pytest.importorskip(package)
    report = _only(name)
    assert not report.failures, report.text
    assert [result.check for result in report.results] == list(CHECKS)


def test_regmix_needs_no_trees_with_lines():
    report = _only("regmix[model=linear]")
    assert not report.failures, report.text


@pytest.mark.parametrize("mixer", ["rnb[debias=true,ema=0.5,floor=0.01]", "rnb[layers=0,estimator=exact,cosine=true]"])
def test_variants_of_a_mixer_are_checked_by_their_config(mixer):
    report = _only(mixer)
    assert not report.failures, report.text


@pytest.mark.parametrize(("mixer", "fails", "says"), FAULTS, ids=lambda value: str(value)[:30])
def test_a_fault_fails_its_own_check_and_no_other(mixer, fails, says):
    report = _only(mixer, [FAULTY])
    assert [result.check for result in report.failures] == [fails], report.text
    line = report.failures[0].line
    assert says in line
    assert "\n" not in line


def test_every_check_has_a_mixer_that_fails_it():
    assert {fails for _, fails, _ in FAULTS} == set(CHECKS)
    assert {mixer for mixer, _, _ in FAULTS} == {name for name in _names(FAULTY) if name.startswith("fails_")}


def _names(file):
    return [plugin.name for plugin in Registry([file]).all("mixers").values() if plugin.origin == f"file {file}"]


def test_where_the_mixer_raised_is_said():
    line = _only("fails_absent", [FAULTY]).failures[0].line
    number = int(line.removeprefix("faulty_mixers.py:").partition(":")[0])
    assert "problem.mixture(" in FAULTY.read_text().splitlines()[number - 1]


@pytest.mark.parametrize("mixer", ["sound", "sound[heat=0.1]", "sound[refuse=true]"])
def test_the_faults_are_faults_beside_a_sound_mixer(mixer):
    report = _only(mixer, [FAULTY])
    assert [result.outcome for result in report.results] == ["ok"] * len(CHECKS), report.text


def test_a_mixer_that_draws_is_not_asked_for_the_order():
    report = _only("draws", [FAULTY])
    assert not report.failures
    (skipped,) = (result for result in report.results if result.outcome == "skip")
    assert (skipped.check, "draws random numbers" in skipped.line) == ("permutation", True)


def test_checks_that_tell_nothing_after_a_failure_are_skipped():
    report = _only("fails_simplex", [FAULTY])
    assert [result.outcome for result in report.results] == ["FAIL"] + ["skip"] * (len(CHECKS) - 1)
    head, fail, skip = report.text.splitlines()
    assert "1 failed, 0 of 13" in head
    assert fail.startswith("  FAIL  simplex: ")
    assert skip.startswith("  skip  determinism, signals, ")
    assert skip.endswith("cost: nothing to learn until simplex passes")


def test_scripted_worlds_show_the_same_domains_in_another_order():
    order = (3, 0, 4, 1, 2)
    plain, moved = World(absent=True), World(absent=True, order=order)
    mixer = Registry().get("mixers", "rnb").cls()
    a, b = (world.observation(mixer, 1, 4, 8) for world in (plain, moved))
    for field in ("examples", "units", "train_losses"):
        np.testing.assert_array_equal(getattr(a, field)[list(order)], getattr(b, field))
    np.testing.assert_allclose(a.domain_gradients.gram()[np.ix_(order, order)], b.domain_gradients.gram())
    assert a.examples.sum() == 4 * plain.batch_size
    assert not a.present.all()
    assert np.isnan(a.train_losses[~a.present]).all()
    assert plain.problem().domains == ("d0", "d1", "d2", "d3", "d4")
    assert moved.problem().domains == ("d3", "d0", "d4", "d1", "d2")


@pytest.mark.parametrize("apart", [False, True])
def test_scripted_gradients_against_the_mean_target_are_the_weighted_sum_of_those_against_each(apart):
    order = (3, 0, 4, 1, 2)
    world, moved = World(absent=True, apart=apart), World(absent=True, apart=apart, order=order)
    each, mean = world.estimate(8), world.estimate(8, "mean")
    shares = world.problem().target_shares
    np.testing.assert_allclose(mean.alignment(shares), each.alignment(shares))
    assert each.present.tolist() == mean.present.tolist() == [True, True, True, True, False]
    assert not each.products[4].any()
    assert each.norms[4] == 0.0
    assert each.target_present.tolist() == ([True] * 3 if apart else [True, True, True, False, True])
    theirs = moved.estimate(8, "mean")
    np.testing.assert_allclose(theirs.products, mean.products[list(order)])
    np.testing.assert_allclose(theirs.target_norms, mean.target_norms)


@pytest.mark.parametrize("apart", [False, True])
def test_scripted_vectors_stay_with_their_domains_in_another_order(apart):
    order = (3, 0, 4, 1, 2)
    plain = World(absent=True, apart=apart).embeddings(5)
    moved = World(absent=True, apart=apart, order=order).embeddings(5)
    assert np.bincount(plain.domains).tolist() == [5, 5, 5, 5], "the last has none"
    assert np.bincount(plain.targets).tolist() == ([5] * 3 if apart else [5, 5, 5, 0, 5])
    np.testing.assert_array_equal(plain.train, moved.train)
    np.testing.assert_array_equal(plain.validation, moved.validation)
    np.testing.assert_array_equal(plain.domains, np.array(order)[moved.domains])
    np.testing.assert_array_equal(plain.targets, moved.targets if apart else np.array(order)[moved.targets])


def test_read_only_worlds_cannot_be_written_to():
    mixer = Registry().get("mixers", "rnb").cls()
    world = World(read_only=True)
    seen, problem = world.observation(mixer, 0, 0, 4), world.problem()
    for array in (seen.examples, seen.train_losses, problem.train_shares, problem.target_shares, problem.examples):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


# the command


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(main, ["check", *map(str, words)])


def test_a_mixer_by_name_with_a_config(call):
    result = call("rnb[lam=10]")
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"rnb[lam=10] (tree): {len(CHECKS)} of {len(CHECKS)} checks passed in ")


def test_a_file_is_all_its_mixers_and_a_failure_is_exit_code_1(call):
    result = call(FAULTY)
    assert result.exit_code == 1
    heads = [line for line in result.output.splitlines() if not line.startswith(" ")]
    assert len(heads) == len(FAULTS) + 2
    assert sum(line.startswith("  FAIL") for line in result.output.splitlines()) == len(FAULTS)


def test_a_mixer_of_a_plugin_file(call):
    result = call("sound[heat=2]", "--plugin", FAULTY)
    assert result.exit_code == 0
    assert f"sound[heat=2] (file {FAULTY}): " in result.output


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Install a package with these entry points into a folder on the path."""

    def install(code: str, points: str) -> None:
        site = tmp_path / "site"
        info = site / "acme_mixers-1.2.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: Acme.Mixers\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[mixoff.mixers]\n{points}\n")
        (site / "acme.py").write_text(code)
        monkeypatch.syspath_prepend(site)

    yield install
    sys.modules.pop("acme", None)


MEAN = """
from mixers.base import Mixer
class Mean(Mixer):
    name = "acme_mean"
    def start(self, problem, lab):
        return problem.mixture([1 / problem.m] * problem.m)
class Bad(Mixer):
    name = "acme_bad"
    def start(self, problem, lab):
        return problem.mixture([0.5, 0.5])
"""


@pytest.mark.parametrize("name", ["acme-mixers", "acme"])
def test_a_package_is_all_mixers_of_its_entry_points(call, package, name):
    package(MEAN, "acme_mean = acme:Mean\nacme_bad = acme:Bad")
    result = call(name)
    assert result.exit_code == 1, result.output
    assert "acme_mean (package Acme.Mixers 1.2): 13 of 13 checks passed" in result.output
    assert "acme_bad (package Acme.Mixers 1.2): 1 failed, 0 of 13" in result.output


def test_a_package_that_does_not_import_is_exit_code_2(call, package):
    package("import a_package_that_does_not_exist", "acme_mean = acme:Mean")
    result = call("acme-mixers")
    assert result.exit_code == 2
    assert "a_package_that_does_not_exist" in result.stderr


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("rnbb", "did you mean 'rnb'?"),
        ("rnb[lamb=3]", "unknown parameter 'lamb'"),
        ("rnb[lam=-1]", "lam must be"),
        ("rnb[lam", "name[key=value"),
        ("nowhere.py", "no such file"),
        ("./rnb.txt", "is no Python file"),
        ("rnb.txt", "did you mean 'rnb'?"),
        ("plugins/", "is a folder; name its files"),
        ("numpy", "no mixer, file or package with mixers is named 'numpy'"),
        (PLUGINS / "broken.py", "does not import: ModuleNotFoundError"),
        (PLUGINS / "far_task.py", "holds no mixer"),
    ],
)
def test_what_cannot_be_checked_is_one_line_and_exit_code_2(call, tmp_path, target, says):
    (tmp_path / "rnb.txt").write_text("rnb")
    (tmp_path / "plugins").mkdir()
    result = call(target)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.strip().splitlines()) == 1
    assert says in result.stderr


def test_a_file_named_like_a_mixer_of_the_tree_is_not_confused_with_it(tmp_path):
    (tmp_path / "rnb.py").write_text("import a_package_that_does_not_exist")
    with pytest.raises(UserError, match="does not import"):
        list(check(tmp_path / "rnb.py"))
