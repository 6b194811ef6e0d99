"""Output mixing: the members of an ensemble are trained, combined and judged in the place of one main run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import nn

from harness.flops import PassFlops, parameter_count
from harness.kept import folder_of, is_made, kept_model
from harness.lab import VALIDATION
from harness.making import fulfil
from harness.mixing import Progress
from harness.orders import ErrandDone, Made, OrdersPending
from harness.prepared import Prepared, pass_flops
from harness.proxies.children import child_of, key_of
from harness.results import Outcome, judged, mixture_of
from harness.validation import subset, validation_losses
from mixers.base import Array, IntArray, MixerError, Run
from mixers.ensembler import Ensembler
from tasks.base import TaskError, TrainableTask


@dataclass(frozen=True, slots=True, kw_only=True)
class _Served:
    """Examples drawn by all members together and epochs of them, [m] by domain."""

    drawn: IntArray
    epochs: Array


def output_mixed(prepared: Prepared, ensembler: Ensembler, progress: Progress) -> Outcome:
    """Train the members, choose their weights, combine and judge.

    A member is a run like any that a mixer orders: kept by content, made once, resumable. It has the trial's own seed,
    so that it starts from the weights of every main run and meets a domain's examples in their order. Raises
    :class:`TaskError` where the task cannot combine models, before any of them is trained.
    """
    problem = prepared.problem
    with prepared.ledger.clock("mixing"):
        mixture = ensembler.start(problem, _NoLab()).checked(problem.domains)
        runs, candidates = ensembler.members(problem), ensembler.candidates(problem)
    _check(prepared, ensembler, runs, candidates)
    children = [replace(child_of(prepared, run), seed=prepared.seed) for run in runs]
    _leave_to_others(prepared, children, runs)
    made = _trained(prepared, children, runs, progress)
    models = [_model(prepared, each) for each in made]
    flops = pass_flops(prepared, models[0])
    prepared.ledger.charge("training", flops=flops.training * sum(run.steps for run in runs))
    weights, fitted = _chosen(prepared, ensembler, models, candidates, flops)
    served = [model for model, weight in zip(models, weights, strict=True) if weight > 0]
    batch = prepared.recipe.batch_size
    drawn = np.zeros(problem.m)
    for run in runs:
        assert run.mixture is not None
        drawn += run.steps * batch * run.mixture.weights
    return Outcome(
        metrics=judged(prepared, _combined(prepared, ensembler, models, weights)),
        mixture=mixture_of(
            [(0, mixture)], _Served(drawn=np.round(drawn).astype(np.int64), epochs=drawn / problem.examples)
        ),
        report={
            **ensembler.report(),
            "combine": ensembler.combination,
            "members": [
                _member(prepared, run, each, float(weight))
                for run, each, weight in zip(runs, made, weights, strict=True)
            ],
            "served_models": len(served),
            **fitted,
        },
        parameters=sum(parameter_count(model) for model in served),
        examples=sum(run.steps for run in runs) * batch,
        units=float(sum(run.steps for run in runs) * batch * prepared.corpus.units["train"].mean()),
        final_loss=None,
        paper_share=None,
    )


class _NoLab:
    """An ensembler buys nothing itself: reading anything here says so."""

    def __getattr__(self, name: str) -> Any:
        raise MixerError(f"an ensembler has no live model, so it cannot buy {name}; name the runs in members()")


def _check(prepared: Prepared, ensembler: Ensembler, runs: Sequence[Run], candidates: Array) -> None:
    steps = sum(run.steps for run in runs)
    if steps != prepared.recipe.steps:
        raise MixerError(f"{ensembler.name}: its members have {steps} steps, the main run {prepared.recipe.steps}")
    if any(run.mixture is None or not run.keep or run.size != 1.0 for run in runs):
        raise MixerError(f"{ensembler.name}: a member needs a static mixture, keep=True and size=1")
    good = candidates.ndim == 2 and candidates.shape[1] == len(runs) and np.all(candidates >= 0)
    if not good or not np.allclose(candidates.sum(1), 1.0):
        raise MixerError(f"{ensembler.name}: candidates must be mixtures of its {len(runs)} members, [c, k]")
    if len(runs) > 1 and type(prepared.task).combine is TrainableTask.combine:
        raise TaskError(
            f"task {prepared.task.name} cannot combine the predictions of {len(runs)} models; "
            "mix their data in place of them (grid), or give the task a combine()"
        )


def _leave_to_others(prepared: Prepared, children: Sequence[Prepared], runs: Sequence[Run]) -> None:
    """Where other workers are to make the members, leave what is missing to them; see :mod:`harness.orders`."""
    policy = prepared.orders
    keys = {key_of(child, run): (child, run) for child, run in zip(children, runs, strict=True)}
    waiting = {key: (of, run) for key, (of, run) in keys.items() if not is_made(folder_of(prepared.cache, key), run)}
    if policy.errand:
        if policy.errand in waiting:
            fulfil(*waiting[policy.errand])
        raise ErrandDone
    if policy.delegate and len(waiting) > 1:
        raise OrdersPending(tuple(waiting))


def _trained(prepared: Prepared, children: Sequence[Prepared], runs: Sequence[Run], progress: Progress) -> list[Made]:
    """The members' results, in order; seconds of what a cache answered count as when they were made."""
    made, done, ledger = [], 0, prepared.ledger
    for child, run in zip(children, runs, strict=True):
        each = fulfil(child, run, lambda step, _, done=done: progress(done + step, prepared.recipe.steps))  # type: ignore[misc]
        ledger.charge("training", seconds=each.seconds)
        ledger.reused += each.cached
        done += run.steps
        made.append(each)
    return made


