"""Cases that are easy to get wrong: resuming, changed plugins and data, full disks, odd input."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import types
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from harness import making
from harness.cli import main
from harness.conformance import TOY_TASK
from harness.errors import UserError
from harness.experiment import read_experiment, trials
from harness.partitions import _read
from harness.prepare import prepare
from harness.proxies import children
from harness.registry import Registry
from harness.store import RunFolder, write_json
from harness.trial import empty_row, run_trial
from mixers.base import Run
from tests.harness.conftest import FILES

PLUGIN = """
import math
from dataclasses import dataclass
import torch
from mixers.base import Mixer, Needs


class Infinite(Mixer):
    name = "infinite"

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        cap: float = math.inf

    def start(self, problem, lab):
        return problem.mixture(problem.train_shares)


class NanReport(Mixer):
    name = "nan_report"

    def start(self, problem, lab):
        return problem.mixture(problem.train_shares)

    def report(self):
        return {"gain": float("nan")}


class TorchDraw(Mixer):
    name = "torch_draw"

    def start(self, problem, lab):
        return problem.mixture(torch.softmax(torch.randn(problem.m), 0).double().numpy() * 1.0)


class NoDataclass(Mixer):
    name = "no_dataclass"

    class Config:
        lam = 3

    def start(self, problem, lab):
        return problem.mixture(problem.train_shares)


class Refuses(Mixer):
    name = "refuses"

    def __init__(self, config=None):
        raise RuntimeError("no way")

    def start(self, problem, lab):
        return problem.mixture(problem.train_shares)
"""


@pytest.fixture
def extra(tmp_path: Path) -> Path:
    path = tmp_path / "extra.py"
    path.write_text(PLUGIN)
    return path


class _Killed(BaseException):
    pass


def _run(spec, registry, folder, cache, beat=lambda step, steps: None):
    return run_trial(spec, registry, folder, cache, beat, checkpoint_seconds=0.0)


def _kill_at(limit: int):
    def beat(step: int, steps: int) -> None:
        if step >= limit:
            raise _Killed

    return beat


def _core(row):
    return {key: value for key, value in row.items() if key not in ("measured", "provenance")}


def test_resume_is_bit_identical_at_every_round(toy_specs, registry, tmp_path: Path):
    """`_resume` normalises the stored mixtures once more, and w / w.sum() is not idempotent."""
    (spec,) = toy_specs(mixers="memory")
    whole = _core(_run(spec, registry, RunFolder(tmp_path / "whole"), tmp_path / "cache"))
    differing = []
    for limit in range(4, 31, 3):
        folder = RunFolder(tmp_path / f"killed-{limit}")
        with pytest.raises(_Killed):
            _run(spec, registry, folder, tmp_path / "cache", _kill_at(limit))
        if _core(_run(spec, registry, folder, tmp_path / "cache")) != whole:
            differing.append(limit)
    assert not differing


@pytest.mark.parametrize("mixer", ["aioli[rounds=6,sweeps=1,delta=0.8,eta=2]", "aioli[rounds=15]"])
def test_a_run_with_probes_resumes_bit_identically(toy_specs, registry, tmp_path: Path, mixer):
    """Probes are made between rounds; the second mixer's, of `start`, outlast several rounds, which then are empty."""
    (spec,) = toy_specs(mixers=mixer)
    whole = _core(_run(spec, registry, RunFolder(tmp_path / "whole"), tmp_path / "cache"))
    assert whole["status"] == "ok"
    for limit in (5, 15, 25):
        folder = RunFolder(tmp_path / f"killed-{limit}")
        with pytest.raises(_Killed):
            _run(spec, registry, folder, tmp_path / "cache", _kill_at(limit))
        assert _core(_run(spec, registry, folder, tmp_path / "cache")) == whole


def test_a_plugin_task_that_was_edited_is_answered_by_no_older_run_or_cut(tmp_path: Path):
    """Its model is other code under one name, config and fingerprint; a built-in task's keys are what they were."""
    prices, keys = [], []
    for scale in ("0.3", "0.6"):
        path = tmp_path / "toy_task.py"
        path.write_text(TOY_TASK.read_text().replace("generator=generator) * 0.3", f"generator=generator) * {scale}"))
        base = {"tasks": "toy", "mixers": "uniform", "partitions": "kmeans[k=2]", "seeds": "1", "device": "cpu"}
        registry = Registry((path,))
        (spec,) = trials(read_experiment(None, base | {"plugin": (path,)}), registry)
        prepared = prepare(spec, registry, tmp_path / "cache")
        run = Run(steps=2, mixture=prepared.problem.mixture(np.full(2, 0.5)))
        made = making.obtain(prepared, run)
        assert not made.cached
        prices.append(made.result.losses[0, 0])
        keys.append(children.key_of(children.child_of(prepared, run), run))
    assert prices[0] != prices[1]
    assert keys[0] != keys[1]
    assert len(list((tmp_path / "cache" / "partitions").iterdir())) == 2


