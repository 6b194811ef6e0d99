from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from tasks.base import TaskError
from tasks.sources.gsm8k import Gsm8k, domain_of, is_gsm8k
from tasks.sources.records import Parquet
from tasks.sources.traces import Traces
from tasks.sources.verified import final_answer, same_answer

from .conftest import write_jsonl

DATA = Path(__file__).parents[3] / "shared" / "data" / "gsm8k"
needs_gsm8k = pytest.mark.skipif(not DATA.is_dir(), reason="the GSM8K files are not on this machine")

QUESTION = {"question": "Ann has 3 apples and buys 4. She eats one. How many?", "answer": ""}
SOLUTION = "She has 3+4=<<3+4=7>>7 apples.\nShe keeps 7-1=<<7-1=6>>6.\n#### 6"


def problems(count: int, steps: int = 2) -> list[dict[str, object]]:
    lines = "\n".join(f"Step {step} is 1+{step}=<<1+{step}={step + 1}>>{step + 1}." for step in range(steps))
    return [{"question": f"Number {n} of {steps}?", "answer": f"{lines}\n#### {n:,}"} for n in range(count)]


def write_gsm8k(root: Path) -> Path:
    root.mkdir()
    write_jsonl(root / "train.jsonl", [row for steps in range(1, 8) for row in problems(12, steps)])
    text = "".join(json.dumps({**row, "question": f"Test: {row['question']}"}) + "\n" for row in problems(5, 3))
    (root / "test.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    return root


def test_gsm8k_reads_plain_and_gzipped_files_and_their_splits(tmp_path: Path) -> None:
    root = write_gsm8k(tmp_path / "gsm8k")
    pairs = Gsm8k(root).pairs()
    assert [pair.split for pair in pairs] == ["train"] * 84 + ["test"] * 5
    assert len({pair.origin for pair in pairs}) == 89
    assert sorted({pair.domain for pair in pairs}) == ["2 steps", "3 steps", "4 steps", "5 steps", "6 steps"]
    assert pairs[0].answer == "Step 0 is 1+0=1.\n#### 0"
    alone = Gsm8k(root / "train.jsonl")
    assert {pair.split for pair in alone.pairs()} == {""}
    assert alone.identity() != Gsm8k(root).identity()


def test_domain_is_the_number_of_steps() -> None:
    assert domain_of(SOLUTION) == "2 steps"
    assert domain_of("#### 6") == "2 steps"
    assert domain_of("a\n\nb\nc\n#### 6") == "3 steps"
    assert domain_of("\n".join("abcdefgh") + "\n#### 6") == "6 steps"


def test_gsm8k_is_verified_by_its_final_number(tmp_path: Path) -> None:
    source = Gsm8k(write_jsonl(tmp_path / "one.jsonl", [{**QUESTION, "answer": SOLUTION}]))
    (pair,) = source.pairs()
    assert pair.answer == "She has 3+4=7 apples.\nShe keeps 7-1=6.\n#### 6"
    assert source.verify(pair, pair.answer) == 1.0
    assert source.verify(pair, "I guess.\n#### $6.00") == 1.0
    for wrong in ("#### 7", "6", "", "####", "#### 6 apples", "#### six\x00", "#### 6\n#### 5"):
        assert source.verify(pair, wrong) == 0.0


@pytest.mark.parametrize(
    ("given", "expected", "same"),
    [
        ("1,000", "1000", True),
        ("$18.50", "18.5", True),
        ("50%", "50", True),
        ("-3.", "-3", True),
        ("x + 1", "X+1", True),
        ("1e3", "1000", False),
        ("", "0", False),
        ("12", "twelve", False),
    ],
)
def test_same_answer(given: str, expected: str, same: bool) -> None:
    assert same_answer(given, expected) is same


def test_final_answer_prefers_the_last_box_after_the_mark() -> None:
    assert final_answer(r"thought \boxed{1} #### so \boxed{2}, or \boxed{\frac{3}{4}}") == r"\frac{3}{4}"
    assert final_answer("a #### b #### c ") == "c"
    assert final_answer(" only ") == "only"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[1]", "expected an object"),
        ("{", "not a JSON object"),
        ('{"question": "q"}', "'answer' is missing"),
        ('{"question": "", "answer": "#### 1"}', "'question' is missing, empty"),
        ('{"question": "q", "answer": "1"}', "no final '#### number'"),
    ],
)
def test_bad_lines_of_gsm8k_are_errors_of_one_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(TaskError, match=message) as caught:
        Gsm8k(path).pairs()
    assert "\n" not in str(caught.value)
    assert f"{path}:1" in str(caught.value)


