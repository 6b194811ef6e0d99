"""An experiment: a grid of trials, written as one YAML file or as the same flags."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from harness.errors import UserError, nearest
from harness.inline import Choice, parse_choice, split_list
from harness.registry import Kind, Plugin, Registry
from harness.spec import PluginSpec, TrialSpec

Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["float32", "bfloat16"]
BudgetRule = Literal["main", "total"]


class Experiment(BaseModel):
    """What ``harness run`` takes, as flags or as the keys of a YAML file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tasks: tuple[str | dict[str, Any], ...] = Field(("text",), description="Tasks, e.g. text or text[path=DIR].")
    partitions: tuple[str | dict[str, Any], ...] = Field(
        ("original",), description="Cuts into domains: original, kmeans, kmeans[k=8], random, ..."
    )
    mixers: tuple[str | dict[str, Any], ...] = Field(
        ("uniform", "natural", "target", "rnb"), description='Mixers, e.g. "uniform,rnb[lam=10]".'
    )
    seeds: tuple[int, ...] = Field((0, 1), description="How many seeds (5) or which ones (0,1,7).")
    preset: str = Field("demo", description="Scale of model, data and budget: demo, nano, small, ...")
    steps: int | None = Field(None, ge=1, description="Optimiser steps of a trial; the preset's by default.")
    batch_size: int | None = Field(None, ge=1, description="Examples a step; the preset's by default.")
    budget_rule: BudgetRule = Field(
        "main", description="main: equal main runs; total: what a mixer buys is taken off its main run."
    )
    workers: int = Field(0, ge=0, description="Trials at once; 0: one per core (one in all on a GPU).")
    threads: int = Field(1, ge=1, description="CPU threads of one trial; part of what a row depends on.")
    device: Device = Field("auto", description="Where models train: auto, cpu or cuda.")
    dtype: Dtype = Field("float32", description="float32, or bfloat16 autocast.")
    compile: bool = Field(False, description="Train through torch.compile.")
    time_limit: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="Seconds a trial may take; 0: no limit."
    )
    timing: bool = Field(True, description="Measure paired step time and memory alone on the machine, at the end.")
    plugin: tuple[Path, ...] = Field((), description="Python files with further mixers, regroupers or tasks.")

    @field_validator("tasks", "partitions", "mixers", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list | tuple):
            raise ValueError("give a list, or names with commas between them")
        return [part for item in items for part in (split_list(item) if isinstance(item, str) else [item])]

    @field_validator("seeds", mode="before")
    @classmethod
    def _seeds(cls, value: Any) -> Any:
        if isinstance(value, str):
            parts = [part.strip() for part in value.split(",") if part.strip()]
            if not parts or not all(part.isdigit() for part in parts):
                raise ValueError("give a number of seeds (5) or the seeds themselves (0,1,7)")
            value = [int(part) for part in parts] if "," in value else int(value)
        if isinstance(value, int) and not isinstance(value, bool):
            value = range(value)
        if not isinstance(value, list | tuple | range) or any(isinstance(seed, bool) for seed in value):
            raise ValueError("give a number of seeds (5) or the seeds themselves (0,1,7)")
        if len(value) == 0:
            raise ValueError("at least one seed is needed")
        if len(set(value)) < len(value) or min(value) < 0:
            raise ValueError("seeds must be different and not negative")
        return tuple(value)

    @field_validator("plugin", mode="before")
    @classmethod
    def _paths(cls, value: Any) -> Any:
        return [value] if isinstance(value, str | Path) else value


def read_experiment(file: Path | None, flags: Mapping[str, Any]) -> Experiment:
    """Merge a YAML file with flags (flags win) and validate; raises :class:`UserError` in one line."""
    values: dict[str, Any] = {}
    if file is not None:
        try:
            loaded = yaml.safe_load(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"{file}: no such file (an experiment is a YAML file; see `harness run --help`)") from None
        except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
            raise UserError(f"{file}: cannot be read as YAML: {' '.join(str(error).split())}") from None
        if not isinstance(loaded, dict):
            raise UserError(f"{file}: expected keys such as `tasks:` and `mixers:`, found {type(loaded).__name__}")
        values.update(loaded)
    values.update({key: value for key, value in flags.items() if value is not None})
    try:
        return Experiment.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{file or 'run'}: {explain(error, Experiment.model_fields)}") from None


