from __future__ import annotations

import builtins
import time
from pathlib import Path
from typing import Any

import pytest

from tasks import hugging_face
from tasks.base import TaskError
from tasks.sources import hub
from tasks.sources.hub import Hub


def test_a_hub_out_of_reach_is_one_line_within_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets")
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    begin = time.monotonic()
    with pytest.raises(
        TaskError,
        match=r"cannot load data set 'nobody/nothing': the hub is out of reach .*; put a local copy at data/x",
    ) as seen:
        Hub("hub:nobody/nothing", place="data/x").identity()
    assert "\n" not in str(seen.value)
    assert time.monotonic() - begin < 10


def test_without_the_library_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name == "datasets":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(
        TaskError, match=r'needs the datasets library: pip install -e "\.\[hub\]" in the checkout; or put a local copy'
    ):
        Hub("hub:a/b", place="data/x").identity()


def test_rows_of_the_hub_keep_the_publishers_splits_only_where_there_are_all_three(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    datasets = pytest.importorskip("datasets")

    def made(*splits: str) -> Any:
        rows = [{"instruction": str(n), "output": "x", "domain": "d"} for n in range(4)]
        return datasets.DatasetDict({split: datasets.Dataset.from_list(rows) for split in splits})

    monkeypatch.setattr(hugging_face, "reachable", lambda: True)
    seen: list[tuple[Any, ...]] = []

    def load(loaded: Any) -> Any:
        monkeypatch.setattr(datasets, "load_dataset", lambda *words, **named: seen.append((words, named)) or loaded)
        return Hub("hub:owner/name:part@main", place="data/x")

    assert {record.split for record in load(made("train", "dev", "test")).records()} == {"train", "validation", "test"}
    assert {record.split for record in load(made("train", "test")).records()} == {""}
    assert seen[0] == (("owner/name", "part"), {"revision": "main"})
    with pytest.raises(TaskError, match="has no train, validation or test split but other"):
        list(load(made("other")).records())


def test_what_the_library_has_loaded_before_is_found_by_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    assert hub.cached("hub:owner/name@main") == ""
    (tmp_path / "owner___name").mkdir()
    assert hub.cached("hub:owner/name@main") == str(tmp_path / "owner___name")
