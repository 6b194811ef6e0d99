"""Exported mixtures against numbers worked out by hand, and against the libraries that are to read them."""

from __future__ import annotations

import json
import random
import re
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from harness.cli import main
from harness.export import blend
from harness.forms import Point
from harness.spec import TrialSpec
from tests.harness import rows_factory as factory
from tests.harness.conftest import FILES

FINAL = [0.1, 0.6, 0.3]
MOVING = [[0, [0.5, 0.25, 0.25]], [100, [0.2, 0.2, 0.6]], [400, FINAL]]
TRAIN_SHARES = [0.5, 0.3, 0.2]
TRAINERS = ("interleave", "open_clip", "mosaicml")


def moving(**kw: Any) -> dict[str, Any]:
    """A trial of 1000 steps whose mixture changes at steps 100 and 400."""
    row = factory.row("rnb", requested=MOVING, **kw)
    row["domains"]["train_shares"] = TRAIN_SHARES
    return row


@pytest.fixture
def export(tmp_path: Path):
    """Export from a run folder of these rows."""

    def call(rows: list[dict[str, Any]], *words: str):
        folder = factory.write_run(tmp_path / "run", rows)
        return CliRunner().invoke(main, ["export", str(folder), *words])

    return call


def _fails(result, *parts: str) -> None:
    """One line, exit code 2, nothing on standard output."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("error: ")
    for part in parts:
        assert part in line


def _words(command: str) -> list[str]:
    """The words of a shell command; unlike a shell, shlex does not join lines."""
    return shlex.split(command.replace("\\\n", " "), comments=True)


# Which mixture


def test_final_is_the_last_mixture_with_where_it_comes_from(export):
    result = export([moving()])
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert data["domains"] == list(factory.DOMAINS)
    assert data["weights"] == FINAL
    assert data["train_shares"] == TRAIN_SHARES
    assert "in force from step 400 to the end, step 1000" in data["meaning"]
    assert "loss_weights" not in data
    assert data["notes"] == []
    made = data["provenance"]
    assert made["rows"] == ["text-nano-original-rnb-s0"]
    assert made["seeds"] == [0]
    assert (made["task"], made["partition"], made["mixer"]) == ("text", "original", "rnb")
    assert made["mixer_config"] == {"label": "rnb"}
    assert made["commit"] == "0123456789abcdef"
    assert made["fingerprint"] == "sha256:aaaabbbbcccc"
    assert made["metric"] == {"name": "bits_per_byte", "unit": "bits/byte", "higher_is_better": False, "test": 2.0}


def test_average_counts_each_mixture_by_its_steps(export):
    data = json.loads(export([moving()], "--which", "average").stdout)
    # 100 steps of the first, 300 of the second, 600 of the third
    assert data["weights"] == pytest.approx([0.17, 0.445, 0.385], abs=1e-12)
    assert "1000 steps" in data["meaning"]


def test_schedule_is_every_mixture_with_its_first_step(export):
    text = export([moving()], "--which", "schedule").stdout
    data = json.loads(text)
    assert data["schedule"] == MOVING
    assert "\n  [100, [0.2, 0.2, 0.6]],\n" in text
    assert "weights" not in data


def test_loss_weights_are_averaged_over_the_examples_drawn(export):
    row = moving()
    row["mixture"]["loss_weights"] = [[100, [2.0, 1.0, 0.5]]]
    data = json.loads(export([row], "--which", "average").stdout)
    # code: 0.05 x 1 + 0.06 x 2 + 0.06 x 1 of 0.17 drawn; quotations: 0.025 + 0.18 x 0.5 + 0.18 of 0.385
    assert data["loss_weights"] == pytest.approx([0.23 / 0.17, 1.0, 0.295 / 0.385], abs=1e-12)
    assert any("averaged over the examples drawn" in note for note in data["notes"])
    data = json.loads(export([row], "--which", "schedule").stdout)
    assert data["loss_weight_schedule"] == [[0, [1, 1, 1]], [100, [2.0, 1.0, 0.5]], [400, [1, 1, 1]]]
    assert "loss_weights" not in json.loads(export([row]).stdout), "the last mixture has none"


def test_a_blend_keeps_the_part_of_each_domain_in_the_loss():
    points = [
        Point(weights=np.array([0.5, 0.5, 0.0]), loss_weights=np.array([3.0, 1.0, 7.0])),
        Point(weights=np.array([0.1, 0.9, 0.0]), loss_weights=None),
    ]
    mixed = blend(points, [1, 3])
    assert mixed.weights == pytest.approx([0.2, 0.8, 0.0])
    assert mixed.weights * mixed.loss_weights == pytest.approx([(1.5 + 3 * 0.1) / 4, (0.5 + 3 * 0.9) / 4, 0.0])
    assert mixed.loss_weights[2] == 1.0
    assert blend(points[:1], [17]) is points[0]


# Forms


def test_interleave_gives_the_realised_shares(export, tmp_path):
    datasets = pytest.importorskip("datasets")
    result = export([moving()], "--format", "interleave", "--out", str(tmp_path / "mixture.py"))
    assert result.output == f"wrote {tmp_path / 'mixture.py'}\n"
    space: dict[str, Any] = {}
    exec(compile((tmp_path / "mixture.py").read_text(), "mixture.py", "exec"), space)
    assert space["names"] == list(factory.DOMAINS)
    assert space["probabilities"] == FINAL
    sizes = {"quotations": 300, "code": 500, "speeches": 200}  # in another order than the names
    sources = {name: datasets.Dataset.from_dict({"from": [name] * size}) for name, size in sizes.items()}
    # Drawn until every domain was seen whole: code, at a tenth, takes some 5000 draws.
    drawn = Counter(space["mixed"](sources)["from"])
    total = sum(drawn.values())
    assert total > 4000
    for name, share in zip(factory.DOMAINS, FINAL, strict=True):
        assert drawn[name] / total == pytest.approx(share, abs=4 * (share * (1 - share) / total) ** 0.5)
    streams = {name: source.to_iterable_dataset() for name, source in sources.items()}
    drawn = Counter(example["from"] for example in space["mixed"](streams, seed=1).take(2000))
    for name, share in zip(factory.DOMAINS, FINAL, strict=True):
        assert drawn[name] / 2000 == pytest.approx(share, abs=0.05)


def test_open_clip_factors_are_weight_over_train_share(export):
    result = export([moving()], "--format", "open_clip")
    words = _words(result.stdout)
    assert words[:3] == ["python", "-m", "open_clip_train.main"]
    given = dict(zip(words[6::2], words[7::2], strict=True))
    assert words[3:6] == ["--dataset-type", "webdataset", "--dataset-resampled"]
    assert given == {
        "--train-data": "code.tar::speeches.tar::quotations.tar",
        "--train-data-upsampling-factors": "0.2::2::1.5",  # 0.1 / 0.5, 0.6 / 0.3, 0.3 / 0.2
    }
    assert "code: weight 0.1 / train share 0.5 = factor 0.2" in result.stdout


def test_open_clip_reads_its_own_arguments(export):
    params = pytest.importorskip("open_clip_train.params")
    words = _words(export([moving()], "--format", "open_clip").stdout)
    args = params.parse_args(words[3:])
    assert args.dataset_resampled
    assert args.dataset_type == "webdataset"
    assert args.train_data_upsampling_factors == "0.2::2::1.5"


def test_open_clips_rule_gives_the_shares_however_the_shards_are_cut():
    """Shards are drawn by their source's factor and read whole: sizes of shards do not matter, those of sources do."""
    shards = [("code", 100)] * 4 + [("code", 10)] * 10 + [("speeches", 300)] + [("quotations", 50)] * 4
    factor = {"code": 0.2, "speeches": 2.0, "quotations": 1.5}
    picks = random.Random(0).choices(shards, weights=[factor[name] for name, _ in shards], k=200_000)
    drawn: Counter[str] = Counter()
    for name, size in picks:
        drawn[name] += size
    total = sum(drawn.values())
    assert [drawn[name] / total for name in factor] == pytest.approx(FINAL, abs=0.005)