def test_broken_gsm8k_files_are_errors_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("")
    with pytest.raises(TaskError, match=r"lacks test\.jsonl"):
        Gsm8k(tmp_path)
    with pytest.raises(TaskError, match="holds no lines"):
        Gsm8k(tmp_path / "train.jsonl").pairs()
    (tmp_path / "test.jsonl.gz").write_bytes(b"no gzip")
    with pytest.raises(TaskError, match="not a whole gzip file"):
        Gsm8k(tmp_path / "test.jsonl.gz").pairs()
    with pytest.raises(TaskError, match="cannot read"):
        Gsm8k(tmp_path / "gone.jsonl").identity()


def test_the_format_is_recognised(tmp_path: Path) -> None:
    assert is_gsm8k(write_gsm8k(tmp_path / "gsm8k"))
    assert not is_gsm8k(write_jsonl(tmp_path / "t.jsonl", [{"question": "q", "answer": "6"}]))
    assert not is_gsm8k(tmp_path)
    (tmp_path / "train.jsonl.gz").write_bytes(b"no gzip")
    assert not is_gsm8k(tmp_path)


@needs_gsm8k
def test_real_gsm8k_is_whole_and_verifies_itself() -> None:
    source = Gsm8k(DATA)
    pairs = source.pairs()
    assert sum(pair.split == "train" for pair in pairs) == 7473
    assert sum(pair.split == "test" for pair in pairs) == 1319
    assert is_gsm8k(DATA)
    assert not any("<<" in pair.answer for pair in pairs)
    assert all(source.verify(pair, pair.answer) == 1.0 for pair in pairs)
    per_domain = {name: sum(p.domain == name and p.split == "test" for p in pairs) for name in ("2 steps", "6 steps")}
    assert per_domain == {"2 steps": 326, "6 steps": 150}


S1K = {
    "question": "What is 2+2?",
    "solution": r"The answer is \boxed{4}.",
    "cot_type": "math",
    "source_type": "arithmetic",
    "thinking_trajectories": ["Two and two.", "Another."],
}


def test_traces_know_the_columns_of_s1k(tmp_path: Path) -> None:
    source = Traces(write_jsonl(tmp_path / "s1k.jsonl", [S1K]))
    (pair,) = source.pairs()
    assert (pair.domain, pair.prompt, pair.split) == ("math", "What is 2+2?", "train")
    assert pair.answer == "Two and two.\n#### The answer is \\boxed{4}."
    assert source.verify(pair, "short #### 4") == 1.0
    assert source.verify(pair, "#### 5") == 0.0
    newer = {**S1K, "deepseek_thinking_trajectory": "By R1."}
    (pair,) = Traces(write_jsonl(tmp_path / "new.jsonl", [newer])).pairs()
    assert pair.answer.startswith("By R1.\n####")


def test_columns_of_traces_can_be_named(tmp_path: Path) -> None:
    rows = [{"q": "1+1?", "why": "count", "a": 2, "topic": "sums", "split": "Test"}, {"q": "?", "a": "x", "topic": "t"}]
    fields = {"question": "q", "reasoning": "why", "answer": "a", "domain": "topic"}
    first, second = Traces(write_jsonl(tmp_path / "t.jsonl", rows), fields=fields).pairs()
    assert (first.answer, first.domain, first.split) == ("count\n#### 2", "sums", "test")
    assert (second.answer, second.split) == ("#### x", "train")


# One row in the columns of simplescaling/data_ablation_full59K, in their order.
S1_59K = {
    "solution": "The product is 6.",
    "question": "What is 2 times 3?",
    "cot_type": "math",
    "source_type": "AI-MO/NuminaMath-CoT/olympiads",
    "metadata": "{}",
    "cot": None,
    "thinking_trajectories": ["Twice three."],
    "attempt": "It is 6.",
}


def many(source: str, count: int) -> list[dict[str, object]]:
    return [{**S1_59K, "question": f"{source} {n}?", "source_type": source} for n in range(count)]


def test_small_domains_of_traces_are_trained_on_and_not_judged(tmp_path: Path) -> None:
    shared: dict[str, object] = {**S1_59K, "question": "large 0?", "source_type": "small"}
    rows = [*many("large", 40), *many("three", 3), *many("small", 2), shared, *many("tiny", 1)]
    source = Traces(write_jsonl(tmp_path / "s1.jsonl", rows), fields={"domain": "source_type"})
    pairs = source.pairs()
    splits: dict[str, set[str]] = {}
    for pair in pairs:
        splits.setdefault(pair.domain, set()).add(pair.split)
    everything = {"train", "validation", "test"}
    assert splits == {"large": everything, "three": everything, "small": {"train"}, "tiny": {"train"}}
    assert next(pair.split for pair in pairs if pair.prompt == "large 0?") == "train"
    assert source.provenance()["train_only"] == {"small": 3, "tiny": 1}
    assert pairs[0].answer == "Twice three.\n#### The product is 6."


