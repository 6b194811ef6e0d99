"""Seeds derived by name, so that no two uses of randomness share a stream by accident."""

from __future__ import annotations

import hashlib
import json


def run_seed(trial: int, run: int, *, shared: bool) -> int:
    """The seed of a run that a mixer orders: joined with the trial's, or where it is shared the same for all trials.

    Both are hashes of 63 bits: no run has the seed of a main run, which is a small number as the user gave it.
    """
    return derive_seed(0, "shared run", run) if shared else derive_seed(trial, "run", run)


def derive_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed that depends on the trial's seed and on what it is for, and on nothing else."""
    text = json.dumps([seed, *names])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1