def test_mosaicml_is_one_stream_a_domain(export):
    result = export([moving()], "--format", "mosaicml")
    assert yaml.safe_load(result.stdout) == {
        "streams": {
            "code": {"local": "code", "proportion": 0.1},
            "speeches": {"local": "speeches", "proportion": 0.6},
            "quotations": {"local": "quotations", "proportion": 0.3},
        }
    }


@pytest.mark.parametrize("form", TRAINERS)
def test_every_trainers_form_says_what_it_is(export, form):
    text = export([moving()], "--format", form, "--which", "average").stdout
    assert "# row text-nano-original-rnb-s0" in text
    assert "commit 0123456789abcdef, data sha256:aaaabbbbcccc" in text
    assert "bits_per_byte 2.0000 on test" in text
    assert "mean over the 1000 steps" in text
    assert "shares of the examples drawn, not of tokens" in text
    assert "WARNING" not in text


@pytest.mark.parametrize("form", TRAINERS)
def test_loss_weights_that_a_form_cannot_carry_are_named(export, form):
    row = moving()
    row["mixture"]["loss_weights"] = [[400, [2.0, 0.5, 1.0]]]
    text = export([row], "--format", form).stdout
    assert "cannot carry this mixture's loss weights" in text
    for weight, name in ((2.0, "code"), (0.5, "speeches"), (1.0, "quotations")):
        assert f"#   loss weight {weight}: {name}\n" in text


