"""The Hugging Face hub: whether it answers, and whether a model is here already."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasks.base import Requirement, TaskError
from tasks.network import answers

_WEIGHTS = (".safetensors", ".bin")
_EDGE = 1 << 20  # bytes of each end of a weight file that tell it apart


def place(name: str) -> str:
    """A model's name as the libraries take it: ``~`` means nothing to them, so that of a local path is resolved."""
    return str(Path(name).expanduser()) if name.startswith("~") else name


def looks_local(name: str) -> bool:
    """Whether a name can only mean a folder: names on the hub are ``name`` or ``owner/name``."""
    return name.startswith(("/", ".", "~")) or name.endswith("/") or name.count("/") > 1


@contextmanager
def quick(name: str = "") -> Iterator[bool]:
    """Puts the Hugging Face libraries into their offline mode for the block if the hub does not answer in seconds.

    Left to themselves they try for half a minute, file by file, before they look into their caches. Gives whether the
    hub answers. ``name``: what is to be loaded; where it is a local folder, nobody is asked.
    """
    import huggingface_hub

    switches: list[Any] = [huggingface_hub.constants]
    if "datasets" in sys.modules:
        switches.append(sys.modules["datasets"].config)
    before = [owner.HF_HUB_OFFLINE for owner in switches]
    local = bool(name) and (looks_local(name) or Path(name).is_dir())
    online = not any(before) and not local and reachable()
    for owner in switches:
        owner.HF_HUB_OFFLINE = not online
    try:
        yield online
    finally:
        for owner, value in zip(switches, before, strict=True):
            owner.HF_HUB_OFFLINE = value


def endpoint() -> str:
    """The hub's address; empty where the user has switched it off (``HF_HUB_OFFLINE``)."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return ""
    return os.environ.get("HF_ENDPOINT") or "https://huggingface.co"


def reachable() -> bool:
    """Whether the hub's address answers."""
    address = endpoint()
    return bool(address) and answers(address)


def model_requirement(name: str) -> Requirement:
    """Whether a pretrained model lies in a folder or in the local Hugging Face cache; never asks the network."""
    folder = _folder(name)
    remedy = f"hf download {name} where there is a network, or model=<folder that holds it>"
    if looks_local(name):
        what = "a folder without weights" if Path(place(name)).is_dir() else "no such folder"
        remedy = f"{what}; pass model=<folder with config, weights and tokenizer>, or a name on the hub"
    return Requirement(
        what=f"model {name}", found=folder or "", remedy=remedy, source="" if looks_local(name) else endpoint()
    )


def require_model(name: str) -> None:
    """Raise :class:`TaskError` at once for a model that is neither here nor within reach."""
    need = model_requirement(name)
    if need.found:
        return
    if looks_local(name):
        raise TaskError(f"model={name}: {need.remedy}")
    if not reachable():
        raise TaskError(f"{need.what} is not here and the hub is out of reach; {need.remedy}")


def weights(name: str) -> dict[str, str]:
    """Which weights a name stands for, for a row: the commit of the hub's copy, or a digest of a local folder.

    Empty where the model is not here yet. The digest is over the config and the names, sizes and headers of the weight
    files, not over all of their bytes, so that it costs nothing; it tells models apart, not one fine-tuning from
    another of the same shape, for which the files' last bytes are taken in too.
    """
    folder = _folder(name)
    if not folder:
        return {}
    where = Path(folder)
    if where.parent.name == "snapshots" and not Path(place(name)).is_dir():
        return {"model": name, "revision": where.name}
    total = hashlib.sha256()
    for file in sorted(where.iterdir()):
        if file.name == "config.json":
            total.update(file.read_bytes())
        elif file.suffix in _WEIGHTS:
            total.update(f"{file.name} {file.stat().st_size}\n".encode())
            with file.open("rb") as opened:
                total.update(opened.read(_EDGE))
                opened.seek(max(0, file.stat().st_size - _EDGE))
                total.update(opened.read(_EDGE))
    return {"model": where.name, "digest": total.hexdigest()[:32]}


def _folder(name: str) -> str | None:
    """Where a model's files lie: its own folder, or its snapshot in the local cache of the hub."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    if Path(place(name)).is_dir():
        return place(name) if _has_weights(Path(place(name))) else None
    try:
        cached = try_to_load_from_cache(name, "config.json")
    except HFValidationError:
        return None
    whole = isinstance(cached, str) and _has_weights(Path(cached).parent)
    return str(Path(str(cached)).parent) if whole else None


def _has_weights(folder: Path) -> bool:
    return any(file.suffix in _WEIGHTS for file in folder.iterdir())
