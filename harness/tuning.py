"""``harness tune``: the same small number of tries for every mixer, judged on validation, on seeds of their own.

The first try is the mixer as it was named; the others are points of a Halton sequence over what the mixer's class
declares as ``search_space``, the same ones on every machine. Nothing that is tried ever sees a test example or a
reported seed. The mixer with the best mean of the task's primary metric is written into an experiment that
``harness run`` takes.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from scipy.stats import qmc
from tabulate import tabulate

from harness.errors import UserError
from harness.experiment import Experiment, build_config, plain
from harness.inline import Choice, parse_choice
from harness.leaderboard.rows import is_scored, primary_name, read_rows
from harness.registry import Registry
from harness.run import run_experiment
from harness.store import write_text

TRIES = 8
FIRST_SEED = 1000
REPORTED_SEEDS = 5
MOST_DRAWS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One setting of a mixer. score: mean over the tuning seeds; NaN where a trial failed. chosen: the best one."""

    mixer: str
    label: str
    score: float
    chosen: bool


def tries_of(registry: Registry, choice: Choice, count: int) -> list[Choice]:
    """The named setting, then others from the mixer's search space: ``count`` in all, or fewer where it is small.

    Fields that the user set stay as they are.
    """
    plugin = registry.get("mixers", choice.name)
    space = {key: dimension for key, dimension in sorted(plugin.cls.search_space.items()) if key not in choice.params}
    found = {_identity(plugin, choice): choice}
    if space:
        seed = int.from_bytes(hashlib.sha256(choice.name.encode()).digest()[:4])
        sequence = qmc.Halton(d=len(space), scramble=True, rng=seed)
        for _ in range(MOST_DRAWS):
            if len(found) == count:
                break
            point = sequence.random(1)[0]
            drawn = {key: dimension.at(float(x)) for (key, dimension), x in zip(space.items(), point, strict=True)}
            trial = Choice(name=choice.name, params={**choice.params, **drawn})
            found.setdefault(_identity(plugin, trial), trial)
    return list(found.values())


def _identity(plugin: Any, choice: Choice) -> str:
    return json.dumps(plain(build_config(plugin, choice.params)), sort_keys=True)


def tune(experiment: Experiment, out: Path, console: Console, *, count: int = TRIES) -> tuple[list[Tried], Path]:
    """Run every try that has no row yet; returns what was tried and the experiment file with the chosen mixers."""
    if len(experiment.tasks) != 1 or len(experiment.partitions) != 1:
        raise UserError("tune one task under one partition at a time: what is best for one may be worst for another")
    reported = set(range(REPORTED_SEEDS))
    if reported & set(experiment.seeds):
        raise UserError(
            f"seeds 0 to {REPORTED_SEEDS - 1} are those of published tables; tune on others, such as {FIRST_SEED}"
        )
    registry = Registry(experiment.plugin)
    tries = {choice.label: tries_of(registry, choice, count) for choice in map(parse_choice, experiment.mixers)}
    unique = list(dict.fromkeys(trial.label for group in tries.values() for trial in group))
    grid = experiment.model_copy(update={"mixers": tuple(unique), "timing": False})
    trials = run_experiment(grid, out, console, judge="validation")
    wanted = {spec.id for spec in trials}
    scores, higher = _scores([row for row in read_rows([out]) if row["id"] in wanted])
    tried = [
        tried for label, group in tries.items() for tried in _ranked(label, [t.label for t in group], scores, higher)
    ]
    file = out / "tuned.yaml"
    write_text(file, _experiment_text(experiment, tried))
    return tried, file


def _scores(rows: Sequence[dict[str, Any]]) -> tuple[dict[str, float], bool]:
    """Mean validation score by mixer label, NaN where any seed failed, and whether more is better."""
    by_label: dict[str, list[float]] = {}
    higher = False
    for row in rows:
        value = math.nan
        if is_scored(row):
            metric = row["metrics"][primary_name(row)]
            value, higher = float(metric["target"]), bool(metric["higher_is_better"])
        by_label.setdefault(row["spec"]["mixer_label"], []).append(value)
    return {label: statistics.fmean(values) for label, values in by_label.items()}, higher


def _ranked(mixer: str, labels: Sequence[str], scores: dict[str, float], higher: bool) -> list[Tried]:
    """The tries of one mixer in their order, the best marked; the earlier of equals wins."""
    known = [label for label in labels if math.isfinite(scores[label])]
    best = (max if higher else min)(known, key=lambda label: scores[label]) if known else None
    return [Tried(mixer=mixer, label=label, score=scores[label], chosen=label == best) for label in labels]


def table(tried: Sequence[Tried], form: str = "simple") -> str:
    """What was tried, a line each."""
    lines = [
        [t.label, "failed" if math.isnan(t.score) else f"{t.score:.5g}", "chosen" if t.chosen else ""] for t in tried
    ]
    return tabulate(lines, headers=["try", "validation", ""], tablefmt=form, disable_numparse=True)


def _experiment_text(experiment: Experiment, tried: Sequence[Tried]) -> str:
    chosen = list(dict.fromkeys(t.label for t in tried if t.chosen))  # two spellings of a mixer may end alike
    if not chosen:
        raise UserError("no try ended with a score; `harness rows` on the run folder shows why")
    values = experiment.model_dump(mode="json", exclude_defaults=True)
    values |= {"mixers": chosen, "seeds": REPORTED_SEEDS}
    head = [
        f"# Tuned: the best of up to {max(sum(t.mixer == u.mixer for t in tried) for u in tried)} tries a mixer, by",
        f"# validation on seeds {', '.join(map(str, experiment.seeds))}. Run it with `harness run`.",
    ]
    return "\n".join([*head, "", yaml.safe_dump(values, sort_keys=False)])