@pytest.mark.parametrize("form", TRAINERS)
def test_domains_that_are_never_drawn_are_left_out_and_named(export, form):
    text = export([factory.row(requested=[[0, [0.75, 0.0, 0.25]]])], "--format", form).stdout
    assert "# left out, weight 0: speeches\n" in text
    body = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    assert "speeches" not in body
    assert "quotations" in body


@pytest.mark.parametrize("form", TRAINERS)
def test_names_of_domains_do_not_break_a_form(export, form, tmp_path):
    names = ('it\'s "a" b::c', "x\n# y: {1..9}", "x # y: {1..9}", "yes", "Äpfel/銀")
    row = factory.row(domains=names, train=names)
    result = export([row], "--format", form)
    assert result.exit_code == 0, result.output
    if form == "interleave":
        space: dict[str, Any] = {}
        exec(result.stdout.replace("from datasets import interleave_datasets", ""), space)
        assert space["names"] == list(names)
    elif form == "mosaicml":
        streams = yaml.safe_load(result.stdout)["streams"]
        assert list(streams) == list(names)
        assert len({stream["local"] for stream in streams.values()}) == 5
    else:
        words = _words(result.stdout)
        sources = words[words.index("--train-data") + 1].split("::")
        assert len(set(sources)) == 5
        assert not any(set(source) & set("{}/ ") for source in sources)


def test_groups_of_a_partition_are_said_to_be_no_data_sets(export):
    row = factory.row("rnb", 3, partition="kmeans[k=4]")
    for form in ("json", *TRAINERS):
        text = export([row], "--format", form).stdout
        assert "groups made by kmeans[k=4] for seed 3, not data sets: docs/export.md" in text


def test_what_an_ensemble_drew_is_said_to_be_no_models_mixture(export):
    row = factory.row("ensemble") | {"mixer_report": {"served_models": 3}}
    for form in ("json", *TRAINERS):
        assert "no one model was trained on this mixture" in export([row], "--format", form).stdout
    assert "ensemble's" not in export([factory.row("uniform")], "--format", "json").stdout


# Which row


def grid() -> list[dict[str, Any]]:
    return [
        factory.row(mixer, seed, partition=partition, label=label)
        for partition in ("original", "kmeans[k=8]")
        for mixer, label in (("uniform", "uniform"), ("rnb", "rnb"), ("rnb", "rnb[lam=10]"))
        for seed in (0, 1)
    ]


def test_several_rows_are_one_line_that_says_what_tells_them_apart(export):
    _fails(
        export(grid()),
        "12 rows match",
        "--partition kmeans[k=8] | original, --mixer rnb | rnb[lam=10] | uniform, --seed 0 | 1",
    )
    _fails(export(grid(), "--partition", "original", "--mixer", "rnb"), "--seed 0 | 1", "--mean")
    result = export(grid(), "--partition", "kmeans", "--seed", "0")
    _fails(result, "3 rows match; choose by --mixer rnb | rnb[lam=10] | uniform")
    assert "--seed" not in result.stderr
    assert "--mean" not in result.stderr


