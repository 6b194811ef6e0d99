"""A trial on a table: its row, what its lab sells and refuses, the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.experiment import read_experiment, trials
from harness.leaderboard.cautions import oddity
from harness.leaderboard.console import terminal_table
from harness.leaderboard.groups import split
from harness.leaderboard.rows import checked, deterministic
from harness.registry import Registry
from harness.store import RunFolder
from harness.trial import run_trial
from tests.harness.conftest import PLUGINS
from tests.tasks.table_files import truth, write_csv

FILES = (PLUGINS / "offline_mixers.py", PLUGINS / "odd_mixers.py", PLUGINS / "known_task.py")
ONLY_STATIC = "a table replays runs of static mixtures; "


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "t.csv", {"1m": 60, "10m": 80}, noise=0.01)


@pytest.fixture
def run(tmp_path: Path, table: Path):
    """The row of one trial on the table, made in this process."""

    def make(
        mixer: str = "uniform", settings: str = "", cache: str = "cache", judge: str = "test", **flags: Any
    ) -> dict[str, Any]:
        tasks = f"tabular[path={table}{settings}]"
        base = {"tasks": tasks, "mixers": mixer, "seeds": "1", "device": "cpu", "plugin": FILES}
        registry = Registry(FILES)
        (spec,) = trials(read_experiment(None, base | flags), registry, judge)
        (tmp_path / cache).mkdir(exist_ok=True)
        return run_trial(spec, registry, RunFolder(tmp_path / "run"), tmp_path / cache, lambda step, steps: None)

    return make


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MIXOFF_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    plugins = [word for file in FILES for word in ("--plugin", str(file))]

    def invoke(*words: str):
        return CliRunner().invoke(main, [*words, *(plugins if words[0] == "run" else [])])

    return invoke


def test_a_row_of_a_table_is_a_row(run):
    row = checked(run("uniform"), "here")
    assert row["status"] == "ok", row["reason"]
    true = truth(np.full((1, 3), 1 / 3))[0]
    loss, regret = row["metrics"]["loss"], row["metrics"]["regret"]
    assert loss["primary"]
    assert not regret["primary"]
    assert loss["by_domain"]["prose"] == pytest.approx(true[0], abs=0.02)
    assert loss["target"] == pytest.approx(np.mean([*loss["by_domain"].values()]))
    assert (loss["worst_domain"], loss["worst"]) == ("exams", loss["by_domain"]["exams"])
    assert row["domains"]["original"] == ["code", "prose", "maths", "exams"]
    assert row["domains"]["original_target_shares"] == [0.0, 0.5, 0.0, 0.5]
    assert row["domains"]["targets"] == ["prose", "exams"]
    assert row["mixture"]["requested"] == [[0, pytest.approx([1 / 3] * 3)]]
    assert regret["target"] == pytest.approx(loss["target"] - row["table"]["best"]["score"])
    assert regret["target"] > 0
    assert row["table"]["size"] == "10m"
    assert row["data"]["sizes"][1]["left_out"]["exams"]["spearman"] > 0.9
    assert row["overhead"]["mixing_flops"] == 0.0
    assert json.loads(json.dumps(row, allow_nan=False))


def test_a_tabular_task_from_a_file_is_judged_by_what_it_answers(run):
    row = run("natural", tasks="known")
    assert row["metrics"]["loss"]["by_domain"] == pytest.approx({"a": 0.2, "b": 0.8})
    assert row["metrics"]["loss"]["target"] == pytest.approx(0.25 * 0.2 + 0.75 * 0.8)
    assert row["metrics"]["loss"]["worst_domain"] == "b"
    assert row["metrics"]["regret"]["by_domain"] == pytest.approx({"a": -0.8, "b": 0.8})
    assert row["metrics"]["regret"]["target"] == pytest.approx(0.65 - 0.25)
    assert row["domains"]["examples"] == [1600, 400], "twice the 100 steps of 10"
    assert row["overhead"]["training_flops"] == 60.0
    bought = run("best_of[size=0.5,runs=3]", tasks="known")
    assert bought["overhead"]["mixing_flops"] == 90.0
    assert bought["table"]["replayed"] == {"half": {"runs": 3, "outside_support": 0}}
    shares = 1.5 - np.array(bought["mixer_report"]["losses"])
    best = shares[(shares @ [0.25, 0.75]).argmax()]
    np.testing.assert_allclose(bought["mixture"]["realised"], best)
    assert "MixerError: order size=0.5 or size=1" in run("best_of[size=0.7]", tasks="known")["reason"]


def test_target_shares_decide_over_the_score(run):
    row = run("uniform", ",target={exams: 1}")
    assert row["metrics"]["loss"]["target"] == row["metrics"]["loss"]["by_domain"]["exams"]
    assert row["domains"]["original_target_shares"] == [0.0, 0.0, 0.0, 1.0]


def test_bought_runs_are_replayed_and_billed_whole_at_their_size(run):
    row = run("best_of[size=0.1]", ",tokens={1m: 1e9, 10m: 4e9}")
    assert row["status"] == "ok", row["reason"]
    small, large = 6 * 1e6 * 1e9, 6 * 1e7 * 4e9
    assert row["overhead"]["training_flops"] == large
    assert row["overhead"]["mixing_flops"] == pytest.approx(6 * small)
    assert row["overhead"]["counted_share"] == pytest.approx(6 * small / large)
    assert row["overhead"]["purchases"]["runs"]["calls"] == 6
    assert row["table"]["replayed"]["1m"]["runs"] == 6
    assert row["training"] == {"parameters": 1e7, "units": 4e9, "unit": "token", "final_train_loss": None}
    bought = np.array(row["mixer_report"]["losses"])
    assert bought.min() > truth(np.eye(3), "1m").min() - 0.1
    assert bought[:, 0].max() < 1.3 * 3.0


def test_where_tokens_are_not_known_the_unit_is_a_run(run):
    row = run("best_of")
    assert (row["training"]["units"], row["training"]["unit"]) == (1.0, "run")
    assert row["overhead"]["counted_share"] == pytest.approx(6.0)


def test_buying_better_mixtures_lowers_the_regret(run):
    few, many = run("best_of[runs=2]"), run("best_of[runs=40]")
    assert many["metrics"]["regret"]["target"] < few["metrics"]["regret"]["target"]


def test_a_seed_gives_the_same_row_and_another_one_other_noise(run):
    first, again = run("best_of"), run("best_of", cache="another")
    assert deterministic(first) == deterministic(again)
    other = run("best_of", seeds="7,")
    assert other["mixer_report"]["losses"] != first["mixer_report"]["losses"]
    assert run("uniform", seeds="7,")["metrics"] == run("uniform")["metrics"], "what is judged has no noise"


@pytest.mark.parametrize(
    ("mixer", "said"),
    [
        ("rnb", f"{ONLY_STATIC}rnb's signal DomainGradients needs training: use a task that trains"),
        ("odm", f"{ONLY_STATIC}odm's signal TrainLosses needs training"),
        ("skill_it", f"{ONLY_STATIC}skill_it's purchase of validation losses of the main run needs training"),
        ("domain2vec", f"{ONLY_STATIC}domain2vec's purchase of embeddings needs training"),
        ("doremi", f"{ONLY_STATIC}keeping a run's model needs training"),
        ("automixer", f"{ONLY_STATIC}automixer's purchase of influence of examples needs training"),
        ("best_of[oddity=mixer]", f"{ONLY_STATIC}a run under a mixer needs training"),
        ("best_of[oddity=start]", f"{ONLY_STATIC}a run from a kept model needs training"),
        ("best_of[oddity=keep]", f"{ONLY_STATIC}keeping a run's model needs training"),
        ("best_of[oddity=keep on the way]", f"{ONLY_STATIC}keeping a run's model needs training"),
        ("best_of[oddity=subsample]", f"{ONLY_STATIC}a run on a subsample (0.5) of the data needs training"),
        ("best_of[oddity=early]", f"{ONLY_STATIC}a loss before a run's end (evaluate_at) needs training"),
        ("best_of[oddity=lengths]", f"{ONLY_STATIC}comparing runs of 10 and of 11 steps at one size needs training"),
        ("sft_dmo", f"{ONLY_STATIC}comparing runs of "),
        ("synthetic_ratio", f"{ONLY_STATIC}comparing runs of "),
        ("best_of[oddity=loss weights]", f"{ONLY_STATIC}a run with loss weights needs training"),
        ("best_of[oddity=neither]", "a run has a mixture and at least one step; order it so"),
        ("best_of[oddity=more]", "runs of 4.2e+08 FLOPs, 3.6e+08 were declared; add them to purchases().runs"),
        ("best_of[size=0.01]", "no runs of about 0.01 of the judged model's parameters; order one of 0.1 (1m)"),
        ("best_of[size=0]", "a run's size must be above 0, not 0"),
        ("grabs[what=validation]", f"{ONLY_STATIC}validation losses of the main run needs training"),
        ("grabs[what=gradients]", f"{ONLY_STATIC}a domain gradient needs training"),
        ("grabs[what=mean gradients]", f"{ONLY_STATIC}a domain gradient needs training"),
        ("grabs[what=probe]", f"{ONLY_STATIC}a probe needs training"),
        ("grabs[what=embeddings]", f"{ONLY_STATIC}an embedding of examples needs training"),
        ("grabs[what=influence]", f"{ONLY_STATIC}influence of examples needs training"),
        ("weighing", "a table replays runs without loss weights; use a mixer that sets none"),
    ],
)  # fmt: skip
def test_what_a_table_cannot_answer_is_a_failed_row_with_the_reason(run, mixer, said):
    row = run(mixer)
    assert row["status"] == "failed"
    assert said in row["reason"]
    assert "\n" not in row["reason"]
    checked(row, "here")


def test_a_loss_at_the_end_may_be_asked_for(run):
    assert run("best_of[oddity=end]")["status"] == "ok"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"partitions": "random[k=3]"}, "partition random[k=3] cannot be made of it; use --partitions original"),
        ({"budget_rule": "total"}, "a table's judged run cannot be made shorter by what was bought"),
        ({"judge": "validation"}, "a table has no validation split apart from what it judges by"),
    ],
)
def test_rules_that_no_table_can_follow_are_failed_rows(run, flags, said):
    row = run("uniform", **flags)
    assert row["status"] == "failed"
    assert said in row["reason"]


def test_a_mixture_far_from_the_rows_is_flagged_in_row_and_table(table, run):
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[0], *(line for line in lines[1:] if float(line.split(",")[2]) > 0.5)]))
    row = run("uniform")
    support = row["table"]["support"]
    assert support["outside"]
    assert support["distance"] > support["limit"] > 0
    assert oddity(row) == "was judged on a mixture outside the support of the table"
    shown = terminal_table([row, run("natural")])
    assert "`original/uniform` was judged on a mixture outside the support of the table in seed 0." in shown
    assert "`original/natural` was" not in shown
    assert f"its error is {row['table']['score_rmse']:.2g} (RMSE)" in shown


@pytest.mark.slow
def test_a_grid_on_a_table_runs_resumes_and_is_published_and_exported(call, table, tmp_path):
    words = ["run", "--tasks", f"tabular[path={table}]", "--mixers", "uniform,natural,best_of,rnb", "--seeds", "3"]
    done = call(*words, "--out", "out")
    assert done.exit_code == 0, done.output
    assert "timing" not in done.output, "nothing is stepped, so nothing is timed"
    assert len(list((tmp_path / "out" / "rows").glob("*.json"))) == 12
    assert "12 trials, 12 already done" in call(*words, "--out", "out").output
    assert call("compare", "out", "--baseline", "uniform").exit_code == 0
    board = call("leaderboard", "out", "--out", "boards", "--name", "b")
    assert board.exit_code == 0, board.output
    page = (tmp_path / "boards" / "b" / "README.md").read_text()
    assert "regret" in page
    exported = call("export", "out", "--mixer", "best_of", "--seed", "1")
    assert exported.exit_code == 0, exported.output
    assert json.loads(exported.output)["domains"] == ["code", "prose", "maths"]


def test_exit_codes_and_messages_of_the_command(call, table, tmp_path):
    dry = call("run", "--tasks", f"tabular[path={table}]", "--mixers", "uniform", "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert "none: published runs are replayed" in dry.output
    missing = call("run", "--tasks", "tabular[path=nowhere]", "--mixers", "uniform", "--dry-run")
    assert missing.exit_code == 2
    assert "MISSING  a table of runs  nowhere does not exist" in missing.output
    unnamed = call("run", "--tasks", "tabular", "--mixers", "uniform", "--out", "a")
    assert unnamed.exit_code == 2
    assert unnamed.stderr.startswith("error: tabular at demo needs a table of runs: name RegMix's folder data/")
    table.write_text(table.read_text().replace("w_prose", "prose"))
    broken = call("run", "--tasks", f"tabular[path={table}]", "--mixers", "uniform", "--out", "b")
    assert broken.exit_code == 2
    assert "column 'prose' is none of w_<domain>" in broken.stderr
    assert broken.stderr.count("\n") == 1
    assert "surrogate" in call("info", "tabular").output
    assert "tabular" in call("list", "presets").output


@pytest.mark.slow
def test_where_every_mixer_needs_training_the_exit_code_is_1(call, table):
    done = call("run", "--tasks", f"tabular[path={table}]", "--mixers", "rnb,odm", "--seeds", "1", "--out", "out")
    assert done.exit_code == 1
    assert "every trial failed" in done.stderr
    assert "needs training" in done.output


def test_the_two_surrogates_judge_apart_and_share_no_table(run):
    rows = [run("natural", f",surrogate={name}") for name in ("gp", "trees")]
    assert [row["data"]["surrogate"] for row in rows] == ["gp", "trees"]
    assert rows[0]["metrics"] != rows[1]["metrics"]
    assert rows[0]["metrics"]["loss"]["target"] == pytest.approx(rows[1]["metrics"]["loss"]["target"], abs=0.1)
    assert len(split(rows)) == 2


@pytest.mark.slow
def test_the_number_of_workers_changes_no_row(call, table, tmp_path):
    rows = []
    for workers in ("1", "2"):
        words = ["--mixers", "best_of,natural", "--seeds", "2", "--workers", workers, "--out", f"o{workers}"]
        assert call("run", "--tasks", f"tabular[path={table}]", *words).exit_code == 0
        files = sorted((tmp_path / f"o{workers}" / "rows").glob("*.json"))
        rows.append([deterministic(json.loads(file.read_text())) for file in files])
    assert len(rows[0]) == 4
    assert rows[0] == rows[1]


def test_the_best_static_mixture_is_chosen_under_the_noise_of_runs(run):
    row = run("best_static[mixtures=8]")
    assert row["status"] == "ok", row["reason"]
    assert row["reference"]
    assert row["table"]["replayed"] == {
        "10m": {"runs": 8, "outside_support": row["table"]["replayed"]["10m"]["outside_support"]}
    }
    losses = row["mixer_report"]["losses"]
    assert row["mixer_report"]["chosen"] == losses[0][0]
    judged = row["metrics"]["loss"]["target"]
    assert judged != pytest.approx(losses[0][1], abs=1e-6), "a run ends with noise"
    assert row["metrics"]["regret"]["target"] > -1e-9
    assert judged < run("uniform")["metrics"]["loss"]["target"]
    assert "reference" not in run("uniform")
    assert run("best_static[mixtures=8]", seeds=[7])["mixture"] == row["mixture"]