def test_what_was_bought_before_a_kill_is_not_waited_for_twice(toy_specs, registry, tmp_path: Path):
    """The seconds of runs that this trial made itself stand in its checkpoint; `start`, done again, finds them kept."""
    (spec,) = toy_specs(mixers="skill_it[graph_share=0.2,validation_examples=2]")
    folder, cache = RunFolder(tmp_path / "killed"), tmp_path / "cache"
    with pytest.raises(_Killed):
        _run(spec, registry, folder, cache, _kill_at(20))
    results = list((cache / "runs").glob("*/result.json"))
    assert results
    for path in results:
        path.write_text(json.dumps(json.loads(path.read_text()) | {"seconds": 1e6}))
    row = _run(spec, registry, folder, cache)
    assert row["status"] == "ok", row["reason"]
    assert row["measured"]["mixer_seconds"] < 1e6
    assert "reused_runs" not in row["measured"]


@pytest.mark.parametrize("flags", [{"time_limit": math.inf}, {"mixers": "infinite"}])
def test_every_accepted_spec_has_a_row_that_can_be_written(extra, tmp_path: Path, flags):
    """Else the worker trains, cannot write, the parent cannot either, and the whole grid ends in a traceback."""
    files = (*FILES, extra)
    base = {"tasks": "toy", "mixers": "uniform", "seeds": "1", "device": "cpu", "plugin": files}
    try:
        (spec,) = trials(read_experiment(None, base | flags), Registry(files))
    except UserError:
        return  # refusing it is as good
    write_json(tmp_path / "row.json", empty_row(spec, "ok", ""))


def test_a_report_that_is_not_json_is_a_failed_row_with_a_traceback(extra, tmp_path: Path):
    files = (*FILES, extra)
    base = {"tasks": "toy", "mixers": "nan_report", "seeds": "1", "device": "cpu", "plugin": files}
    registry = Registry(files)
    (spec,) = trials(read_experiment(None, base), registry)
    row = _run(spec, registry, RunFolder(tmp_path / "run"), tmp_path / "cache")
    json.dumps(row, allow_nan=False)


def test_seeds_that_stand_twice_are_refused(toy_specs):
    try:
        ids = [spec.id for spec in toy_specs(seeds="0,0")]
    except UserError:
        return
    assert len(ids) == len(set(ids))


def test_no_seed_is_refused(toy_specs):
    with pytest.raises(UserError):
        toy_specs(seeds=[])


def test_ends_of_rounds_are_timed_in_a_run_shorter_than_the_pairs(toy_specs, registry, tmp_path: Path, monkeypatch):
    """The pairs of steps must not use up the steps of the main run that probes are taken from."""
    from harness.timing import time_cell
    from mixers.aioli import Aioli

    rounds = []
    whole = Aioli.update
    monkeypatch.setattr(Aioli, "update", lambda self, seen, lab: (rounds.append(seen.round), whole(self, seen, lab))[1])
    (spec,) = toy_specs(mixers="aioli[sweeps=1,delta=0.5,validation_examples=2]", steps="40")
    timing = time_cell(spec, registry, tmp_path, seconds=9.0)  # a busy machine manages 40 pairs in 3
    assert timing.pairs > 40
    assert rounds == list(range(19)), "every end of a round, those that probe among them"


def test_cache_clear_spares_a_folder_that_was_there_before(tmp_path: Path, monkeypatch):
    """`cache_root()` itself puts the mark into any folder that MIXOFF_CACHE names, then --clear trusts the mark."""
    precious = tmp_path / "home" / "thesis"
    precious.mkdir(parents=True)
    monkeypatch.setenv("MIXOFF_CACHE", str(tmp_path / "home"))
    CliRunner().invoke(main, ["cache", "--clear"])
    assert precious.exists()


@pytest.mark.parametrize("mixer", ["buyer"])
def test_the_boundary_of_a_buyer_can_be_timed(toy_specs, registry, tmp_path: Path, mixer):
    """Three updates are timed under the budget of purchases of a run that has two."""
    from harness.timing import _boundary_seconds, _first_mixture

    (spec,) = toy_specs(mixers=mixer)
    prepared = prepare(spec, registry, tmp_path)
    trainer = prepared.trainer(prepared.mixer.needs().signals)
    assert _boundary_seconds(prepared, trainer, _first_mixture(prepared, trainer), seconds=0.1) > 0


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04garbage"])
def test_a_damaged_partition_is_made_again(tmp_path: Path, content):
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    assert _read(path) is None


def test_a_row_does_not_depend_on_what_its_worker_ran_before(extra, tmp_path: Path):
    files = (*FILES, extra)
    base = {"tasks": "toy", "mixers": "torch_draw", "seeds": "1", "device": "cpu", "plugin": files}
    registry = Registry(files)
    (spec,) = trials(read_experiment(None, base), registry)
    rows = [_core(_run(spec, registry, RunFolder(tmp_path / name), tmp_path / "cache")) for name in ("a", "b")]
    assert rows[0] == rows[1]


