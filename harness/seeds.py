"""Seeds derived by name, so that no two uses of randomness share a stream by accident."""

from __future__ import annotations

import hashlib
import json


def derive_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed that depends on the trial's seed and on what it is for, and on nothing else."""
    text = json.dumps([seed, *names])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1
