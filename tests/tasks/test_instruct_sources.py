from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest

from tasks.base import TaskError
from tasks.sources.dolly import Dolly
from tasks.sources.instructions import Table, divide, prompt
from tasks.sources.natural_instructions import NaturalInstructions
from tasks.sources.pairs import Pair
from tasks.sources.records import JsonLines

from .conftest import write_jsonl

PORTIONS = (0.8, 0.1, 0.1)
WORDS = ["river", "stone", "lamp", "garden", "engine", "letter", "window", "copper", "signal", "harvest", "anchor"]


def phrase(seed: int, count: int = 8) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=count))


def skill(category: str, count: int, seed: int, **changes: Any) -> dict[str, Any]:
    """One task file of the second release."""
    instances = [
        {"id": f"{seed}-{n}", "input": f"{phrase(seed * 1000 + n)}.", "output": [phrase(n, 2), "another answer"]}
        for n in range(count)
    ]
    return {
        "Contributors": ["nobody"],
        "Source": [f"source{seed % 2}"],
        "URL": [""],
        "Categories": [category],
        "Reasoning": [],
        "Definition": [f"In this task you write about {category}. Be brief."],
        "Input_language": ["English"],
        "Domains": ["Misc"],
        "Positive Examples": [],
        "Negative Examples": [],
        "Instances": instances,
        **changes,
    }


def write_release_2(root: Path, train: dict[str, dict[str, Any]], test: dict[str, dict[str, Any]]) -> Path:
    (root / "tasks").mkdir(parents=True)
    (root / "splits" / "default").mkdir(parents=True)
    for name, entry in {**train, **test}.items():
        (root / "tasks" / f"{name}.json").write_text(json.dumps(entry, indent=4), encoding="utf-8")
    for split, names in (("train", train), ("test", test), ("excluded", {"task999_other": {}})):
        file = root / "splits" / "default" / f"{split}_tasks.txt"
        file.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    return root


@pytest.fixture
def release_2(tmp_path: Path) -> Path:
    train = {f"task00{n}_made": skill(category, 30, n) for n, category in enumerate(["Cooking", "Cooking", "Travel"])}
    test = {"task010_made": skill("Chess", 230, 10), "task011_made": skill("Chess", 7, 11)}
    return write_release_2(tmp_path / "natural-instructions", train, test)


@pytest.fixture
def release_1(tmp_path: Path) -> Path:
    root = tmp_path / "first"
    root.mkdir()
    entries = []
    for number, source in enumerate(["alpha", "alpha", "miscellaenous", "misc"]):
        name = f"00{number}_{source}"
        rows = [
            {"task": name, "source": source, "input": f"Sentence: {phrase(number * 100 + n)}.", "target": phrase(n, 2)}
            for n in range(20)
        ]
        with gzip.open(root / f"{name}.jsonl.gz", "wt", encoding="utf-8") as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows))
        definition = f"Definition: Look at the sentence. Then say it. Prompt: Do number {number}."
        entries.append({"task": name, "source": source, "file": f"{name}.jsonl.gz", "definition": definition})
    (root / "tasks.json").write_text(json.dumps({"canary": "", "tasks": entries}), encoding="utf-8")
    return root


def read(path: Path, **settings: Any) -> NaturalInstructions:
    return NaturalInstructions(path, **{"portions": PORTIONS, **settings})


# What all readers share


def test_the_prompt_leaves_out_an_empty_input() -> None:
    assert prompt("Name a colour.\n") == "Name a colour.\n\nOutput:"
    assert prompt("Add.", " 1 2 ") == "Add.\n\nInput: 1 2\n\nOutput:"


def test_a_split_of_its_own_stays_and_others_are_drawn_in_the_portions() -> None:
    pairs = [
        Pair(domain="a", origin=str(n), prompt=str(n), answer="x", split="test" if n < 3 else "") for n in range(103)
    ]
    splits = [pair.split for pair in divide(pairs, (0.9, 0.05, 0.05))]
    assert splits[:3] == ["test"] * 3
    assert [splits[3:].count(split) for split in ("train", "validation", "test")] == [90, 5, 5]


# Tables