def test_a_checkpoint_of_other_data_is_not_continued(toy_specs, registry, tmp_path: Path, monkeypatch):
    """Same path, edited corpus: the id is the same, the fingerprint is not."""
    (spec,) = toy_specs(mixers="memory")
    task = registry.get("tasks", "toy").cls
    load = task.load

    def changed(self):
        corpus = load(self)
        tokens = (corpus.examples["train"] + 3) % 16
        return dataclasses.replace(
            corpus, fingerprint="other", examples=types.MappingProxyType({**corpus.examples, "train": tokens})
        )

    folder = RunFolder(tmp_path / "run")
    with pytest.raises(_Killed):
        _run(spec, registry, folder, tmp_path / "cache", _kill_at(16))
    monkeypatch.setattr(task, "load", changed)
    resumed = _core(_run(spec, registry, folder, tmp_path / "cache"))
    fresh = _core(_run(spec, registry, RunFolder(tmp_path / "fresh"), tmp_path / "cache"))
    assert resumed["fingerprint"] == fresh["fingerprint"] == "other"
    assert resumed == fresh


def test_a_full_disk_at_a_checkpoint_does_not_end_the_trial(toy_specs, registry, tmp_path: Path, monkeypatch):
    (spec,) = toy_specs(mixers="memory")

    def full(path, state):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("harness.mixing.save_checkpoint", full)
    row = _run(spec, registry, RunFolder(tmp_path / "run"), tmp_path / "cache")
    assert row["status"] == "ok", row["reason"]


def test_attention_is_counted_on_the_cpu():
    import torch

    from harness import flops

    q = torch.randn(2, 4, 16, 8, requires_grad=True)

    class Task:
        def loss(self, model, batch):
            out = torch.nn.functional.scaled_dot_product_attention(q, q, q, is_causal=True)
            return types.SimpleNamespace(per_example=out.sum((1, 2, 3)))

    assert flops.count_pass(Task(), torch.nn.Linear(1, 1), {}).forward > 0


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--mixers", "no_dataclass"),
        ("run", "--mixers", "refuses"),
        ("info", "no_dataclass"),
        ("run", "--out", "{file}"),
        ("run", "--out", "{file}/sub"),
        ("run", "{keys}"),
    ],
)
def test_more_bad_input_is_one_line_and_exit_code_2(extra, tmp_path: Path, monkeypatch, words):
    monkeypatch.setenv("MIXOFF_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    (tmp_path / "keys.yaml").write_text("mixers: [{rnb: {1: 2}}]")
    places = {"file": tmp_path / "file", "keys": tmp_path / "keys.yaml"}
    result = CliRunner().invoke(main, [*(word.format(**places) for word in words), "--plugin", str(extra)])
    assert result.exit_code == 2, repr(result.exception)
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_row_without_a_status_is_one_line(tmp_path: Path):
    folder = RunFolder(tmp_path)
    folder.row_path("x").parent.mkdir()
    folder.row_path("x").write_text("{}")
    with pytest.raises(UserError):
        folder.status("x")


def test_a_broken_plugin_file_does_not_hide_a_working_plugin(tmp_path: Path):
    """As Registry.all says: failed ones included unless a working one has the same name."""
    path = tmp_path / "uniform.py"
    path.write_text("import nothing_here")
    assert Registry([path]).all("mixers")["uniform"].cls is not None


def test_a_plugin_that_is_edited_during_a_run_does_not_pass_for_the_one_that_was_planned(tmp_path: Path):
    """Workers read the file anew for every trial; the row would carry the hash of code that did not run."""
    path = tmp_path / "mine.py"
    code = (
        "import numpy as np\nfrom mixers.base import Mixer\n\n\nclass Mine(Mixer):\n    name = 'mine'\n\n"
        "    def start(self, problem, lab):\n        return problem.mixture(WEIGHTS)\n"
    )
    path.write_text(code.replace("WEIGHTS", "np.full(problem.m, 1 / problem.m)"))
    files = (*FILES, path)
    base = {"tasks": "toy", "mixers": "mine", "seeds": "1", "device": "cpu", "plugin": files}
    (spec,) = trials(read_experiment(None, base), Registry(files))
    path.write_text(code.replace("WEIGHTS", "problem.train_shares"))
    row = _run(spec, Registry(files), RunFolder(tmp_path / "run"), tmp_path / "cache")
    assert row["status"] != "ok" or row["mixture"]["requested"][0][1] == [0.25] * 4


def test_a_mixer_cannot_change_the_problem(toy_specs, registry, tmp_path: Path):
    (spec,) = toy_specs()
    problem = prepare(spec, registry, tmp_path).problem
    arrays = (problem.train_shares, problem.target_shares, problem.examples, problem.units)
    assert not any(array.flags.writeable for array in arrays if isinstance(array, np.ndarray))


def test_a_class_without_a_name_of_its_own_does_not_replace_its_parent(tmp_path: Path):
    path = tmp_path / "mine.py"
    path.write_text("from mixers.uniform import Uniform\n\n\nclass Mine(Uniform):\n    pass\n")
    assert Registry([path]).all("mixers")["uniform"].origin == "tree"