def test_a_label_comes_before_a_name_and_a_name_is_enough(export):
    words = ("--partition", "original", "--seed", "1")
    made = json.loads(export(grid(), *words, "--mixer", "rnb").stdout)["provenance"]
    assert made["mixer_label"] == "rnb"
    made = json.loads(export(grid(), *words, "--mixer", "rnb[lam=10]").stdout)["provenance"]
    assert made["mixer_label"] == "rnb[lam=10]"
    made = json.loads(export(grid(), "--partition", "kmeans", "--seed", "1", "--mixer", "uniform").stdout)["provenance"]
    assert made["partition_label"] == "kmeans[k=8]"


def test_rows_that_only_their_ids_tell_apart(export):
    rows = [factory.row(), factory.row() | {"id": "text-demo-original-uniform-s0", "cell": "text-demo"}]
    rows[1]["spec"] = rows[1]["spec"] | {"preset": "demo"}
    _fails(export(rows), "--id text-demo-original-uniform-s0 | text-nano-original-uniform-s0")
    made = json.loads(export(rows, "--id", "text-demo-original-uniform-s0").stdout)["provenance"]
    assert made["preset"] == "demo"
    _fails(export(rows, "--id", "text-demo-original-uniform-s1"), "did you mean text-demo-original-uniform-s0?")


def test_a_file_of_one_row_and_a_published_board_are_read(tmp_path):
    factory.write_run(tmp_path, [moving()])
    file = tmp_path / "rows" / "text-nano-original-rnb-s0.json"
    assert json.loads(CliRunner().invoke(main, ["export", str(file)]).stdout)["weights"] == FINAL
    board = Path(__file__).parents[2] / "leaderboards" / "text-nano"
    words = ["--partition", "original", "--mixer", "natural", "--mean"]
    data = json.loads(CliRunner().invoke(main, ["export", str(board), *words]).stdout)
    assert data["weights"] == pytest.approx(data["train_shares"])


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("--mixer", "rnbb"), ("--mixer rnbb", "did you mean 'rnb'?")),
        (("--task", "texts"), ("--task texts", "did you mean 'text'?")),
        (("--partition", "original", "--mixer", "rnb", "--seed", "7"), ("--seed 7", "0 | 1")),
        (("--id", "nothing-like-it"), ("no row has the id",)),
        (("--which", "schedule", "--format", "interleave"), ("interleave takes one mixture", "--format json")),
        (("--which", "schedule", "--format", "open_clip"), ("--which schedule",)),
        (("--which", "schedule", "--format", "mosaicml"), ("--which schedule",)),
        (("--mean", "--seed", "0"), ("leave --seed out",)),
        (("--mean",), ("6 cells match", "--partition kmeans[k=8] | original, --mixer rnb | rnb[lam=10] | uniform")),
    ],
)
def test_a_choice_that_cannot_be_is_one_line(export, tmp_path, words, parts):
    _fails(export(grid(), *words, "--out", str(tmp_path / "out")), *parts)
    assert not (tmp_path / "out").exists()


def test_a_trial_that_did_not_finish_has_no_mixture(export):
    _fails(export([factory.failed()]), "text-nano-original-rnb-s0 ended with status timeout (ran past 60 s)")


def test_what_is_no_row_is_one_line(export, tmp_path):
    _fails(CliRunner().invoke(main, ["export", str(tmp_path / "nowhere")]), "no such file or folder")
    (tmp_path / "x.json").write_text("[]")
    _fails(CliRunner().invoke(main, ["export", str(tmp_path / "x.json")]), "is not a JSON object")
    _fails(export([]), "holds no row yet")
    _fails(export([factory.row(requested=[[0, [0.5, 0.5]]])]), "at step 0 is not one weight for each training domain")


def test_open_clip_needs_the_sizes_of_the_domains(export):
    row = moving()
    del row["domains"]["train_shares"]
    _fails(export([row], "--format", "open_clip"), "the row lacks them")


def test_a_file_that_cannot_be_written_is_one_line(export, tmp_path):
    (tmp_path / "folder").mkdir()
    _fails(export([moving()], "--out", str(tmp_path / "folder")), "cannot be written")
    _fails(export([moving()], "--out", str(tmp_path / "run" / "rows" / f"{moving()['id']}.json" / "x")), "--out")
    assert not list(tmp_path.glob(".folder*"))