def test_portions_of_traces_and_rows_without_an_answer(tmp_path: Path) -> None:
    rows = [*many("a", 100), {**S1_59K, "solution": " "}, {**S1_59K, "solution": None}]
    path = write_jsonl(tmp_path / "s1.jsonl", rows)
    source = Traces(path, fields={"domain": "source_type"}, portions=(0.5, 0.25, 0.25))
    splits = [pair.split for pair in source.pairs()]
    assert [splits.count(split) for split in ("train", "validation", "test")] == [50, 25, 25]
    assert source.provenance()["without_answer"] == 2
    thinned = Traces(path, fields={"domain": "source_type"}, portion=0.5)
    assert 30 < len(thinned.pairs()) < 70
    assert len({source.identity(), thinned.identity(), Traces(path).identity()}) == 3
    nothing = Traces(write_jsonl(tmp_path / "none.jsonl", [{**S1_59K, "solution": ""}]), settings={"answer": "column="})
    with pytest.raises(TaskError, match=r"none.jsonl: no row has an answer; choose column="):
        nothing.pairs()


@pytest.mark.parametrize(
    ("reference", "final"),
    [
        ("Add them.\n#### 42", "42"),
        ("#### Solution\nIt is \\boxed{7}.\n#### Remark\nEasy.", "7"),
        ("It is \\boxed{7}.\n##### Remark", "7"),
        ("#### 5", "5"),
    ],
)
def test_a_reference_that_holds_the_mark_itself_is_verified_by_its_answer(
    tmp_path: Path, reference: str, final: str
) -> None:
    source = Traces(write_jsonl(tmp_path / "t.jsonl", [{**S1K, "solution": reference}]))
    (pair,) = source.pairs()
    assert pair.answer.startswith("Two and two.\n")
    assert pair.answer.count("####") == 1
    assert source.verify(pair, f"#### {final}") == 1.0
    assert source.verify(pair, pair.answer) == 1.0
    assert source.verify(pair, "#### Remark") == 0.0


def test_traces_of_a_folder_and_of_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    parquet.write_table(pa.Table.from_pylist([S1K, {**S1K, "question": "And 3+3?"}]), tmp_path / "a.parquet")
    write_jsonl(tmp_path / "b.jsonl", [S1K])
    (tmp_path / "README.md").write_text("not data")
    (tmp_path / ".cache").mkdir()
    write_jsonl(tmp_path / ".cache" / "notes.jsonl", [{"commit": "1"}])
    pairs = Traces(tmp_path).pairs()
    assert [pair.prompt for pair in pairs] == ["What is 2+2?", "And 3+3?", "What is 2+2?"]
    assert pairs[0] == pairs[2]
    (tmp_path / "a.parquet").write_bytes(b"PAR1 broken")
    with pytest.raises(TaskError, match="not a whole parquet file") as caught:
        Traces(tmp_path).pairs()
    assert "\n" not in str(caught.value)


def test_only_the_columns_needed_are_read_of_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    parquet.write_table(pa.Table.from_pylist(many("a", 4)), tmp_path / "a.parquet")
    table = Parquet(tmp_path / "a.parquet")
    assert table.names() == list(S1_59K)
    assert [list(record.row) for record in table.records({"question", "solution"})] == [["solution", "question"]] * 4
    assert next(table.records()).where == f"{tmp_path / 'a.parquet'}, row 1"
    parquet.write_table(pa.Table.from_pylist(many("a", 1)).slice(1), tmp_path / "b.parquet")
    with pytest.raises(TaskError, match="holds no rows"):
        list(Parquet(tmp_path / "b.parquet").records())


def test_bad_traces_are_errors_that_name_the_setting(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "t.jsonl", [{"question": "q", "answer": "a"}])
    with pytest.raises(TaskError, match="name it with domain_field"):
        Traces(path).pairs()
    with pytest.raises(TaskError, match="no column 'thought'"):
        Traces(path, fields={"domain": "question", "reasoning": "thought"}).pairs()
    empty = write_jsonl(tmp_path / "e.jsonl", [S1K, {**S1K, "cot_type": None}])
    with pytest.raises(TaskError, match=r"e\.jsonl:2: field 'cot_type' is missing or empty"):
        Traces(empty).pairs()
    with pytest.raises(TaskError, match="holds no traces"):
        Traces(tmp_path / "nothing.txt")
