"""The Hugging Face hub: whether it answers, and whether a model is here already."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tasks.base import Requirement, TaskError

_REACH = 3.0  # seconds after which the hub counts as out of reach


@contextmanager
def quick() -> Iterator[bool]:
    """Puts the Hugging Face libraries into their offline mode for the block if the hub does not answer in seconds.

    Left to themselves they try for half a minute, file by file, before they look into their caches. Gives whether the
    hub answers.
    """
    import huggingface_hub

    switches: list[Any] = [huggingface_hub.constants]
    if "datasets" in sys.modules:
        switches.append(sys.modules["datasets"].config)
    before = [owner.HF_HUB_OFFLINE for owner in switches]
    online = not any(before) and reachable()
    for owner in switches:
        owner.HF_HUB_OFFLINE = not online
    try:
        yield online
    finally:
        for owner, value in zip(switches, before, strict=True):
            owner.HF_HUB_OFFLINE = value


def reachable() -> bool:
    """Whether the hub's address answers; taken for granted behind a proxy."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    address = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((address.hostname or "", port), timeout=_REACH).close()
    except OSError:
        return False
    return True


def model_requirement(name: str) -> Requirement:
    """Whether a pretrained model lies in a folder or in the local Hugging Face cache; never asks the network."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    found = name if Path(name).expanduser().is_dir() else ""
    if not found:
        try:
            cached = try_to_load_from_cache(name, "config.json")
        except HFValidationError:
            cached = None
        if isinstance(cached, str) and any(Path(cached).parent.glob("*.safetensors*")):
            found = str(Path(cached).parent)
    remedy = f"hf download {name} where there is a network, or model=<folder that holds it>"
    return Requirement(what=f"model {name}", found=found, remedy=remedy, fetchable=True)


def require_model(name: str) -> None:
    """Raise :class:`TaskError` at once for a model that is neither here nor within reach."""
    if name.startswith(("/", ".", "~")) and not Path(name).expanduser().is_dir():
        raise TaskError(f"model={name}: no such folder")
    need = model_requirement(name)
    if not need.found and not reachable():
        raise TaskError(f"{need.what} is not here and the hub is out of reach; {need.remedy}")
