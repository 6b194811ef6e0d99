from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from harness.cli import main
from harness.experiment import plain
from tasks import hugging_face
from tasks.base import SPLITS, TaskError
from tasks.instruct import Instruct

from .conftest import write_jsonl
from .test_instruct_sources import WORDS, phrase, skill, write_release_2

SAMPLE = Path(__file__).parents[2].parent / "shared" / "data" / "natural_instructions_v1"
TINY: dict[str, Any] = {"vocabulary": 300, "context": 48, "width": 16, "layers": 1, "heads": 2}
MakeInstruct = Callable[..., Instruct]


@pytest.fixture
def make(tmp_path: Path) -> MakeInstruct:
    """Tiny instruct tasks that share one cache folder."""

    def make(preset: str = "nano", **settings: Any) -> Instruct:
        chosen = Instruct.presets[preset]
        return Instruct(Instruct.configure(chosen, {**TINY, **settings}), chosen, tmp_path / "cache")

    return make


def dolly_rows(count: int = 120) -> list[dict[str, object]]:
    categories = ["open_qa", "closed_qa", "brainstorming"]
    return [
        {
            "instruction": f"Say {phrase(n, 3)} {n}",
            "context": phrase(n) if n % 2 else "",
            "response": phrase(n, 2),
            "category": categories[min(n % 4, 2)],
        }
        for n in range(count)
    ]


@pytest.fixture
def dolly(tmp_path: Path) -> Path:
    (tmp_path / "data" / "dolly").mkdir(parents=True)
    return write_jsonl(tmp_path / "data" / "dolly" / "databricks-dolly-15k.jsonl", dolly_rows())


@pytest.fixture
def far(tmp_path: Path) -> Path:
    """A second release whose test categories are no training categories."""
    train = {f"task00{n}_made": skill(category, 30, n) for n, category in enumerate(["Cooking", "Cooking", "Travel"])}
    test = {"task010_made": skill("Chess", 20, 10), "task011_made": skill("Music", 40, 11)}
    return write_release_2(tmp_path / "natural-instructions", train, test)


