"""The options of ``harness run``, made from the fields of an experiment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from harness.experiment import Experiment


def experiment_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """One option per field of :class:`Experiment`, so that flags and YAML keys cannot drift apart."""
    for name, field in reversed(Experiment.model_fields.items()):
        default = field.default
        shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
        text = field.description or ""
        if isinstance(default, bool):
            option = click.option(f"{_flag(name)}/--no-{name.replace('_', '-')}", name, default=None,
                                  help=f"{text} [default: {'yes' if default else 'no'}]")  # fmt: skip
        elif name == "plugin":
            option = click.option("--plugin", multiple=True, type=click.Path(path_type=Path), help=text)
        else:
            kind = {"steps": int, "batch_size": int, "workers": int, "threads": int, "time_limit": float}.get(name, str)
            suffix = f" [default: {shown}]" if shown is not None else ""
            option = click.option(_flag(name), name, type=kind, default=None, help=text + suffix)
        command = option(command)
    return command


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