def _model(prepared: Prepared, made: Made) -> nn.Module:
    """A member's model, on the device."""
    assert made.result.checkpoint is not None
    return kept_model(prepared.main_task, prepared.cache, made.result.checkpoint).to(prepared.device)


def _combined(prepared: Prepared, ensembler: Ensembler, models: Sequence[nn.Module], weights: Array) -> nn.Module:
    """The combination of the members of positive weight; one alone is itself."""
    served = [model for model, weight in zip(models, weights, strict=True) if weight > 0]
    if len(served) == 1:
        return served[0]
    return prepared.task.combine(served, weights[weights > 0], ensembler.combination)


def _chosen(
    prepared: Prepared, ensembler: Ensembler, models: Sequence[nn.Module], candidates: Array, flops: PassFlops
) -> tuple[Array, dict[str, Any]]:
    """The weights, and for the report the validation losses of all candidates; measuring them is billed."""
    if len(candidates) == 1:
        return candidates[0], {}
    ledger = prepared.ledger
    with ledger.clock("mixing"):
        chosen = subset(prepared, ensembler.validation_examples)
        losses = []
        for weights in candidates:
            losses.append(validation_losses(prepared, _combined(prepared, ensembler, models, weights), chosen))
            calls = int(np.count_nonzero(weights))
            spent = calls * flops.forward * len(chosen) / prepared.recipe.batch_size
            ledger.charge("mixing", flops=spent, what=VALIDATION, calls=calls)
        table = np.stack(losses)
        best = ensembler.choose(prepared.problem, table)
    tried = [
        {"weights": weights.tolist(), "losses": [float(x) if np.isfinite(x) else None for x in row]}
        for weights, row in zip(candidates, table, strict=True)
    ]
    return candidates[best], {"candidates": tried, "chosen": best}


def _member(prepared: Prepared, run: Run, made: Made, weight: float) -> dict[str, Any]:
    """What the row says of one member. losses: on validation, by target, of the member alone."""
    assert run.mixture is not None
    shares = zip(prepared.problem.domains, run.mixture.weights.tolist(), strict=True)
    targets = zip(prepared.problem.targets, made.result.final.tolist(), strict=True)
    return {
        "trained_on": {name: share for name, share in shares if share > 0},
        "steps": run.steps,
        "weight": weight,
        "losses": {name: loss for name, loss in targets if np.isfinite(loss)},
    }
