from __future__ import annotations

import ast
import gzip
import json
from pathlib import Path

import pytest

from tasks.base import SPLITS, TaskError
from tasks.sources.dedupe import distinct
from tasks.sources.documents import Document, take_origins
from tasks.sources.folder import Folder
from tasks.sources.jsonl import Jsonl
from tasks.sources.packages import digest
from tasks.sources.python_code import dedent, separate
from tasks.sources.split import PORTIONS, split_origins

from .conftest import sentences, write_jsonl

SAMPLE = '''"""Module words: café."""
import os


class Sail:
    """Class words.

    More:
        indented
    """

    name = "é"; """not a docstring"""

    def hoist(self):
        """Only words."""

    async def lower(self): """One line."""; return 1
'''


def test_python_is_cut_into_prose_and_code_that_still_parses() -> None:
    prose, code = separate(SAMPLE) or ("", "")
    assert prose == "Module words: café.\n\nClass words.\n\nMore:\n    indented\n\nOnly words.\n\nOne line."
    assert "words" not in code
    assert "One line" not in code
    assert "not a docstring" in code
    names = {node.name for node in ast.walk(ast.parse(code)) if hasattr(node, "name")}
    assert {"Sail", "hoist", "lower"} <= names
    assert "return 1" in code


def test_a_file_that_is_not_python_has_no_parts() -> None:
    assert separate("class {{ name }}:\n  pass") is None
    assert separate("nul\0byte") is None


def test_dedent_takes_the_common_margin_below_the_first_line() -> None:
    assert dedent("first\n      second\n        third\n    ") == "first\nsecond\n  third"


def test_exact_and_near_duplicates_go_and_others_stay() -> None:
    long = sentences("sea", 1, 60)
    changed = long.replace("storm", "STORM")  # letters' case is not a difference
    nearly = long + "\nOne more line at the end of it."
    other = sentences("sea", 2, 60)
    texts = [long, other, "  " + long.replace("\n", "\n\n"), changed, nearly, "ok", "ok", "no"]
    documents = [Document(domain="sea", origin=str(number), text=text) for number, text in enumerate(texts)]
    kept, removed = distinct(documents)
    assert [document.origin for document in kept] == ["0", "1", "5", "7"]
    assert removed == {"exact": 3, "near": 1}


def test_half_shared_documents_both_stay() -> None:
    shared = sentences("law", 1, 30)
    pair = [shared + "\n" + sentences("law", 2, 30), shared + "\n" + sentences("law", 3, 30)]
    kept, _ = distinct([Document(domain="law", origin=str(n), text=text) for n, text in enumerate(pair)])
    assert len(kept) == 2


def test_split_keeps_origins_whole_and_shares_near_80_10_10() -> None:
    documents = [
        Document(domain=domain, origin=f"file{number}", text="x" * (50 + number * 7 % 90))
        for number in range(200)
        for domain in (("code", "prose") if number % 2 else ("code",))
    ]
    splits = split_origins(documents)
    assert splits == split_origins(documents[::-1])
    for domain in ("code", "prose"):
        sizes = dict.fromkeys(SPLITS, 0)
        for document in documents:
            if document.domain == domain:
                sizes[splits[document.origin]] += len(document.text)
        for split, portion in PORTIONS.items():
            assert sizes[split] / sum(sizes.values()) == pytest.approx(portion, abs=0.03)


def test_three_origins_fill_three_splits_and_two_are_refused() -> None:
    three = [Document(domain="a", origin=str(number), text="words " * 9) for number in range(3)]
    assert sorted(split_origins(three).values()) == sorted(SPLITS)
    with pytest.raises(TaskError, match="domain 'a' has no text in the"):
        split_origins(three[:2])


