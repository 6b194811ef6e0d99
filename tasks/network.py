"""Whether an address answers."""

from __future__ import annotations

import functools
import os
import socket
from urllib.parse import urlsplit

_REACH = 3.0  # seconds after which an address counts as out of reach
_PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


def answers(address: str) -> bool:
    """Whether ``https://host`` or ``http://host:port`` takes a connection; taken for granted behind a proxy."""
    if any(os.environ.get(name) for name in _PROXIES):
        return True
    parts = urlsplit(address)
    return _connects(parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443))


@functools.cache
def _connects(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=_REACH).close()
    except OSError:
        return False
    return True
