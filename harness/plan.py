"""What a run would do and what it needs: ``harness run --dry-run``, and the check before a run starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from tabulate import tabulate

from harness.errors import UserError
from harness.experiment import Experiment, build_config, plain, trials
from harness.registry import Registry
from harness.spec import PluginSpec, TrialSpec
from harness.store import RunFolder
from tasks.base import Requirement, TabularTask, TrainableTask


def task_of(spec: TrialSpec, registry: Registry, cache: Path) -> TrainableTask | TabularTask:
    """The task object of a trial; nothing is read yet."""
    plugin = registry.get("tasks", spec.task.name)
    config = build_config(plugin, spec.task.config)
    task: TrainableTask | TabularTask = plugin.cls(config, plugin.cls.presets[spec.preset], cache)
    return task


def needs_of(spec: TrialSpec, registry: Registry, cache: Path) -> list[Requirement]:
    """What a trial's task asks for. Raises :class:`UserError` where the task cannot even say that."""
    try:
        return list(task_of(spec, registry, cache).requirements())
    except (ValueError, OSError) as error:
        raise UserError(f"{spec.task.label}: {' '.join(str(error).split())}") from None


def by_task(grid: Sequence[TrialSpec]) -> dict[str, TrialSpec]:
    """One trial of every (task, config, preset) of the grid."""
    return {repr((spec.task.identity(), spec.preset)): spec for spec in reversed(grid)}


def missing(grid: Sequence[TrialSpec], registry: Registry, cache: Path) -> Iterator[tuple[TrialSpec, Requirement]]:
    """What is not there and will not be fetched by itself, task by task."""
    for spec in by_task(grid).values():
        for need in needs_of(spec, registry, cache):
            if not need.found and not need.fetchable:
                yield spec, need


def refuse_incomplete(grid: Sequence[TrialSpec], registry: Registry, cache: Path) -> None:
    """Raise :class:`UserError` in one line where a task lacks something that must be put in place first."""
    for spec, need in missing(grid, registry, cache):
        raise UserError(f"{spec.task.name} at {spec.preset} needs {need.what}: {need.remedy}")


def dry_run(experiment: Experiment, out: Path, cache: Path) -> tuple[str, bool]:
    """(what would run and what it needs, whether everything is there or will be fetched)."""
    registry = Registry(experiment.plugin)
    grid = list(trials(experiment, registry))
    folder = RunFolder(out)
    done = sum(folder.status(spec.id) is not None for spec in grid)
    first = grid[0]
    parts = [
        f"{len(grid)} trials, {done} already done in {out}: {_count(grid, 'task')} x {_count(grid, 'partition')} x "
        f"{_count(grid, 'mixer')} x {len(experiment.seeds)} seeds, on {first.device}, {first.dtype}, "
        f"equal {first.budget_rule} budget",
        f"partitions  {', '.join(_labels(grid, 'partition'))}",
        f"mixers      {', '.join(_labels(grid, 'mixer'))}",
    ]
    ready = True
    for spec in by_task(grid).values():
        needs = needs_of(spec, registry, cache)
        ready = ready and all(need.within_reach() for need in needs)
        parts += [
            "",
            f"{spec.task.label} at {spec.preset}",
            _recipe(spec, registry),
            _settings(spec, registry),
            _needs(needs),
        ]
    return "\n".join(parts), ready


def _count(grid: Sequence[TrialSpec], role: str) -> str:
    number = len(_labels(grid, role))
    return f"{number} {role}{'s' if number > 1 else ''}"


def _labels(grid: Sequence[TrialSpec], role: str) -> list[str]:
    plugins: list[PluginSpec] = [getattr(spec, role) for spec in grid]
    return list(dict.fromkeys(plugin.label for plugin in plugins))


def _recipe(spec: TrialSpec, registry: Registry) -> str:
    if issubclass(registry.get("tasks", spec.task.name).cls, TabularTask):
        return "  recipe    none: published runs are replayed"
    r = spec.recipe
    return (
        f"  recipe    {r['steps']:,} steps, batch of {r['batch_size']:,}, AdamW at {r['learning_rate']:g}, "
        f"{r.get('schedule', 'cosine')} schedule, {round(r['warmup'] * r['steps']):,} warm-up steps, "
        f"weight decay {r['weight_decay']:g}, clip {r['clip_norm']:g}"
    )


def _settings(spec: TrialSpec, registry: Registry) -> str:
    """What differs from the task's defaults, which ``harness info`` shows."""
    defaults = plain(registry.get("tasks", spec.task.name).cls.Config())
    shown = [f"{key}={value}" for key, value in spec.task.config.items() if value != defaults[key]]
    return f"  settings  {', '.join(shown) or 'none'} (others as in: harness info {spec.task.name})"


def _needs(needs: Sequence[Requirement]) -> str:
    if not needs:
        return "  needs     nothing beyond this installation"
    rows = []
    for need in needs:
        state = "found" if need.found else "to be fetched" if need.within_reach() else "MISSING"
        out_of_reach = f"{need.source} does not answer; " if state == "MISSING" and need.fetchable else ""
        rows.append(["  needs", state, need.what, need.found or out_of_reach + need.remedy])
    return tabulate(rows, tablefmt="plain")
