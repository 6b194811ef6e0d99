"""An order as a training run of its own, and the key under which its result is kept."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from harness import PROTOCOL
from harness.experiment import plain
from harness.kept import folder_of, is_made, weights_of
from harness.ledger import Ledger
from harness.orders import INLINE
from harness.prepared import Prepared, problem_of
from harness.seeds import derive_seed, run_seed
from harness.spec import named
from mixers.base import Lab, Mixer, MixerError, Mixture, Problem, Run
from mixers.regroup.base import Partition

FORMAT = 1  # raised when the stored form or the meaning of an order changes


class Fixed(Mixer):
    """Draws from one mixture to the end."""

    name = "fixed mixture"

    def __init__(self, mixture: Mixture) -> None:
        super().__init__()
        self._mixture = mixture

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        """The mixture that it was made with."""
        return self._mixture


def child_of(prepared: Prepared, run: Run) -> Prepared:
    """The order as a training run of its own, on the trial's data."""
    if run.steps < 1 or any(not 0 <= step <= run.steps for step in run.evaluate_at):
        raise MixerError(f"a run of {run.steps} steps cannot be evaluated at {run.evaluate_at}")
    if any(not 0 <= step <= run.steps for step in run.keep_at):
        raise MixerError(f"a run of {run.steps} steps has no model to keep at {run.keep_at}; keep within its steps")
    partition = prepared.partition if run.subsample == 1.0 else _thinned(prepared, run.subsample)
    recipe = replace(prepared.recipe, steps=run.steps)
    seed = run_seed(prepared.seed, run.seed, shared=run.shared)
    return replace(
        prepared,
        task=prepared.main_task.scaled(run.size),
        partition=partition,
        problem=problem_of(prepared.corpus, partition, recipe, derive_seed(seed, "mixer")),
        mixer=_mixer(run),
        recipe=recipe,
        ledger=Ledger(),
        seed=seed,
        orders=INLINE,
        start=None if run.start is None else weights_of(prepared.cache, run.start),
    )


def _mixer(run: Run) -> Mixer:
    """What drives the run. A mixer remembers, so the run gets one of its own that has seen nothing."""
    if run.mixture is not None and run.mixer is None:
        return Fixed(run.mixture)
    if run.mixer is not None and run.mixture is None:
        return type(run.mixer)(run.mixer.config)
    raise MixerError("a run has either a mixture or a mixer that drives it")


def _thinned(prepared: Prepared, share: float) -> Partition:
    """The first examples of every domain in a fixed random order, at least one; the others get the label -1.

    Examples and not documents, unlike arXiv 2606.07597: tasks do not say which examples are windows of one document.
    """
    if not 0.0 < share <= 1.0:
        raise MixerError(f"a run's subsample must be in (0, 1], not {share}")
    labels = prepared.partition.train
    order = np.random.default_rng(derive_seed(0, "subsample")).permutation(len(labels))
    thinned = np.full_like(labels, -1)
    for domain in range(prepared.problem.m):
        members = order[labels[order] == domain]
        chosen = members[: max(1, round(share * len(members)))]
        thinned[chosen] = domain
    thinned.setflags(write=False)
    return replace(prepared.partition, train=thinned)


def key_of(child: Prepared, run: Run) -> str:
    """Hash of all that the run's result depends on; whether it is shared stands in the child's seed."""
    recipe = {key: value for key, value in dataclasses.asdict(child.recipe).items() if key != "time_limit"}
    identity = [
        FORMAT,
        PROTOCOL,
        child.corpus.fingerprint,
        named(child.spec.task),
        plain(child.task.config),
        hashlib.sha256(child.partition.train.tobytes() + child.partition.validation.tobytes()).hexdigest(),
        list(child.problem.domains),
        child.problem.target_shares.tolist(),
        recipe,
        child.seed,
        [str(child.device), str(child.dtype), child.spec.compile, child.spec.threads],
        [run.size, run.subsample, run.evaluate_at, run.validation_examples, run.keep],
        None if run.start is None else run.start.key,
        _driver(run),
        # At the end and only where there are any: older runs keep their keys.
        *([sorted({*run.keep_at})] if run.keep_at else []),
    ]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:24]


def _driver(run: Run) -> Any:
    """What draws: the mixture, or the mixer's class with its source and its config."""
    if run.mixture is not None:
        weights = run.mixture.loss_weights
        return [run.mixture.weights.tolist(), None if weights is None else weights.tolist()]
    cls = type(run.mixer)
    source = hashlib.sha256(Path(inspect.getfile(cls)).read_bytes()).hexdigest()
    return [cls.__module__, cls.__qualname__, source, plain(run.mixer.config)]  # type: ignore[union-attr]


def missing(prepared: Prepared, runs: Sequence[Run]) -> dict[str, Run]:
    """Key -> order, of the orders that no cache answers; equal ones stand once."""
    keys = {key_of(child_of(prepared, run), run): run for run in runs}
    return {key: run for key, run in keys.items() if not is_made(folder_of(prepared.cache, key), run)}