def test_dolly(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {
            "instruction": f"Tell {n}",
            "context": phrase(n // 2) if n % 3 else "",
            "response": f" {n}",
            "category": ["open_qa", "closed_qa"][n % 2],
        }
        for n in range(40)
    ]
    source = Dolly(JsonLines(write_jsonl(tmp_path / "databricks-dolly-15k.jsonl", rows)), portions=PORTIONS)
    pairs = source.pairs()
    assert len(pairs) == 40
    assert pairs[0].prompt == "Tell 0\n\nOutput:"
    assert pairs[1].prompt == f"Tell 1\n\nInput: {phrase(0)}\n\nOutput:"
    assert {pair.domain for pair in pairs} == {"open_qa", "closed_qa"}
    assert {pair.split for pair in pairs} == {"train", "validation", "test"}
    assert pairs[4].origin == pairs[5].origin  # one context
    assert source.provenance()["data"] == "databricks-dolly-15k"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"instruction": "a", "output": "b"}, "rows.jsonl:1: field 'domain' is missing; choose the field with domain="),
        ({"instruction": " ", "output": "b", "domain": "c"}, "rows.jsonl:1: field 'instruction' is empty or no text"),
        ({"instruction": "a", "output": 1, "domain": "c"}, "field 'output' is empty or no text; choose the field with"),
        ({"instruction": "a", "output": "b", "domain": "c", "origin": []}, "'origin' must be text or a whole number"),
    ],
)
def test_a_bad_row_is_one_line_with_the_remedy(tmp_path: Path, row: dict[str, object], message: str) -> None:
    source = Table(JsonLines(write_jsonl(tmp_path / "rows.jsonl", [row])))
    with pytest.raises(TaskError, match=r"^[^\n]*$") as caught:
        source.pairs()
    assert message in str(caught.value)


def test_rows_without_an_answer_are_left_out_and_counted(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"instruction": f"Do {n}", "output": "yes", "domain": "a"} for n in range(20)]
    rows[3]["output"], rows[4]["output"] = " ", None
    source = Table(JsonLines(write_jsonl(tmp_path / "rows.jsonl", rows)))
    assert len(source.pairs()) == 18
    assert source.provenance()["without_output"] == 2
    empty = write_jsonl(tmp_path / "empty.jsonl", [{"instruction": "Do", "output": "", "domain": "a"}])
    with pytest.raises(TaskError, match=r"empty.jsonl: no row has an answer in 'output'; choose answer_field="):
        Table(JsonLines(empty)).pairs()


def test_inputs_of_a_table_can_be_shortened(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"instruction": "Do", "input": phrase(n), "output": "yes", "domain": "a"} for n in range(20)
    ]
    path = JsonLines(write_jsonl(tmp_path / "rows.jsonl", rows))
    assert Table(path, input_characters=4).pairs()[0].prompt == f"Do\n\nInput: {phrase(0)[-4:].strip()}\n\nOutput:"
    assert Table(path).pairs()[0].origin == Table(path, input_characters=4).pairs()[0].origin  # of the whole input
    assert Table(path).identity() != Table(path, input_characters=4).identity()


def test_lines_that_are_no_objects(tmp_path: Path) -> None:
    for text, message in (("[1]\n", "a list, expected an object"), ("{\n", "not a JSON object"), ("\n", "no lines")):
        (tmp_path / "rows.jsonl").write_text(text, encoding="utf-8")
        with pytest.raises(TaskError, match=message):
            Table(JsonLines(tmp_path / "rows.jsonl")).pairs()
    (tmp_path / "rows.jsonl.gz").write_bytes(b"plain")
    with pytest.raises(TaskError, match="not a whole gzip file"):
        Table(JsonLines(tmp_path / "rows.jsonl.gz")).pairs()


# Natural Instructions


def test_release_2_in_distribution(release_2: Path) -> None:
    source = read(release_2)
    pairs = source.pairs()
    assert len(pairs) == 90
    assert {pair.domain for pair in pairs} == {"Cooking", "Travel"}
    assert {pair.split for pair in pairs} == {"train", "validation", "test"}
    first = pairs[0]
    assert first.prompt == f"In this task you write about Cooking. Be brief.\n\nInput: {phrase(0)}.\n\nOutput:"
    assert first.answer == phrase(0, 2)  # the first of the accepted ones
    assert source.target is None


def test_release_2_out_of_distribution(release_2: Path) -> None:
    pairs = read(release_2, held_out="tasks").pairs()
    by_split = {split: [pair for pair in pairs if pair.split == split] for split in ("train", "validation", "test")}
    assert {pair.domain for pair in by_split["train"]} == {"Cooking", "Travel"}
    assert {pair.domain for pair in by_split["validation"] + by_split["test"]} == {"Chess"}
    # 100 and 100 of the large test task, 4 and 3 of the small one; what is left of the large one is used for nothing.
    assert {split: len(found) for split, found in by_split.items()} == {"train": 90, "validation": 103, "test": 104}
    assert by_split["test"][0].prompt.startswith("In this task you write about Chess.")
    assert phrase(10_000) in by_split["test"][0].prompt


def test_domains_can_be_sources_or_tasks(release_2: Path) -> None:
    assert {pair.domain for pair in read(release_2, domain="source").pairs()} == {"source0", "source1"}
    assert len({pair.domain for pair in read(release_2, domain="task").pairs()}) == 3


def test_every_task_can_weigh_the_same(release_2: Path, release_1: Path) -> None:
    assert read(release_2, weigh="tasks").target == pytest.approx({"Cooking": 2 / 3, "Travel": 1 / 3})
    assert read(release_2, weigh="tasks", held_out="tasks").target == {"Chess": 1.0}
    assert read(release_1, weigh="tasks").target == {"alpha": 0.5, "misc": 0.5}


