"""Where runs that a mixer ordered are kept, and the models that were kept of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from harness.store import load_weights, read_json
from mixers.base import Checkpoint, MixerError, Run

if TYPE_CHECKING:
    from harness.prepare import Prepared


def folder_of(prepared: Prepared, key: str) -> Path:
    """The folder of a run."""
    return prepared.cache / "runs" / key


def on_the_way(key: str, step: int) -> Checkpoint:
    """The model that the run ``key`` kept after a step."""
    return Checkpoint(key=f"{key}@{step}")


def file_at(step: int) -> str:
    """Name of the file, in the run's folder, of a model kept on the way."""
    return f"model-{step}.pt"


def is_made(folder: Path, run: Run) -> bool:
    """Whether the cache has the run's result and every model that it was to keep."""
    models = [*(["model.pt"] if run.keep else []), *map(file_at, run.keep_at)]
    return all((folder / name).exists() for name in ("result.json", *models))


def weights_of(prepared: Prepared, kept: Checkpoint) -> Path:
    """The file of a kept model. Raises :class:`MixerError` where it is gone."""
    run, _, step = kept.key.partition("@")
    path = folder_of(prepared, run) / (file_at(int(step)) if step.isdecimal() else "model.pt")
    if not path.exists():
        raise MixerError("a run's model is no longer in the cache; order that run again with keep=True")
    return path


def size_of(prepared: Prepared, kept: Checkpoint) -> float:
    """The size of a kept model, as its run was ordered."""
    return float(read_json(weights_of(prepared, kept).with_name("result.json"))["size"])


def kept_model(prepared: Prepared, kept: Checkpoint) -> nn.Module:
    """The model of a run that kept it, at its own size."""
    model = prepared.main_task.scaled(size_of(prepared, kept)).build_model(0)
    model.load_state_dict(load_weights(weights_of(prepared, kept)))
    return model
