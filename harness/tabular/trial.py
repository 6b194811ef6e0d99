"""A trial on a table: the mixer's first mixture, judged by the surrogate's mean at the judged size."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from harness.experiment import build_config
from harness.ledger import Ledger
from harness.prepare import as_planned, make
from harness.prepared import read_only
from harness.registry import Registry
from harness.seeds import derive_seed
from harness.spec import TrialSpec
from harness.tabular.lab import TableLab, refuse_online
from mixers.base import Array, Mixture, Problem
from mixers.simplex import entropy
from tasks.base import Best, Metric, Outcomes, TabularTask, TaskError


def is_tabular(spec: TrialSpec, registry: Registry) -> bool:
    """Whether a trial's task replays a table."""
    cls = registry.get("tasks", spec.task.name).cls
    return isinstance(cls, type) and issubclass(cls, TabularTask)


def replay(
    spec: TrialSpec, registry: Registry, cache: Path, empty_row: Callable[[TrialSpec, str, str], dict[str, Any]]
) -> dict[str, Any]:
    """The trial's row. Raises what the task or the mixer raises, and :class:`TaskError` for what no table can do."""
    _refuse_rules(spec)
    plugin = as_planned(registry, "tasks", spec.task)
    task: TabularTask = plugin.cls(build_config(plugin, spec.task.config), plugin.cls.presets[spec.preset], cache)
    outcomes = task.load()
    mixer = make(registry, "mixers", spec.mixer)
    problem = problem_of(outcomes, spec)
    needs, declared = mixer.needs(), mixer.purchases(problem)
    refuse_online(mixer, needs, declared)
    ledger = Ledger()
    lab = TableLab(outcomes, problem, ledger, declared, spec.seed)
    with ledger.clock("mixing"):
        mixture = mixer.start(problem, lab).checked(problem.domains)
    json.dumps(mixer.state_dict(), allow_nan=False)  # a state that cannot be saved fails here as elsewhere
    if mixture.loss_weights is not None:
        raise TaskError("a table replays runs without loss weights; use a mixer that sets none, or a task that trains")
    with ledger.clock("evaluation"):
        losses, best = outcomes.losses(mixture.weights), outcomes.best()
    size = outcomes.sizes[outcomes.judged]
    ledger.charge("training", flops=outcomes.cost(outcomes.judged))
    units = size.tokens or 1.0
    row = empty_row(spec, "ok", "")
    row |= {
        "fingerprint": outcomes.fingerprint,
        "data": {**outcomes.provenance(), "name": Path(str(spec.task.config.get("path", ""))).resolve().name},
        "domains": _domains(outcomes, problem),
        "mixer_report": mixer.report(),
        "metrics": _metrics(task.metrics, outcomes, losses, best),
        "mixture": _mixture(mixture),
        "training": {
            "parameters": size.parameters or None,
            "units": units,
            "unit": task.unit if size.tokens else "run",
            "final_train_loss": None,
        },
        "overhead": {
            "training_flops": ledger.flops["training"],
            "mixing_flops": ledger.flops["mixing"],
            "regrouping_flops": 0.0,
            "counted_share": ledger.share("mixing"),
            "regrouping_share": 0.0,
            "paper_share": mixer.published_overhead(problem, train_units=units, tracked_fraction=0.0),
            "purchases": ledger.purchases,
        },
        "table": {
            "size": size.name,
            "support": _support(outcomes, mixture.weights),
            "best": {"mixture": best.mixture.tolist(), "score": best.score} | _support(outcomes, best.mixture),
            "score_rmse": outcomes.score_error(),
            "replayed": lab.replayed,
        },
    }
    if mixer.reference:
        row["reference"] = True
    row["measured"] |= {
        "train_seconds": 0.0,
        "mixer_seconds": ledger.seconds["mixing"],
        "regroup_seconds": 0.0,
        "embedding_seconds": 0.0,
        "eval_seconds": ledger.seconds["evaluation"],
    }
    return row


def _refuse_rules(spec: TrialSpec) -> None:
    """What a row cannot be made for, whatever the table and the mixer."""
    if spec.partition.name != "original":
        raise TaskError(
            f"a table has no examples to cut, so partition {spec.partition.label} cannot be made of it; "
            "use --partitions original"
        )
    if spec.budget_rule != "main":
        raise TaskError("a table's judged run cannot be made shorter by what was bought; use --budget-rule main")
    if spec.judge != "test":
        raise TaskError("a table has no validation split apart from what it judges by; tune on a task that trains")


def problem_of(outcomes: Outcomes, spec: TrialSpec) -> Problem:
    """What a mixer may know. Steps, batch size and examples are nominal: a table knows mixtures and losses."""
    recipe = spec.recipe
    whole = outcomes.available * recipe["steps"] * recipe["batch_size"]
    examples = np.maximum(np.round(whole * outcomes.train_shares), 1).astype(np.int64)
    size = outcomes.sizes[outcomes.judged]
    each = max(1.0, size.tokens / (recipe["steps"] * recipe["batch_size"]))
    return Problem(
        domains=outcomes.domains,
        targets=outcomes.targets,
        train_shares=read_only(outcomes.train_shares.copy()),
        target_shares=read_only(outcomes.target_shares.copy()),
        examples=read_only(examples),
        units=read_only(np.round(examples * each).astype(np.int64)),
        steps=recipe["steps"],
        batch_size=recipe["batch_size"],
        seed=derive_seed(spec.seed, "mixer"),
    )


def _domains(outcomes: Outcomes, problem: Problem) -> dict[str, Any]:
    share = dict(zip(problem.targets, problem.target_shares.tolist(), strict=True))
    original = [*problem.domains, *(name for name in problem.targets if name not in problem.domains)]
    return {
        "original": original,
        "original_target_shares": [share.get(name, 0.0) for name in original],
        "train": list(problem.domains),
        "targets": list(problem.targets),
        "train_shares": problem.train_shares.tolist(),
        "target_shares": problem.target_shares.tolist(),
        "examples": problem.examples.tolist(),
    }


def _metrics(metrics: tuple[Metric, ...], outcomes: Outcomes, losses: Array, best: Best) -> dict[str, Any]:
    """The losses, and what they are above those of the best mixture; by target, in the form of every row."""
    values = {"loss": losses, "regret": losses - best.losses}
    made = {}
    for metric in metrics:
        by_target = values[metric.name]
        known = np.isfinite(by_target)
        worst = int(np.nanargmax(by_target))
        made[metric.name] = {
            "unit": metric.unit,
            "higher_is_better": metric.higher_is_better,
            "primary": metric.primary,
            "target": outcomes.score(by_target),
            "macro": float(by_target[known].mean()),
            "worst": float(by_target[worst]),
            "worst_domain": outcomes.targets[worst],
            "by_domain": {n: float(v) for n, v in zip(outcomes.targets, by_target, strict=True) if np.isfinite(v)},
        }
    return made


def _mixture(mixture: Mixture) -> dict[str, Any]:
    weights = mixture.weights.tolist()
    return {
        "requested": [[0, weights]],
        "loss_weights": [],
        "realised": weights,
        "entropy": [entropy(mixture.weights)],
        "largest": [float(mixture.weights.max())],
    }


def _support(outcomes: Outcomes, mixture: Array) -> dict[str, Any]:
    """How far a mixture is from the judged size's rows."""
    found = outcomes.support(outcomes.judged, mixture)
    return {"outside": found.outside, "distance": found.distance, "limit": found.limit, "nearest": found.run}