def test_take_origins_keeps_whole_origins_whatever_the_order() -> None:
    documents = [Document(domain="a", origin=str(number // 2), text="x" * 100) for number in range(40)]
    taken = take_origins(documents, 1000)
    assert len(taken) == 10
    assert {document.origin for document in taken} == {d.origin for d in take_origins(documents[::-1], 1000)}
    assert all(sum(d.origin == document.origin for d in taken) == 2 for document in taken)


def test_folder_reads_subfolders_and_counts_what_is_not_text(folder: Path) -> None:
    (folder / "sea" / "deep").mkdir()
    (folder / "sea" / "deep" / "more.md").write_bytes("\ufeffÜber\r\nBord".encode())
    (folder / "sea" / "picture.png").write_bytes(b"\x89PNG\0\xff")
    (folder / "sea" / ".hidden").write_text("no")
    (folder / "stray.txt").write_text("in no domain")
    source = Folder(folder)
    documents = source.documents()
    assert {document.domain for document in documents} == {"law", "sea"}
    assert next(d.text for d in documents if d.origin == "sea/deep/more.md") == "Über\nBord"
    assert len(documents) == 25
    assert source.provenance()["not_text"] == 1


def test_one_large_file_a_domain_is_cut_into_sections_that_lose_nothing(tmp_path: Path) -> None:
    for domain in ("law", "sea"):
        (tmp_path / domain).mkdir()
        (tmp_path / domain / "all.txt").write_text(sentences(domain, 0, 400))
    documents = Folder(tmp_path).documents()
    for domain in ("law", "sea"):
        parts = [document for document in documents if document.domain == domain]
        assert 15 <= len(parts) <= 21
        assert "\n".join(part.text for part in parts) == sentences(domain, 0, 400)
    assert set(split_origins(documents).values()) == set(SPLITS)


def test_an_unreadable_file_is_named(folder: Path) -> None:
    with pytest.raises(TaskError, match=r"cannot read sea/00\.txt \(No such file.*; do this"):
        digest([("sea/00.txt", folder / "gone")], "do this")


def test_folder_identity_follows_contents_and_names(folder: Path) -> None:
    before = Folder(folder).identity()
    assert Folder(folder).identity() == before
    (folder / "sea" / "00.txt").write_text("other")
    changed = Folder(folder).identity()
    assert changed != before
    (folder / "sea" / "00.txt").rename(folder / "sea" / "zz.txt")
    assert Folder(folder).identity() not in (before, changed)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: root / "none", "is not a folder"),
        (lambda root: root, "holds no files in subfolders"),
    ],
)
def test_folder_errors_are_one_line(tmp_path: Path, make: object, message: str) -> None:
    with pytest.raises(TaskError, match=message) as caught:
        Folder(make(tmp_path)).documents()  # type: ignore[operator]
    assert "\n" not in str(caught.value)


def test_jsonl_reads_chosen_fields_and_gzip(tmp_path: Path) -> None:
    rows = [{"body": "One.", "kind": "a", "book": 7}, {"body": "Two.", "kind": "b"}]
    plain = write_jsonl(tmp_path / "x.jsonl", rows)
    packed = tmp_path / "x.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes() + b"\n"))
    for path in (plain, packed):
        documents = Jsonl(path, text_field="body", domain_field="kind", origin_field="book").documents()
        assert [(d.domain, d.origin, d.text) for d in documents] == [
            ("a", "7", "One."),
            ("b", "line 000000002", "Two."),
        ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{'text': 1}", r"bad\.jsonl:2: not a JSON object on one line"),
        ("[1]", r"bad\.jsonl:2: a list, expected an object with 'text'"),
        ('{"domain": "a"}', r"bad\.jsonl:2: field 'text' is missing; fields are chosen with text_field"),
        ('{"text": "x", "domain": 3}', r"bad\.jsonl:2: field 'domain' is empty or no string"),
        ('{"text": " ", "domain": "a"}', r"bad\.jsonl:2: field 'text' is empty or no string"),
        ('{"text": "x", "domain": "a", "origin": [1]}', r"bad\.jsonl:2: field 'origin' must be"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps({"text": "fine", "domain": "a"}) + "\n" + line + "\n")
    with pytest.raises(TaskError, match=message) as caught:
        Jsonl(path).documents()
    assert "\n" not in str(caught.value)


def test_jsonl_that_is_missing_empty_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="cannot read"):
        Jsonl(tmp_path / "none.jsonl").identity()
    (tmp_path / "empty.jsonl").write_text("\n\n")
    with pytest.raises(TaskError, match="holds no lines"):
        Jsonl(tmp_path / "empty.jsonl").documents()
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b"x" * 1000)[:-9])
    with pytest.raises(TaskError, match="not a whole gzip file"):
        Jsonl(tmp_path / "cut.jsonl.gz").documents()
