"""The state of the process that a trial runs in, made the same whatever ran there before."""

from __future__ import annotations

import os
import random

import numpy as np
import torch

from harness.seeds import derive_seed


def set_up(threads: int, seed: int) -> None:
    """Threads, deterministic kernels and the global generators, for a trial and for its timing alike."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # A debugging aid that costs time; the stubs do not know it.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    reseed(derive_seed(seed, "process"))


def reseed(seed: int) -> None:
    """Seed every global generator that a model or a plugin may draw from."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - plugins may use the legacy generator
    random.seed(seed)
