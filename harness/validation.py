"""Validation losses of a model by target, on all validation examples or on a fixed few of each target."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from harness.prepared import Prepared
from harness.seeds import derive_seed
from harness.vectors import first_of_each
from mixers.base import IntArray


def subset(prepared: Prepared, examples: int) -> IntArray:
    """Indices of the validation examples that losses are taken on: the same ones in every call and trial."""
    groups = prepared.partition.validation
    if not examples:
        return np.arange(len(groups), dtype=np.int64)
    return first_of_each(groups, len(prepared.problem.targets), examples, derive_seed(0, "validation subset"))


def validated(prepared: Prepared, examples: int) -> int:
    """How many those are."""
    counts = np.bincount(prepared.partition.validation, minlength=len(prepared.problem.targets))
    return int(np.minimum(counts, examples).sum() if examples else counts.sum())


def validation_losses(prepared: Prepared, model: nn.Module, chosen: IntArray) -> npt.NDArray[np.float64]:
    """[n] mean loss of a model per target on these validation examples, NaN where a target has none."""
    whole = len(chosen) == len(prepared.partition.validation)
    corpus = prepared.corpus if whole else prepared.task.take(prepared.corpus, "validation", chosen)
    with torch.no_grad():
        scores = prepared.task.evaluate(model, corpus, "validation", device=prepared.device, dtype=prepared.dtype)
    losses, counts = scores.sums["loss"]
    n = len(prepared.problem.targets)
    groups = prepared.partition.validation[chosen]
    top = np.bincount(groups, weights=losses, minlength=n)
    bottom = np.bincount(groups, weights=counts, minlength=n)
    return np.divide(top, bottom, out=np.full(n, np.nan), where=bottom > 0)