@pytest.fixture
def gpt_neo(tmp_path: Path) -> Path:
    """A GPT-Neo with two tiny layers and a tokenizer of its own, as a pretrained model lies in a folder."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import GPTNeoConfig, GPTNeoForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<|endoftext|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([" ".join(WORDS)], trainer)
    path = tmp_path / "gpt-neo"
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|endoftext|>", bos_token="<|endoftext|>"
    ).save_pretrained(path)
    torch.manual_seed(0)
    config = GPTNeoConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=16,
        num_layers=2,
        attention_types=[[["global", "local"], 1]],
        num_heads=2,
        max_position_embeddings=64,
        window_size=16,
        bos_token_id=0,
        eos_token_id=0,
    )
    GPTNeoForCausalLM(config).save_pretrained(path)
    return path


def test_the_loss_ranks_and_is_of_the_answer_alone(make: MakeInstruct, dolly: Path) -> None:
    task = make(path=str(dolly))
    assert Instruct.primary().name == "loss"
    corpus = task.load()
    assert corpus.domains == ("brainstorming", "closed_qa", "open_qa")
    batch = task.batch(corpus, "train", np.arange(4))
    losses = task.loss(task.build_model(0), batch)
    assert losses.per_unit.shape == (4, 48)
    pair = corpus.examples["test"].pairs[0]
    row = corpus.examples["test"]
    answer = row.tokens[0, row.starts[0] : row.ends[0]]
    assert task.vocabulary().decode(answer[None])[0] == pair.answer
    assert float(losses.mask.sum(1).max()) < 48


def test_the_target_is_the_share_of_the_evaluation_data(make: MakeInstruct, dolly: Path) -> None:
    corpus = make(path=str(dolly), test_examples=2).load()
    assert corpus.target_shares == pytest.approx([0.5, 0.25, 0.25], abs=0.09)
    assert corpus.target_shares.sum() == pytest.approx(1)
    assert len(corpus.labels["test"]) == 6
    wanted = make(path=str(dolly), target={"open_qa": 1.0}).load()
    assert wanted.target_shares.tolist() == [0, 0, 1]


def test_scores_are_sums_over_answer_tokens(make: MakeInstruct, dolly: Path) -> None:
    task = make(path=str(dolly))
    corpus = task.load()
    scores = task.evaluate(task.build_model(0), corpus, "test", device=torch.device("cpu"), dtype=torch.float32)
    assert set(scores.sums) == {metric.name for metric in Instruct.metrics}
    assert np.all(scores.by_domain("loss", 3) > 0)
    assert scores.sums["loss"][1].sum() == (corpus.examples["test"].ends - corpus.examples["test"].starts).sum()


def test_target_domains_apart_from_training_domains(make: MakeInstruct, far: Path) -> None:
    corpus = make(path=str(far), held_out="tasks").load()
    assert corpus.domains == ("Chess", "Cooking", "Music", "Travel")
    assert corpus.train_shares == pytest.approx([0, 2 / 3, 0, 1 / 3])
    assert corpus.target_shares == pytest.approx([1 / 3, 0, 2 / 3, 0])
    assert {corpus.domains[label] for label in corpus.labels["train"]} == {"Cooking", "Travel"}
    for split in ("validation", "test"):
        assert {corpus.domains[label] for label in corpus.labels[split]} == {"Chess", "Music"}


def test_every_task_weighs_the_same_where_that_is_wished(make: MakeInstruct, far: Path) -> None:
    first = make(path=str(far), held_out="tasks").load()
    second = make(path=str(far), held_out="tasks", weigh="tasks").load()
    assert second.target_shares == pytest.approx([0.5, 0, 0.5, 0])
    assert first.fingerprint != second.fingerprint


def test_the_format_is_guessed_where_the_layout_says_it(make: MakeInstruct, dolly: Path, far: Path) -> None:
    folder = make(path=str(dolly.parent)).load()
    assert folder.provenance["data"] == "databricks-dolly-15k"
    assert make(path=str(far)).load().provenance["release"] == 2
    rows = [{"instruction": f"Do {n}", "output": phrase(n), "domain": "ab"[n % 2]} for n in range(40)]
    other = write_jsonl(far.parent / "mine.jsonl", rows)
    assert make(path=str(other)).load().domains == ("a", "b")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"instruct brings no data of its own: pass instruct\[path=FILE.jsonl\]"),
        ({"path": "nowhere"}, r"path=nowhere: no such file or folder; pass instruct\[path="),
        ({"path": "."}, "no copy of Natural Instructions"),
        ({"path": "notes.txt"}, "path=notes.txt: expected a .jsonl or .jsonl.gz file"),
        ({"path": ".", "format": "jsonl"}, "is a folder, but format=jsonl is one file"),
        ({"format": "natural-instructions"}, "not found; git clone --depth 1 .* data/natural-instructions, or pass"),
        (
            {"path": "rows.jsonl", "weigh": "tasks"},
            "weigh=tasks is for Natural Instructions; a table of named .* takes",
        ),
        ({"path": "notes.jsonl", "format": "dolly", "answer_field": "b"}, "answer_field=b is for traces and a table"),
        ({"path": "hub:x/natural-instructions", "domain": "category"}, "have no category; use domain=task, or clone"),
    ],
)
def test_wrong_data_is_one_line_with_the_remedy(
    make: MakeInstruct, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("text", encoding="utf-8")
    write_jsonl(tmp_path / "rows.jsonl", [{"instruction": "a"}])
    write_jsonl(tmp_path / "notes.jsonl", dolly_rows(4))
    with pytest.raises(TaskError, match=message) as caught:
        make(**settings).load()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"portion": 0.0}, r"portion=0.0 must be in \(0, 1\]"),
        ({"portions": [0.5, 0.5, 0.5]}, "must be three positive numbers that sum to 1"),
        ({"tasks": -1}, "tasks=-1 must not be negative"),
        ({"held_out": "categories"}, "held_out"),
        ({"weigh": "tasks", "target": {"a": 1.0}}, "give one of them"),
    ],
)
def test_wrong_settings_are_one_line(make: MakeInstruct, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=message) as caught:
        make(**settings)
    assert "\n" not in str(caught.value)


# The paper's presets


def test_the_papers_recipe() -> None:
    for name in ("paper/dolly", "paper/natural-instructions", "paper/natural-instructions-ood"):
        preset = Instruct.presets[name]
        recipe, config = preset.recipe, Instruct.configure(preset, {})
        assert (recipe.steps, recipe.batch_size, recipe.learning_rate, recipe.weight_decay) == (2000, 16, 5e-5, 0.01)
        assert (recipe.schedule, recipe.final_lr, recipe.warmup * recipe.steps) == ("linear", 0.0, 50)
        assert (recipe.betas, recipe.eps, recipe.clip_norm) == ((0.9, 0.999), 1e-8, 1.0)
        assert (config.model, config.context, config.definition) == ("EleutherAI/gpt-neo-125m", 512, "full")
        assert config.portions == (0.9, 0.05, 0.05)
        json.dumps(plain(config))


def test_needs_are_said_without_reading_anything(
    make: MakeInstruct, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "none"))
    data, embedder, model = make("paper/natural-instructions", embedder="st:nobody/no-embedder").requirements()[:3]
    assert embedder.what == "sentence-transformers"
    assert model.what == "model nobody/no-embedder"
    model = make("paper/natural-instructions").requirements()[-1]
    assert (data.what, data.found, data.fetchable) == ("data data/natural-instructions", "", False)
    assert data.remedy.startswith("git clone --depth 1 https://github.com/allenai/natural-instructions")
    assert model.what == "model EleutherAI/gpt-neo-125m"
    data = make("paper/dolly").requirements()[0]
    assert (data.what, data.found) == ("data data/dolly/databricks-dolly-15k.jsonl", "")
    assert "databricks/databricks-dolly-15k" in data.remedy


def test_a_model_out_of_reach_is_said_at_once(make: MakeInstruct, dolly: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hugging_face, "reachable", lambda: False)
    with pytest.raises(TaskError, match=r"model nobody/no-model is not here and the hub is out of reach; hf download"):
        make(path=str(dolly), model="nobody/no-model").load()


def test_data_in_the_default_place_is_found(
    make: MakeInstruct, tmp_path: Path, dolly: Path, gpt_neo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data, *_, model = make("paper/dolly", model=str(gpt_neo)).requirements()
    assert data.found == "data/dolly/databricks-dolly-15k.jsonl"
    assert model.found


@pytest.mark.parametrize(("held_out", "judged"), [("tasks", {"task09"}), ("examples", set())])
def test_a_copy_on_the_hub_has_tasks_to_choose_from(
    make: MakeInstruct, monkeypatch: pytest.MonkeyPatch, held_out: str, judged: set[str]
) -> None:
    datasets = pytest.importorskip("datasets")

    def rows(task: str, count: int, first: int = 0) -> list[dict[str, str]]:
        return [
            {"task_name": task, "definition": f"Do {task}.", "inputs": f"{n} {phrase(n)}", "targets": phrase(n, 2)}
            for n in range(first, first + count)
        ]

    train = [row for task in ("task00", "task01", "task02") for row in rows(task, 40)]
    parts = {"train": train, "validation": rows("task09", 20), "test": rows("task09", 20, 50)}
    loaded = datasets.DatasetDict({name: datasets.Dataset.from_list(part) for name, part in parts.items()})
    monkeypatch.setattr(hugging_face, "reachable", lambda: True)
    monkeypatch.setattr(datasets, "load_dataset", lambda *words, **named: loaded)
    settings = {"path": "hub:owner/natural-instructions", "format": "natural-instructions", "tasks": 2}
    corpus = make(**settings, held_out=held_out, definition="full", input_characters=0).load()
    trained = {corpus.domains[label] for label in corpus.labels["train"]}
    assert len(trained) == 2
    assert {corpus.domains[label] for label in corpus.labels["test"]} == (judged or trained)


def test_a_broken_file_is_told_before_a_run_starts(make: MakeInstruct, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text("[1, 2]\n", encoding="utf-8")
    with pytest.raises(TaskError, match=r"bad.jsonl:1: a list, expected an object"):
        make(path=str(tmp_path / "bad.jsonl")).requirements()
    (tmp_path / "long.jsonl").write_text('{"a": ' + "9" * 5000 + "}\n", encoding="utf-8")
    with pytest.raises(TaskError, match=r"long.jsonl:1: not a JSON object on one line .*a number too long"):
        make(path=str(tmp_path / "long.jsonl")).requirements()


def test_traces_are_a_format_with_columns_of_their_own(make: MakeInstruct, tmp_path: Path) -> None:
    rows = [
        {"question": f"How many {phrase(n, 3)} {n}?", "cot": phrase(n, 4), "truth": str(n), "source_type": "ab"[n % 2]}
        for n in range(60)
    ]
    path = write_jsonl(tmp_path / "traces.jsonl", rows)
    task = make("paper/s1", path=str(path), answer_field="truth", model="")
    corpus = task.load()
    assert corpus.domains == ("a", "b")
    assert corpus.examples["test"].pairs[0].answer.startswith("#### ")
    with pytest.raises(TaskError, match=r"weigh=tasks is for Natural Instructions; traces takes answer_field"):
        make(path=str(path), format="traces", weigh="tasks").load()


def test_a_row_says_which_weights_a_local_model_has(make: MakeInstruct, dolly: Path, gpt_neo: Path) -> None:
    first = make(path=str(dolly), model=str(gpt_neo)).load().provenance["pretrained"]
    assert first == make(path=str(dolly), model=f"{gpt_neo}/").load().provenance["pretrained"]
    file = gpt_neo / "model.safetensors"
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    second = make(path=str(dolly), model=str(gpt_neo)).load().provenance["pretrained"]
    assert first["model"] == second["model"] == "gpt-neo"
    assert first["digest"] != second["digest"]
    assert "pretrained" not in make(path=str(dolly)).load().provenance


def test_a_local_folder_is_loaded_without_asking_the_hub(gpt_neo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked() -> bool:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(hugging_face, "reachable", asked)
    with hugging_face.quick(str(gpt_neo)) as online:
        assert not online
    with hugging_face.quick("./not/there") as online:
        assert not online


def run(cache: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> list[dict[str, Any]]:
    """The rows of a small run through the command."""
    monkeypatch.setenv("MIXOFF_CACHE", str(cache))
    out = cache.parent / "out"
    common = ["--seeds", "1", "--no-timing", "--workers", "1", "--device", "cpu", "--out", str(out)]
    result = CliRunner().invoke(main, ["run", *words, *common])
    assert result.exit_code == 0, result.output
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted((out / "rows").glob("*.json"))]


@pytest.mark.slow
def test_a_paper_trial_with_a_pretrained_model(
    tmp_path: Path, dolly: Path, gpt_neo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    task = f"instruct[model={gpt_neo},context=48]"
    words = ("--tasks", task, "--preset", "paper/dolly", "--mixers", "uniform,rnb[rounds=2]", "--steps", "6")
    rows = run(tmp_path / "cache", monkeypatch, *words)
    assert len(rows) == 2
    assert {row["status"] for row in rows} == {"ok"}


@pytest.mark.slow
def test_a_trial_on_categories_that_it_is_not_trained_on(
    tmp_path: Path, far: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ",".join(f"{name}={value}" for name, value in TINY.items())
    words = ("--tasks", f"instruct[path={far},held_out=tasks,{settings}]", "--preset", "nano", "--mixers", "natural")
    (row,) = run(tmp_path / "cache", monkeypatch, *words, "--steps", "6")
    assert row["status"] == "ok"


@pytest.mark.slow
@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the sample of Natural Instructions is not there")
@pytest.mark.parametrize("domain", ["task", "source"])
def test_a_smoke_trial_on_the_sample(domain: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ",".join(f"{name}={value}" for name, value in TINY.items())
    task = f"instruct[path={SAMPLE},domain={domain},portion=0.05,{settings}]"
    words = ("--tasks", task, "--preset", "nano", "--mixers", "rnb[rounds=2]", "--partitions", "original,kmeans[k=4]")
    rows = run(tmp_path / "cache", monkeypatch, *words, "--steps", "4")
    assert [row["status"] for row in rows] == ["ok", "ok"]
    assert {len(row["domains"]["train"]) for row in rows} == {4, {"task": 45, "source": 10}[domain]}


@pytest.mark.slow
@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the sample of Natural Instructions is not there")
def test_the_sample_of_the_first_release(make: MakeInstruct) -> None:
    task = make(path=str(SAMPLE), domain="source", weigh="tasks", portion=0.1)
    corpus = task.load()
    assert len(corpus.domains) == 10
    assert corpus.target_shares[corpus.domains.index("mctaco")] == pytest.approx(14 / 45)
    model = task.build_model(0)
    losses = task.loss(model, task.batch(corpus, "train", np.arange(4)))
    assert torch.isfinite(losses.per_example).all()
    assert all(len(corpus.labels[split]) for split in SPLITS)