# The mean over seeds


def test_mean_of_static_mixtures(export):
    rows = [
        factory.row("rnb", 0, 2.0, requested=[[0, [0.5, 0.3, 0.2]]]),
        factory.row("rnb", 1, 2.2, requested=[[0, [0.3, 0.3, 0.4]]]),
        factory.failed("rnb", 2),
    ]
    data = json.loads(export(rows, "--mean").stdout)
    assert data["weights"] == pytest.approx([0.4, 0.3, 0.3], abs=1e-12)
    assert data["notes"] == ["mean of seeds 0, 1; without seeds 2, which did not finish"]
    assert data["provenance"]["seeds"] == [0, 1]
    assert data["provenance"]["metric"]["test"] == pytest.approx(2.1)
    assert json.loads(export(rows, "--mean", "--id", rows[1]["id"]).stdout) == data


def test_mean_of_schedules_that_share_their_steps(export):
    other = [[step, weights[::-1]] for step, weights in MOVING]
    rows = [moving(), factory.row("rnb", 1, requested=other)]
    rows[1]["domains"]["train_shares"] = TRAIN_SHARES
    rows[0]["mixture"]["loss_weights"] = [[400, [3.0, 1.0, 1.0]]]
    data = json.loads(export(rows, "--mean", "--which", "schedule").stdout)
    assert [step for step, _ in data["schedule"]] == [0, 100, 400]
    assert data["schedule"][2][1] == pytest.approx([0.2, 0.6, 0.2], abs=1e-12)
    # the first domain: 0.1 drawn at loss weight 3 and 0.3 at 1
    assert data["loss_weight_schedule"][2][1] == pytest.approx([1.5, 1.0, 1.0], abs=1e-12)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda row: row["mixture"].update(requested=MOVING[:2]), "at different steps"),
        (lambda row: row.update(fingerprint="other"), "different data"),
        (lambda row: row["domains"].update(train_shares=[0.4, 0.4, 0.2]), "each seed has groups of its own"),
    ],
)
def test_what_has_no_mean_is_one_line(export, change, why):
    rows = [moving(), factory.row("rnb", 1, requested=MOVING)]
    rows[1]["domains"]["train_shares"] = TRAIN_SHARES
    assert export(rows, "--mean").exit_code == 0
    change(rows[1])
    _fails(export(rows, "--mean"), why, "--seed")


def test_mean_of_trials_that_all_failed(export):
    _fails(export([factory.failed("rnb", 0), factory.failed("rnb", 1)], "--mean"), "ended with status timeout")


# Real trials


def test_a_real_trials_mixture_and_loss_weights_come_out_as_they_were(run_toy, export):
    row = run_toy(mixers="memory")
    assert row["status"] == "ok", row["reason"]
    data = json.loads(export([row], "--which", "schedule").stdout)
    assert data["schedule"] == row["mixture"]["requested"]
    assert data["loss_weight_schedule"] == row["mixture"]["loss_weights"]
    data = json.loads(export([row]).stdout)
    assert data["loss_weights"] == row["mixture"]["loss_weights"][-1][1]
    average = json.loads(export([row], "--which", "average").stdout)
    assert sum(average["weights"]) == pytest.approx(1)


def test_the_pages_way_to_the_groups_of_the_examples(run_toy, toy_specs, tmp_path, monkeypatch):
    monkeypatch.setenv("MIXOFF_CACHE", str(tmp_path / "cache"))
    flags = {"mixers": "uniform", "partitions": "random[k=3]"}
    row = run_toy(**flags)
    (spec,) = toy_specs(**flags)
    assert TrialSpec.from_row(row["spec"]) == spec
    factory.write_run(tmp_path, [row])
    page = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    block = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert block
    code = re.sub(r"\[\"rows/.*?\"\]", repr([str(tmp_path / "rows" / f"{row['id']}.json")]), block[1])
    space: dict[str, Any] = {}
    exec(code.replace("Registry()", f"Registry({[str(file) for file in FILES]!r})"), space)
    counts = Counter(space["groups"])
    assert [counts[name] for name in row["domains"]["train"]] == row["domains"]["examples"]
    assert len(space["labels"]) == len(space["groups"]) == len(space["examples"])
