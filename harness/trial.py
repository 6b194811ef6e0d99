"""One trial, from its spec to its row."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness import PROTOCOL, ROW_VERSION
from harness.flops import PassFlops, count_pass, parameter_count, sync
from harness.gradients import last_layers
from harness.lab import PaidLab
from harness.prepare import Prepared, prepare, read_only
from harness.process import set_up
from harness.provenance import provenance
from harness.registry import Registry
from harness.results import metrics_of, mixture_of
from harness.spec import TrialSpec
from harness.store import RunFolder
from harness.trainer import DivergedError, Trainer
from mixers.base import DomainGradients, Mixture, MixtureError, Needs, Observation, Problem

Progress = Callable[[int, int], None]
CHECKPOINT_SECONDS = float(os.environ.get("MIXOFF_CHECKPOINT_SECONDS", "20"))


def run_trial(
    spec: TrialSpec,
    registry: Registry,
    folder: RunFolder,
    cache: Path,
    progress: Progress,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> dict[str, Any]:
    """Run or resume a trial; returns its row, also when it fails. ``progress`` is called with (step, steps)."""
    begin = time.perf_counter()
    set_up(spec.threads, spec.seed)
    try:
        trial = Trial(prepare(spec, registry, cache), folder, progress, checkpoint_seconds)
        row = trial.run()
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


def observe(problem: Problem, trainer: Trainer, index: int, *, mixture_id: int) -> Observation:
    """What the mixer sees of the round that just ended; takes the round's gradients from the tracker."""
    served = trainer.served()
    losses = trainer.domain_losses()
    return Observation(
        domains=problem.domains,
        step=trainer.done,
        steps=problem.steps,
        round=index,
        learning_rate=trainer.learning_rate(trainer.done - 1),
        mixture_id=mixture_id,
        examples=read_only(served.examples),
        units=read_only(served.units),
        losses=None if losses is None else read_only(losses),
        gradients=trainer.tracker.take() if trainer.tracker is not None else None,
    )


