"""One trial, from its spec to its row."""

from __future__ import annotations

import json
import os
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from harness import PROTOCOL, ROW_VERSION
from harness.budget import Reserve, fitted
from harness.ensembling import output_mixed
from harness.flops import parameter_count
from harness.gradients import last_layers
from harness.mixing import MixedTraining, Progress
from harness.orders import INLINE, OrderPolicy
from harness.prepare import prepare
from harness.prepared import Prepared
from harness.process import set_up
from harness.provenance import provenance
from harness.registry import Registry
from harness.results import Outcome, judged, mixture_of
from harness.spec import TrialSpec
from harness.store import RunFolder
from harness.tabular.trial import is_tabular, replay
from harness.trainer import DivergedError
from mixers.base import DomainGradients, MixtureError
from mixers.ensembler import Ensembler

CHECKPOINT_SECONDS = float(os.environ.get("MIXOFF_CHECKPOINT_SECONDS", "20"))


def run_trial(
    spec: TrialSpec,
    registry: Registry,
    folder: RunFolder,
    cache: Path,
    progress: Progress,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    orders: OrderPolicy = INLINE,
) -> dict[str, Any]:
    """Run or resume a trial; returns its row, also when it fails. ``progress`` is called with (step, steps).

    Under ``orders`` that leave runs to others it may end with what :mod:`harness.orders` describes instead.
    """
    begin = time.perf_counter()
    set_up(spec.threads, spec.seed)
    try:
        if is_tabular(spec, registry):
            row = replay(spec, registry, cache, empty_row)
        else:
            prepared, reserve = fitted(replace(prepare(spec, registry, cache), orders=orders))
            if isinstance(prepared.mixer, Ensembler):
                outcome = output_mixed(prepared, prepared.mixer, progress)
            else:
                outcome = Trial(prepared, folder, progress, checkpoint_seconds).run()
            row = finished_row(prepared, outcome, reserve)
        json.dumps(row, allow_nan=False)  # what cannot be written must fail here, where it becomes a row
    except Exception as error:
        status, reason = verdict(error)
        row = empty_row(spec, status, reason)
        work = folder.work(spec.id)
        work.mkdir(parents=True, exist_ok=True)
        (work / "traceback.txt").write_text(traceback.format_exc(), encoding="utf-8")
    row["measured"]["seconds"] = time.perf_counter() - begin
    return row


def verdict(error: Exception) -> tuple[str, str]:
    """Status and one-line reason of a failure."""
    line = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, MixtureError):
        return "bad_mixture", line
    wants_memory = any(sign in line for sign in ("can't allocate memory", "out of memory", "ALLOC_FAILED"))
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or wants_memory:
        return "oom", f"out of memory: {line[:300]}"
    if isinstance(error, DivergedError):
        return "failed", line
    return "failed", f"{type(error).__name__}: {line[:500]}"


def empty_row(spec: TrialSpec, status: str, reason: str) -> dict[str, Any]:
    """A row that holds who it is and how it ended, and no results."""
    return {
        "row_version": ROW_VERSION,
        "protocol": PROTOCOL,
        "id": spec.id,
        "cell": spec.cell,
        "status": status,
        "reason": reason,
        "spec": spec.as_row(),
        "fingerprint": None,
        "fingerprint_expected": None,
        "data": None,
        "domains": None,
        "partition_report": None,
        "mixer_report": None,
        "metrics": None,
        "mixture": None,
        "training": None,
        "overhead": None,
        "measured": {"seconds": 0.0, "timing": None},
        "provenance": provenance(),
    }


def finished_row(prepared: Prepared, outcome: Outcome, reserve: Reserve | None) -> dict[str, Any]:
    """The row of a trial that went well."""
    problem, corpus, ledger = prepared.problem, prepared.corpus, prepared.ledger
    row = empty_row(prepared.spec, "ok", "")
    row |= {
        "fingerprint": corpus.fingerprint,
        "fingerprint_expected": corpus.expected_fingerprint,
        "data": dict(corpus.provenance),
        "domains": {
            "original": list(corpus.domains),
            "original_target_shares": corpus.target_shares.tolist(),
            "train": list(problem.domains),
            "targets": list(problem.targets),
            "train_shares": problem.train_shares.tolist(),
            "target_shares": problem.target_shares.tolist(),
            "examples": problem.examples.tolist(),
        },
        "partition_report": prepared.partition.report,
        "mixer_report": outcome.report,
        "metrics": outcome.metrics,
        "mixture": outcome.mixture,
        "training": {
            "parameters": outcome.parameters,
            "examples": outcome.examples,
            "units": round(outcome.units),
            "unit": prepared.task.unit,
            "final_train_loss": outcome.final_loss,
        },
        "overhead": {
            "training_flops": ledger.flops["training"],
            "mixing_flops": ledger.flops["mixing"],
            "regrouping_flops": ledger.flops["regrouping"] + ledger.flops["embedding"],
            "counted_share": ledger.share("mixing"),
            "regrouping_share": ledger.share("regrouping") + ledger.share("embedding"),
            "paper_share": outcome.paper_share,
            "purchases": ledger.purchases,
        },
    }
    if prepared.mixer.reference:
        row["reference"] = True
    if reserve is not None:
        row["budget"] = reserve.as_row()
    row["measured"] |= {
        "train_seconds": ledger.seconds["training"],
        "mixer_seconds": ledger.seconds["mixing"] + ledger.made_elsewhere,
        "regroup_seconds": ledger.seconds["regrouping"],
        "embedding_seconds": ledger.seconds["embedding"],
        "eval_seconds": ledger.seconds["evaluation"],
        **({"reused_runs": ledger.reused} if ledger.reused else {}),
    }
    return row


class Trial:
    """The main run of one trial under its mixer, resumable at every round boundary."""

    def __init__(self, prepared: Prepared, folder: RunFolder, progress: Progress, checkpoint_seconds: float) -> None:
        self.prepared = prepared
        place = folder.checkpoint(prepared.spec.id)
        self.training = MixedTraining(prepared, place, progress, checkpoint_seconds)

    def run(self) -> Outcome:
        """Train to the end and evaluate on test (on validation, where the trial is a try of ``harness tune``)."""
        prepared, training = self.prepared, self.training
        training.run()
        model, sampler = training.trainer.model, training.trainer.sampler
        metrics = judged(prepared, model)
        return Outcome(
            metrics=metrics,
            mixture=mixture_of(training.trajectory, sampler),
            report=prepared.mixer.report(),
            parameters=parameter_count(model),
            examples=int(sampler.drawn.sum()),
            units=training.units,
            final_loss=training.final_loss,
            paper_share=self._paper_share(),
        )

    def _paper_share(self) -> float | None:
        """The mixer's own paper's count of its overhead, where it has one."""
        tracked = 0
        model = self.training.trainer.model
        for signal in self.training.needs.signals:
            if isinstance(signal, DomainGradients):
                layers = last_layers(self.prepared.task.tracked(model), signal.layers)
                tracked = sum(layer.weight.numel() for layer in layers)
        return self.prepared.mixer.published_overhead(
            self.prepared.problem, train_units=self.training.units, tracked_fraction=tracked / parameter_count(model)
        )
