"""The result objects of a row: aggregated metrics, and what became of the mixture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import nn

from harness.prepared import Prepared
from mixers.base import Array, IntArray, Mixture
from mixers.simplex import entropy
from tasks.base import Corpus, Scores, SplitName, TaskError, TrainableTask

MOST_CHANGES = 200


class Drawn(Protocol):
    """What was drawn: examples by domain, [m], and epochs of each."""

    @property
    def drawn(self) -> IntArray:
        """Examples."""

    @property
    def epochs(self) -> Array:
        """Passes over each domain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a trial came to, for its row: whether one model was trained or several.

    metrics, mixture, report: the row's objects. parameters: of all that is served. examples, units: trained on.
    final_loss: mean training loss of the last round, where there is one. paper_share: see ``published_overhead``.
    """

    metrics: dict[str, Any]
    mixture: dict[str, Any]
    report: dict[str, Any]
    parameters: int
    examples: int
    units: float
    final_loss: float | None
    paper_share: float | None


def judged(prepared: Prepared, model: nn.Module) -> dict[str, Any]:
    """A finished model's metrics on test; on validation, where the trial is a try of ``harness tune``."""
    split: SplitName = "validation" if prepared.spec.judge == "validation" else "test"
    with prepared.ledger.clock("evaluation"):
        scores = prepared.task.evaluate(model, prepared.corpus, split, device=prepared.device, dtype=prepared.dtype)
    return metrics_of(prepared.task, prepared.corpus, scores)


def metrics_of(task: TrainableTask, corpus: Corpus, scores: Scores) -> dict[str, Any]:
    """Every metric under the target shares, macro, worst and by original domain.

    The original domains are used whatever the partition, so that all trials are judged alike. Macro and worst are
    over the original domains that have test examples. A baseline (the best constant answer, chance) is aggregated in
    the same way, where the task gives one. A metric that ranks nothing and counts no example of this data (classes that
    it does not have) is left out.
    """
    result: dict[str, Any] = {}
    for metric in task.metrics:
        if not metric.primary and not np.any(scores.sums[metric.name][1]):
            continue
        values = scores.by_domain(metric.name, len(corpus.domains))
        known = np.isfinite(values)
        lacking = [
            name for name, has, p in zip(corpus.domains, known, corpus.target_shares, strict=True) if p and not has
        ]
        if lacking:
            raise TaskError(
                f"{metric.name} of target domain {lacking[0]} is no number: no test example, or a model that diverged"
            )
        worst = int(np.nanargmin(values) if metric.higher_is_better else np.nanargmax(values))
        result[metric.name] = {
            **_baseline(metric.name, corpus, scores),
            "unit": metric.unit,
            "higher_is_better": metric.higher_is_better,
            "primary": metric.primary,
            "target": float(np.nansum(values * corpus.target_shares)),
            "macro": float(values[known].mean()),
            "worst": float(values[worst]),
            "worst_domain": corpus.domains[worst],
            "by_domain": {name: float(v) for name, v, has in zip(corpus.domains, values, known, strict=True) if has},
        }
    return result


def _baseline(metric: str, corpus: Corpus, scores: Scores) -> dict[str, Any]:
    """The field ``baseline`` of a metric, or nothing."""
    if metric not in scores.baselines:
        return {}
    values = scores.by_domain(metric, len(corpus.domains), baseline=True)
    by_domain = {name: float(v) for name, v in zip(corpus.domains, values, strict=True) if np.isfinite(v)}
    target = float(np.nansum(values * corpus.target_shares))
    return {"baseline": {"target": target, "macro": float(np.mean([*by_domain.values()])), "by_domain": by_domain}}


def mixture_of(trajectory: list[tuple[int, Mixture]], sampler: Drawn) -> dict[str, Any]:
    """Requested and realised shares, epochs, and the trajectory with its entropy and largest weight.

    A mixer that answers after every step would make a row of megabytes: of more than :data:`MOST_CHANGES` mixtures so
    many are kept, evenly spaced, the first and the last among them, and ``changes`` says how many there were.
    """
    drawn = sampler.drawn
    changes = len(trajectory)
    if changes > MOST_CHANGES:
        kept = np.unique(np.linspace(0, changes - 1, MOST_CHANGES).round().astype(int))
        trajectory = [trajectory[index] for index in kept]
    loss_weights = [
        [step, mixture.loss_weights.tolist()] for step, mixture in trajectory if mixture.loss_weights is not None
    ]
    return {
        "requested": [[step, mixture.weights.tolist()] for step, mixture in trajectory],
        "loss_weights": loss_weights,
        "realised": (drawn / max(1, drawn.sum())).tolist(),
        "examples_drawn": drawn.tolist(),
        "epochs": sampler.epochs.tolist(),
        "entropy": [entropy(mixture.weights) for _, mixture in trajectory],
        "largest": [float(mixture.weights.max()) for _, mixture in trajectory],
        **({"changes": changes} if changes > len(trajectory) else {}),
    }
