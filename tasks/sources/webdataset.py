"""WebDataset shards: tar files whose members share a key, as DataComp and CC3M are kept."""

from __future__ import annotations

import glob
import hashlib
import io
import json
import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from PIL import Image

from tasks.base import TaskError
from tasks.cache import content_key
from tasks.sources.captioned import Captioned, CaptionedSource

IMAGES = ("jpg", "jpeg", "png", "webp")
ALL = "all"
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


@dataclass(slots=True)
class _Sample:
    """What was met of one key."""

    key: str
    image: tuple[str, int, int, str] | None = None  # name, offset, size, digest
    caption: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)


class WebDataset(CaptionedSource):
    """``KEY.jpg`` (``.jpeg``, ``.png``, ``.webp``), ``KEY.txt`` with the caption and, where fields are used,
    ``KEY.json``; the members of a key stand together. Other members are passed over. Every sample is an origin of its
    own and counts as one; equal images are known by their encoded bytes, since decoding millions takes hours.

    Shards are read once, as a stream; of an image only the place and a digest are kept, so that memory does not grow
    with the images. A sample without an image or without a caption is left out and counted in the provenance. A damaged
    shard, an unreadable image and a missing field are a :class:`TaskError` that names shard and member. Shards must not
    be compressed: images are later read from their place. Without a class field the class is the domain.
    """

    def __init__(self, path: str, *, domain_field: str = "", class_field: str = "") -> None:
        self._path = path
        self._fields = (domain_field, class_field)
        self.domains_are_classes = bool(domain_field and not class_field)
        self._left_out: Counter[str] = Counter()
        self._samples = 0

    def shards(self) -> list[Path]:
        """The shards, sorted by name. Raises :class:`TaskError` where there are none."""
        found = find_shards(self._path)
        if not found:
            raise TaskError(f"path={self._path}: no .tar shards there; give a folder, a glob or a pattern {{000..009}}")
        return found

    def root(self) -> Path:
        """The innermost folder that holds all shards."""
        return Path(os.path.commonpath([shard.absolute().parent for shard in self.shards()]))

    def identity(self) -> str:
        """Names, sizes and times of the shards, and the field names; the contents are in the fingerprint."""
        root = self.root()
        facts = [(_name(shard, root), shard.stat().st_size, shard.stat().st_mtime_ns) for shard in self.shards()]
        return content_key("webdataset", 2, self._fields, facts)

    def images(self) -> Iterator[Captioned]:
        """One image a sample, shard by shard, in the order of the members."""
        self._left_out.clear()
        self._samples = 0
        root = self.root()
        for shard in self.shards():
            name = _name(shard, root)
            for sample in _samples(shard):
                self._samples += 1
                lacking = "image" if sample.image is None else "caption" if not sample.caption else ""
                if lacking:
                    self._left_out[f"no {lacking}"] += 1
                    continue
                yield self._captioned(shard, name, sample)

    def _captioned(self, shard: Path, name: str, sample: _Sample) -> Captioned:
        assert sample.image is not None
        assert sample.caption is not None
        domain_field, class_field = self._fields
        domain = _value(shard, sample, domain_field, "domain_field") if domain_field else ALL
        _, offset, size, digest = sample.image
        return Captioned(
            domain=domain,
            origin=f"{name}/{sample.key}",
            captions=(sample.caption,),
            caption=sample.caption,
            file=name,
            offset=offset,
            size=size,
            digest=digest,
            label=_value(shard, sample, class_field, "class_field") if class_field else "",
        )

    def provenance(self) -> dict[str, Any]:
        """The shards' names, the fields that were read, and what was left out."""
        shards = self.shards()
        return {
            "source": "webdataset",
            "name": Path(self._path).name,
            "shards": len(shards),
            "first": shards[0].name,
            "last": shards[-1].name,
            "fields": list(self._fields),
            "samples": self._samples,
            "left_out": dict(self._left_out),
        }