def explain(error: ValidationError, valid: typing.Iterable[str]) -> str:
    """One line for the first problem of a validation error."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"unknown key {where!r}{nearest(where, valid)}"
    message = first["msg"].removeprefix("Value error, ")
    return f"{where}: {message}, got {first['input']!r}"


def build_config(plugin: Plugin, params: Mapping[str, Any]) -> Any:
    """Validate parameters against the plugin's frozen config; raises :class:`UserError` naming the nearest field."""
    config_type = plugin.cls.Config
    if not dataclasses.is_dataclass(config_type):
        raise UserError(f"{plugin.name}: its Config must be a frozen dataclass ({plugin.origin})")
    names = [f.name for f in dataclasses.fields(config_type)]
    for key in params:
        if key not in names:
            raise UserError(f"{plugin.name}: unknown parameter {key!r}{nearest(str(key), names)}")
    try:
        config = TypeAdapter(config_type).validate_python(with_nulls(config_type, params))
        json.dumps(plain(config), allow_nan=False)
        return config
    except ValidationError as error:
        raise UserError(f"{plugin.name}: {explain(error, names)}") from None
    except TypeError:
        raise UserError(
            f"{plugin.name}: a parameter's value cannot be written to JSON; use numbers, text, lists"
        ) from None
    except ValueError as error:
        what = "numbers must be finite" if "Out of range float" in str(error) else str(error)
        raise UserError(f"{plugin.name}: {what}") from None


def with_nulls(config_type: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters with ``none`` and ``None`` as null, as messages call it, where a field takes null and no text."""
    texts = [key for key, value in params.items() if isinstance(value, str) and value in ("none", "None")]
    kinds = typing.get_type_hints(config_type) if texts else {}
    nulls = [key for key in texts if key in kinds and _takes(kinds[key], None) and not _takes(kinds[key], params[key])]
    return {**params, **dict.fromkeys(nulls)}


def _takes(kind: Any, value: Any) -> bool:
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return False
    return True


def plain(config: Any) -> dict[str, Any]:
    """A config as JSON-able data, without fields that were added later and stand at their default."""
    pairs = [(field, getattr(config, field.name)) for field in dataclasses.fields(config)]
    return {f.name: _plain(value) for f, value in pairs if not (f.metadata.get("added") and value == f.default)}


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping | types.MappingProxyType):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _plugin_spec(registry: Registry, kind: Kind, choice: Choice) -> PluginSpec:
    plugin = registry.get(kind, choice.name)
    config = build_config(plugin, choice.params)
    try:
        plugin.cls(config)
    except Exception as error:  # a plugin may raise anything
        raise UserError(f"{choice.label}: {' '.join(str(error).split()) or type(error).__name__}") from None
    return PluginSpec(name=choice.name, config=plain(config), label=choice.label, source=plugin.source)


def resolve_device(device: str) -> str:
    """``cpu`` or ``cuda``; raises :class:`UserError` where CUDA is asked for and absent."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: this torch sees no CUDA device; use --device cpu")
    return device


def trials(experiment: Experiment, registry: Registry, judge: str = "test") -> Iterator[TrialSpec]:
    """All trials of the grid, seed by seed, so that an unfinished grid is still balanced.

    judge: the split that they are judged on.
    """
    device = resolve_device(experiment.device)
    partitions = _unique(
        "partitions", [_plugin_spec(registry, "regroupers", parse_choice(p)) for p in experiment.partitions]
    )
    mixers = _unique("mixers", [_plugin_spec(registry, "mixers", parse_choice(m)) for m in experiment.mixers])
    tasks = []
    for item in experiment.tasks:
        choice = parse_choice(item)
        plugin = registry.get("tasks", choice.name)
        if experiment.preset not in plugin.cls.presets:
            raise UserError(
                f"task {choice.name} has no preset {experiment.preset!r}"
                f"{nearest(experiment.preset, plugin.cls.presets)}"
            )
        preset = plugin.cls.presets[experiment.preset]
        try:
            config = plugin.cls.configure(preset, with_nulls(plugin.cls.Config, choice.params))
        except ValueError as error:
            raise UserError(f"{choice.label}: {error}") from None
        recipe = preset.recipe
        changes = {"steps": experiment.steps, "batch_size": experiment.batch_size, "time_limit": experiment.time_limit}
        recipe = dataclasses.replace(recipe, **{k: v for k, v in changes.items() if v is not None})
        spec = PluginSpec(name=choice.name, config=plain(config), label=choice.label, source=plugin.source)
        tasks.append((spec, recipe))
    _unique("tasks", [spec for spec, _ in tasks])
    for seed in experiment.seeds:
        for task, recipe in tasks:
            for partition in partitions:
                for mixer in mixers:
                    yield TrialSpec(
                        task=task,
                        preset=experiment.preset,
                        partition=partition,
                        mixer=mixer,
                        seed=seed,
                        recipe=plain(recipe),
                        device=device,
                        dtype=experiment.dtype,
                        compile=experiment.compile,
                        threads=experiment.threads,
                        budget_rule=experiment.budget_rule,
                        judge=judge,
                    )


def _unique(what: str, specs: list[PluginSpec]) -> list[PluginSpec]:
    if not specs:
        raise UserError(f"{what}: at least one is needed")
    seen: dict[str, str] = {}
    for spec in specs:
        key = repr(sorted(spec.identity().items(), key=str))
        if key in seen:
            raise UserError(f"{what}: {spec.label} stands twice, or is the same as {seen[key]}")
        seen[key] = spec.label
    return specs