def test_a_number_of_tasks_is_a_stable_choice(release_2: Path) -> None:
    one, two = ({pair.domain for pair in read(release_2, domain="task", tasks=n).pairs()} for n in (1, 2))
    assert len(one) == 1
    assert len(two) == 2
    assert one < two


def test_a_portion_thins_training_tasks_alone(release_2: Path) -> None:
    pairs = read(release_2, held_out="tasks", portion=0.5).pairs()
    assert 25 < sum(pair.split == "train" for pair in pairs) < 65
    assert sum(pair.split == "test" for pair in pairs) == 104


def test_release_1(release_1: Path) -> None:
    pairs = read(release_1).pairs()
    assert len(pairs) == 80
    assert {pair.domain for pair in pairs} == {"alpha", "misc"}  # three spellings are one source
    assert pairs[0].prompt.startswith("Definition: Look at the sentence. Then say it. Prompt: Do number 0.\n\nInput: ")
    assert len({pair.domain for pair in read(release_1, domain="task").pairs()}) == 4


def test_files_of_release_1_may_lie_in_a_folder_of_their_own(release_1: Path) -> None:
    (release_1 / "data").mkdir()
    listed = json.loads((release_1 / "tasks.json").read_text(encoding="utf-8"))
    for entry in listed["tasks"]:
        (release_1 / entry["file"]).rename(release_1 / "data" / entry["file"])
        entry["file"] = f"data/{entry['file']}"
    (release_1 / "tasks.json").write_text(json.dumps(listed), encoding="utf-8")
    assert len(read(release_1).pairs()) == 80


def test_definitions_and_inputs_can_be_shortened(release_1: Path, release_2: Path) -> None:
    assert read(release_1, definition="short").pairs()[0].prompt.startswith("Do number 0.\n\nInput: Sentence")
    assert read(release_2, definition="short").pairs()[0].prompt.startswith("In this task you write about Cooking.\n\n")
    text = read(release_2, definition="none", input_characters=5).pairs()[0].prompt
    assert text.strip() == f"Input: {phrase(0)[-4:]}.\n\nOutput:"


def test_what_decides_the_pairs_is_in_the_identity(release_2: Path) -> None:
    settings: list[dict[str, Any]] = [
        {},
        {"domain": "task"},
        {"tasks": 2},
        {"held_out": "tasks"},
        {"definition": "short"},
        {"portion": 0.5},
        {"portions": (0.9, 0.05, 0.05)},
    ]
    found = {read(release_2, **each).identity() for each in settings}
    assert len(found) == len(settings)
    assert read(release_2).identity() in found
    file = release_2 / "tasks" / "task000_made.json"
    file.write_text(file.read_text(encoding="utf-8").replace("brief", "short"), encoding="utf-8")
    assert read(release_2).identity() not in found


def test_examples_without_an_output_are_left_out_and_counted(release_2: Path) -> None:
    file = release_2 / "tasks" / "task000_made.json"
    entry = json.loads(file.read_text(encoding="utf-8"))
    entry["Instances"][0]["output"] = ["", "second"]
    entry["Instances"][1]["output"] = []
    file.write_text(json.dumps(entry), encoding="utf-8")
    source = read(release_2)
    pairs = source.pairs()
    assert len(pairs) == 89
    assert pairs[0].answer == "second"
    assert source.provenance()["without_output"] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Definition": []}, "field 'Definition' is missing or no text"),
        ({"Categories": None}, "field 'Categories' is missing or no text"),
        ({"Instances": {}}, "field 'Instances' is missing or no list"),
        ({"Instances": [{"input": "x"}]}, "instance 0 needs an input and an output"),
        ({"Instances": ["x"]}, "instance 0 needs an input and an output"),
        ({"Instances": [{"input": "x", "output": []}]}, "has no example with an output"),
    ],
)
def test_a_damaged_task_is_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    root = write_release_2(tmp_path / "ni", {"task001_a": skill("Chess", 5, 1, **changes)}, {})
    with pytest.raises(TaskError, match=message) as caught:
        read(root).pairs()
    assert "\n" not in str(caught.value)
    assert "task001_a" in str(caught.value)


def test_wrong_layouts_are_one_line(tmp_path: Path, release_1: Path, release_2: Path) -> None:
    with pytest.raises(TaskError, match=r"no copy of Natural Instructions: expected tasks/taskNNN_name.json"):
        read(tmp_path)
    with pytest.raises(TaskError, match="this release of Natural Instructions has source and task"):
        read(release_1, domain="category")
    with pytest.raises(TaskError, match="held_out=tasks needs the task lists"):
        read(release_1, held_out="tasks")
    (release_2 / "tasks" / "task001_made.json").unlink()
    with pytest.raises(TaskError, match=r"lacks task001_made.json, which .*train_tasks.txt names"):
        read(release_2).identity()
    (release_2 / "splits" / "default" / "train_tasks.txt").unlink()
    with pytest.raises(TaskError, match=r"cannot read .*train_tasks.txt: No such file"):
        read(release_2).pairs()
