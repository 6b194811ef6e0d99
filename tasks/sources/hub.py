"""Any Hugging Face data set by name, through the optional ``datasets`` library."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from tasks.base import TaskError
from tasks.cache import content_key
from tasks.hugging_face import quick
from tasks.sources.records import Record, Records

PREFIX = "hub:"
_SPLITS = {"train": "train", "validation": "validation", "valid": "validation", "dev": "validation", "test": "test"}


class Hub(Records):
    """A data set ``owner/name``, ``owner/name:configuration``, either with ``@revision`` behind it.

    Rows keep the publisher's splits where there are all three; otherwise their splits are drawn like everyone's. Where
    the hub is out of reach, or ``HF_HUB_OFFLINE`` or ``HF_DATASETS_OFFLINE`` is set, the library's cache answers.
    """

    def __init__(self, name: str, *, place: str) -> None:
        """``place``: where to put a local copy; for messages."""
        path, _, self._revision = name.removeprefix(PREFIX).partition("@")
        self._name, _, self._configuration = path.partition(":")
        self.name = f"data set {self._name!r}"
        self._place = place
        self._loaded: Any = None

    def _load(self) -> Any:
        if self._loaded is None:
            remedy = f"put a local copy at {self._place} and pass path={self._place}"
            try:
                import datasets
            except ImportError:
                raise TaskError(
                    f"path=hub:{self._name} needs the datasets library: "
                    f'pip install -e ".[hub]" in the checkout; or {remedy}'
                ) from None
            online = True
            try:
                with quick() as online:
                    self._loaded = datasets.load_dataset(
                        self._name, self._configuration or None, revision=self._revision or None
                    )
            except Exception as error:  # many kinds, from unknown names to network errors
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
                reason = reason if online else "the hub is out of reach and the local cache has no copy"
                raise TaskError(f"cannot load data set {self._name!r}: {reason}; {remedy}") from None
        return self._loaded

    def identity(self) -> str:
        """Hash of the library's own fingerprints of every split."""
        loaded = self._load()
        prints = {split: [len(part), part._fingerprint] for split, part in sorted(loaded.items())}
        return content_key("hub", self._name, self._configuration, self._revision, prints)

    def records(self, fields: Collection[str] | None = None) -> Iterator[Record]:
        """The rows of all splits that are for training or evaluation."""
        loaded = self._load()
        known = {split: _SPLITS[split] for split in loaded if split in _SPLITS}
        if not known:
            raise TaskError(f"data set {self._name!r} has no train, validation or test split but {', '.join(loaded)}")
        whole = set(known.values()) == {"train", "validation", "test"}
        for split, ours in known.items():
            part = loaded[split]
            if fields is not None:
                part = part.select_columns([name for name in part.column_names if name in fields])
            for number, row in enumerate(part):
                yield Record(where=f"{self._name} {split}:{number}", row=row, split=ours if whole else "")

    def provenance(self) -> dict[str, Any]:
        """The data set's name, configuration and revision."""
        return {
            "source": "hub",
            "name": self._name,
            "configuration": self._configuration,
            "revision": self._revision,
        }


def cached(name: str) -> str:
    """The folder where the library keeps a data set that it has loaded before; empty where there is none.

    Reads folder names only, so that asking costs nothing.
    """
    path = name.removeprefix(PREFIX).partition("@")[0].partition(":")[0]
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface").expanduser()
    prepared = Path(os.environ.get("HF_DATASETS_CACHE") or home / "datasets") / path.replace("/", "___")
    return str(prepared) if prepared.is_dir() else ""