def find_shards(path: str) -> list[Path]:
    """The ``.tar`` files that a folder (at any depth), a file, a glob or a pattern names, sorted.

    Patterns hold ``{000..009}`` or ``{a,b}``.
    """
    found: set[Path] = set()
    for each in _expanded(str(Path(path).expanduser())):
        place = Path(each)
        if place.is_dir():
            found |= set(place.rglob("*.tar"))
        elif place.is_file():
            found.add(place)
        elif glob.has_magic(each):
            found |= {Path(name) for name in glob.glob(each) if name.endswith(".tar")}
    return sorted(found)


def _name(shard: Path, root: Path) -> str:
    """A shard's path from the root: a folder that moves with its shards keeps its place in the cache."""
    return shard.absolute().relative_to(root).as_posix()


def _expanded(pattern: str) -> list[str]:
    """A brace pattern written out: ranges keep their zeros."""
    parts: list[list[str]] = []
    for part in re.split(r"(\{[^{}]*\})", pattern):
        numbers = _RANGE.fullmatch(part)
        if numbers:
            first, last = numbers.groups()
            parts.append([f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)])
        elif part.startswith("{") and "," in part:
            parts.append(part[1:-1].split(","))
        else:
            parts.append([part])
    return ["".join(chosen) for chosen in product(*parts)]


def _samples(shard: Path) -> Iterator[_Sample]:
    """The samples of a shard, in one pass."""
    current: _Sample | None = None
    try:
        if shard.stat().st_size % tarfile.BLOCKSIZE:
            raise tarfile.ReadError("its length is no multiple of 512 bytes")
        with tarfile.open(shard, "r|") as archive:
            for member in archive:
                archive.members = []  # type: ignore[attr-defined]  # what was met is not needed again, and would grow
                folder, _, name = member.name.rpartition("/")
                stem, _, kind = name.partition(".")
                if not member.isfile() or not stem:
                    continue
                key = f"{folder}/{stem}" if folder else stem
                if current is None or current.key != key:
                    if current is not None:
                        yield current
                    current = _Sample(key)
                content = archive.extractfile(member)
                if content is not None and kind.lower() in (*IMAGES, "txt", "json"):
                    _take(shard, current, member, kind.lower(), content.read())
            end = archive.offset
        _check_end(shard, end)
    except (tarfile.TarError, EOFError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise TaskError(f"shard {shard} is damaged, cut off or compressed ({reason}); get it again") from None
    if current is not None:
        yield current


def _check_end(shard: Path, offset: int) -> None:
    """Raise ``tarfile.ReadError`` unless the end marker follows the last member.

    ``tarfile`` takes a damaged header, and a file that was cut between two members, for the end.
    """
    with shard.open("rb") as file:
        file.seek(offset)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError(f"neither a member nor the end of the archive at byte {offset}")


def _take(shard: Path, sample: _Sample, member: tarfile.TarInfo, kind: str, raw: bytes) -> None:
    where = f"{shard}: {member.name}"
    if kind == "txt":
        sample.caption = " ".join(raw.decode("utf-8", errors="replace").split())
    elif kind == "json":
        try:
            entry = json.loads(raw)
        except (ValueError, RecursionError):  # also a number of too many digits
            raise TaskError(f"{where} is no JSON object; remove the sample or make the shard again") from None
        if not isinstance(entry, dict):
            raise TaskError(f"{where} is no JSON object; remove the sample or make the shard again")
        sample.fields = entry
    elif sample.image is None:
        try:
            Image.open(io.BytesIO(raw)).close()  # the header alone; the rest is decoded when it is needed
        except Exception as error:  # a decoder's own kinds
            reason = str(error).splitlines()[0].split(" <")[0] if str(error) else type(error).__name__
            raise TaskError(f"{where} is no readable image ({reason}); remove the sample or make it again") from None
        digest = hashlib.sha256(raw).hexdigest()[:32]
        sample.image = (member.name, member.offset_data, member.size, digest)


def _value(shard: Path, sample: _Sample, name: str, setting: str) -> str:
    value = sample.fields.get(name)
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise TaskError(
            f"{shard}: sample {sample.key} has no field {name!r} in its .json; fields are chosen with {setting}"
        )
    return str(value).strip()
