"""Where runs that a mixer ordered are kept, each made once, and the models that were kept of them.

CACHE/runs/<key>/result.json   what came of it, and what it cost
CACHE/runs/<key>/model.pt      its weights, where they were to be kept
CACHE/runs/<key>/model-<n>.pt  the same after n steps
CACHE/runs/<key>/checkpoint.pt while it is under way
CACHE/runs/<key>/lock          held by the process that makes it
"""

from __future__ import annotations

from pathlib import Path

from torch import nn

from harness.store import load_weights, read_json
from mixers.base import Checkpoint, MixerError, Run
from tasks.base import TrainableTask


def folder_of(cache: Path, key: str) -> Path:
    """The folder of a run."""
    return cache / "runs" / key


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


def weights_of(cache: Path, kept: Checkpoint) -> Path:
    """The file of a kept model. Raises :class:`MixerError` where it is gone."""
    run, _, step = kept.key.partition("@")
    path = folder_of(cache, run) / (file_at(int(step)) if step.isdecimal() else "model.pt")
    if not path.exists():
        raise MixerError("a run's model is no longer in the cache; order that run again with keep=True")
    return path


def size_of(cache: Path, kept: Checkpoint) -> float:
    """The size of a kept model, as its run was ordered."""
    return float(read_json(weights_of(cache, kept).with_name("result.json"))["size"])


def kept_model(task: TrainableTask, cache: Path, kept: Checkpoint) -> nn.Module:
    """The model of a run that kept it, at its own size. task: at the main run's."""
    model = task.scaled(size_of(cache, kept)).build_model(0)
    model.load_state_dict(load_weights(weights_of(cache, kept)))
    return model
