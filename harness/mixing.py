"""A training run under a mixer, from its first mixture to its last step. Main runs and proxy runs are the same loop."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from harness.flops import sync
from harness.kept import file_at
from harness.lab import PaidLab
from harness.prepared import Prepared, pass_flops, read_only
from harness.store import load_checkpoint, save_checkpoint
from harness.trainer import Trainer
from harness.validation import subset, validation_losses
from mixers.base import Mixture, Needs, Observation, Problem, StepLosses

Progress = Callable[[int, int], None]


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


class MixedTraining:
    """One run under ``prepared.mixer``, resumable at every round boundary.

    place: file of its checkpoint. evaluate_at: steps after which the validation losses of ``validation_examples`` a
    target are taken (the referee's; they are charged as evaluation), into ``evaluations``. keep_at: steps after which
    the model is kept, in a file beside ``place``.
    """

    def __init__(
        self,
        prepared: Prepared,
        place: Path,
        progress: Progress,
        checkpoint_seconds: float,
        *,
        evaluate_at: tuple[int, ...] = (),
        validation_examples: int = 0,
        keep_at: tuple[int, ...] = (),
    ) -> None:
        self.prepared, self.place, self.progress = prepared, place, progress
        self.checkpoint_seconds = checkpoint_seconds
        self.ledger = prepared.ledger
        self.needs: Needs = prepared.mixer.needs()
        self.trainer: Trainer = prepared.trainer(self.needs.signals)
        self.flops = pass_flops(prepared, self.trainer.model)
        bought = prepared.mixer.purchases(prepared.problem)
        self.lab = PaidLab(prepared, self.trainer, self.ledger, self.flops, bought)
        self.lab.after_step = self._halt
        self.trajectory: list[tuple[int, Mixture]] = []
        self.round = 0
        self.final_loss = math.nan
        self.evaluate_at, self.validation_examples = frozenset(evaluate_at), validation_examples
        self.keep_at = frozenset(keep_at)
        self.evaluations: dict[int, list[float]] = {}

    def run(self) -> None:
        """Train to the end."""
        prepared, trainer = self.prepared, self.trainer
        self._halt()
        with self.ledger.clock("mixing"):
            first = prepared.mixer.start(prepared.problem, self.lab).checked(prepared.problem.domains)
        json.dumps(prepared.mixer.state_dict(), allow_nan=False)  # a state that cannot be saved fails at once
        self.trajectory = [(trainer.done, first)]
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
        steps = prepared.recipe.steps
        self.ledger.charge("training", flops=self.flops.training * steps)
        if trainer.tracker is not None:
            self.ledger.charge("mixing", flops=trainer.tracker.flops)
        if any(isinstance(signal, StepLosses) and signal.reference for signal in self.needs.signals):
            self.ledger.charge("mixing", flops=self.flops.forward * steps)

    def _round(self, index: int, end: int) -> None:
        trainer, mixture = self.trainer, self.trajectory[-1][1]
        begun = trainer.done
        with self.ledger.clock("training"):
            trainer.begin_round(index, observe=end < self.prepared.recipe.steps)
            while trainer.done < end:
                trainer.step(mixture)
                self.progress(trainer.done, self.prepared.recipe.steps)
                self._halt()
            sync(trainer.device)
        if end > begun:  # else probes took the whole round
            self.final_loss = trainer.mean_loss(end - begun)

    def _halt(self) -> None:
        """What was ordered for the present step: losses, and a copy of the model."""
        done = self.trainer.done
        if done in self.evaluate_at:
            chosen = subset(self.prepared, self.validation_examples)
            self.evaluations[done] = validation_losses(self.prepared, self.trainer.model, chosen).tolist()
        if done in self.keep_at:
            save_checkpoint(self.place.with_name(file_at(done)), self.trainer.model.state_dict())

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
            "lab": self.lab.state(),
            "evaluations": [[step, losses] for step, losses in self.evaluations.items()],
            "trajectory": [
                [step, mixture.weights.tolist(), _listed(mixture.loss_weights)] for step, mixture in self.trajectory
            ],
        }
        state = {"trainer": self.trainer.state(), "plain": json.dumps(plain)}
        with contextlib.suppress(OSError):  # a full disk costs the checkpoint, not the run
            save_checkpoint(self.place, state)

    def _resume(self) -> None:
        """Go on from the checkpoint, if there is one; what ``start`` did to the model and the bill is taken back."""
        saved = load_checkpoint(self.place)
        if saved is None:
            return
        plain = json.loads(saved["plain"])
        if plain["data"] != self._data_digest():
            return  # made from other data under the same path: start over
        problem = self.prepared.problem
        self.trainer.load_state(saved["trainer"])
        self.ledger.load_state(plain["ledger"])
        self.lab.load_state(plain["lab"])
        self.evaluations = dict(plain["evaluations"])
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

    @property
    def units(self) -> float:
        """Units that the run trains on, at the corpus's mean units an example."""
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