class Trial:
    """The main run of one trial under its mixer, resumable at every round boundary."""

    def __init__(self, prepared: Prepared, folder: RunFolder, progress: Progress, checkpoint_seconds: float) -> None:
        self.prepared, self.folder, self.progress = prepared, folder, progress
        self.checkpoint_seconds = checkpoint_seconds
        self.ledger = prepared.ledger
        self.needs: Needs = prepared.mixer.needs()
        self.trainer: Trainer = prepared.trainer(self.needs.signals)
        self.pass_flops = self._count()
        self.lab = PaidLab(prepared, self.trainer, self.ledger, self.pass_flops, self.needs.purchases)
        self.trajectory: list[tuple[int, Mixture]] = []
        self.round = 0
        self.final_loss = math.nan

    def _count(self) -> PassFlops:
        """FLOPs of one step. The first examples stand for all: shapes do not depend on what is drawn."""
        size = min(self.prepared.recipe.batch_size, len(self.prepared.corpus.labels["train"]))
        indices = np.arange(size, dtype=np.int64)
        batch = self.prepared.task.batch(self.prepared.corpus, "train", indices)
        on_device = {key: tensor.to(self.prepared.device) for key, tensor in batch.items()}
        return count_pass(self.prepared.task, self.trainer.model, on_device)

    def run(self) -> dict[str, Any]:
        """Train to the end and evaluate on test."""
        prepared, trainer = self.prepared, self.trainer
        with self.ledger.clock("mixing"):
            first = prepared.mixer.start(prepared.problem, self.lab).checked(prepared.problem.domains)
        json.dumps(prepared.mixer.state_dict(), allow_nan=False)  # a state that cannot be saved fails at once
        self.trajectory = [(0, first)]
        self._resume()
        boundaries = self.needs.boundaries(prepared.recipe.steps)
        saved = time.perf_counter()
        for index in range(self.round, len(boundaries)):
            self._round(index, boundaries[index])
            if index + 1 == len(boundaries):
                break
            self._update(index)
            self.round = index + 1
            if time.perf_counter() - saved >= self.checkpoint_seconds:
                self._save()
                saved = time.perf_counter()
        self.ledger.charge("training", flops=self.pass_flops.training * prepared.recipe.steps)
        if trainer.tracker is not None:
            self.ledger.charge("mixing", flops=trainer.tracker.flops)
        with self.ledger.clock("evaluation"):
            scores = prepared.task.evaluate(
                trainer.model, prepared.corpus, "test", device=prepared.device, dtype=prepared.dtype
            )
        return self._row(metrics_of(prepared.task, prepared.corpus, scores))

    def _round(self, index: int, end: int) -> None:
        trainer, mixture = self.trainer, self.trajectory[-1][1]
        begun = trainer.done
        with self.ledger.clock("training"):
            trainer.begin_round(index, observe=end < self.prepared.recipe.steps)
            while trainer.done < end:
                trainer.step(mixture)
                self.progress(trainer.done, self.prepared.recipe.steps)
            sync(trainer.device)
        self.final_loss = trainer.mean_loss(end - begun)

    def _update(self, index: int) -> None:
        """Show the round to the mixer and take its next mixture."""
        trainer, problem = self.trainer, self.prepared.problem
        with self.ledger.clock("mixing"):
            seen = observe(problem, trainer, index, mixture_id=len(self.trajectory) - 1)
            answer = self.prepared.mixer.update(seen, self.lab)
        if answer is not None:
            self.trajectory.append((trainer.done, answer.checked(problem.domains)))

    def _save(self) -> None:
        plain = {
            "data": self._data_digest(),
            "round": self.round,
            "mixer": self.prepared.mixer.state_dict(),
            "ledger": self.ledger.state(),
            "trajectory": [
                [step, mixture.weights.tolist(), _listed(mixture.loss_weights)] for step, mixture in self.trajectory
            ],
        }
        state = {"trainer": self.trainer.state(), "plain": json.dumps(plain)}
        with contextlib.suppress(OSError):  # a full disk costs the checkpoint, not the trial
            self.folder.save_checkpoint(self.prepared.spec.id, state)

    def _resume(self) -> None:
        """Go on from the checkpoint, if there is one."""
        saved = self.folder.load_checkpoint(self.prepared.spec.id)
        if saved is None:
            return
        plain = json.loads(saved["plain"])
        if plain["data"] != self._data_digest():
            return  # made from other data under the same path: start over
        problem = self.prepared.problem
        self.trainer.load_state(saved["trainer"])
        self.ledger.load_state(plain["ledger"])
        self.trajectory = [
            (step, _restored(problem.domains, weights, loss_weights))
            for step, weights, loss_weights in plain["trajectory"]
        ]
        self.prepared.mixer.load_state_dict(plain["mixer"])
        self.round = plain["round"]

    def _data_digest(self) -> str:
        """What the run so far depends on besides its spec: the corpus and its cut."""
        labels = self.prepared.partition.train.tobytes() + self.prepared.partition.validation.tobytes()
        return hashlib.sha256(self.prepared.corpus.fingerprint.encode() + labels).hexdigest()

    def _row(self, metrics: dict[str, Any]) -> dict[str, Any]:
        prepared, trainer, ledger = self.prepared, self.trainer, self.ledger
        problem, corpus = prepared.problem, prepared.corpus
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
            "mixer_report": prepared.mixer.report(),
            "metrics": metrics,
            "mixture": mixture_of(self.trajectory, trainer.sampler),
            "training": {
                "parameters": parameter_count(trainer.model),
                "examples": int(trainer.sampler.drawn.sum()),
                "units": round(self._units()),
                "unit": prepared.task.unit,
                "final_train_loss": self.final_loss,
            },
            "overhead": {
                "training_flops": ledger.flops["training"],
                "mixing_flops": ledger.flops["mixing"],
                "regrouping_flops": ledger.flops["regrouping"] + ledger.flops["embedding"],
                "counted_share": ledger.share("mixing"),
                "regrouping_share": ledger.share("regrouping") + ledger.share("embedding"),
                "paper_share": self._paper_share(),
                "purchases": ledger.purchases,
            },
        }
        row["measured"] |= {
            "train_seconds": ledger.seconds["training"],
            "mixer_seconds": ledger.seconds["mixing"],
            "regroup_seconds": ledger.seconds["regrouping"],
            "embedding_seconds": ledger.seconds["embedding"],
            "eval_seconds": ledger.seconds["evaluation"],
        }
        return row

    def _paper_share(self) -> float | None:
        """The mixer's own paper's count of its overhead, where it has one."""
        tracked = 0
        model = self.trainer.model
        for signal in self.needs.signals:
            if isinstance(signal, DomainGradients):
                layers = last_layers(self.prepared.task.tracked(model), signal.layers)
                tracked = sum(layer.weight.numel() for layer in layers)
        return self.prepared.mixer.published_overhead(
            self.prepared.problem, train_units=self._units(), tracked_fraction=tracked / parameter_count(model)
        )

    def _units(self) -> float:
        """Units that the main run trains on, at the corpus's mean units an example."""
        recipe = self.prepared.recipe
        return float(recipe.steps * recipe.batch_size * self.prepared.corpus.units["train"].mean())


def _restored(domains: tuple[str, ...], weights: list[float], loss_weights: list[float] | None) -> Mixture:
    """A mixture exactly as it was: checking it anew would normalise it again, which moves the last bit."""
    return Mixture(
        domains=domains,
        weights=read_only(np.array(weights)),
        loss_weights=None if loss_weights is None else read_only(np.array(loss_weights)),
    )


def _listed(array: Any) -> list[float] | None:
    return None if array is None else array.tolist()
