"""Where runs that a mixer ordered are kept, and the models that were kept of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from harness.store import load_weights, read_json
from mixers.base import Checkpoint, MixerError

if TYPE_CHECKING:
    from harness.prepare import Prepared


def folder_of(prepared: Prepared, key: str) -> Path:
    """The folder of a run."""
    return prepared.cache / "runs" / key


def weights_of(prepared: Prepared, kept: Checkpoint) -> Path:
    """The file of a kept model. Raises :class:`MixerError` where it is gone."""
    path = folder_of(prepared, kept.key) / "model.pt"
    if not path.exists():
        raise MixerError("a run's model is no longer in the cache; order that run again with keep=True")
    return path


def kept_model(prepared: Prepared, kept: Checkpoint) -> nn.Module:
    """The model of a run that kept it, at its own size."""
    path = weights_of(prepared, kept)
    size = float(read_json(path.with_name("result.json"))["size"])
    model = prepared.main_task.scaled(size).build_model(0)
    model.load_state_dict(load_weights(path))
    return model
