"""Cutting a corpus: runs a regrouper, bills it, and keeps the result, which all mixers of a seed share."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness import PROTOCOL
from harness.labelled import LabelledLab
from harness.ledger import Ledger
from harness.prepared import Prepared
from harness.seeds import derive_seed
from harness.spec import PluginSpec, named
from harness.store import write_atomically
from mixers.base import Lab, MixerError, Problem
from mixers.regroup.base import Grouping, Partition, Regrouper
from tasks.base import Corpus, TaskError, TrainableTask

FORMAT = 2  # raised when the stored form or the meaning of a regrouper's config changes


class PaidRegroupLab:
    """The :class:`mixers.regroup.base.RegroupLab` of one regrouping; everything goes on the bill.

    prepared: makes the training run on the original labels, for a regrouper that ``trains``.
    """

    def __init__(
        self, task: TrainableTask, corpus: Corpus, ledger: Ledger, prepared: Callable[[], Prepared] | None = None
    ) -> None:
        self._task, self._corpus, self._ledger, self._prepared = task, corpus, ledger, prepared
        self._embedders: dict[str, None] = {}
        self.seconds_inside = 0.0

    @property
    def embedder(self) -> str | None:
        """The full name of the embedder that was used; of several, in the order of their first use."""
        return " + ".join(self._embedders) or None

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of embedders, one for each modality of the task's examples."""
        return self._task.modalities()

    def embeddings(self, split: str, embedder: str) -> npt.NDArray[np.float32]:
        """Vectors of a split, billed with the FLOPs and the seconds of making them, also when a cache answers."""
        begin = time.perf_counter()
        made = self._task.embed(self._corpus, split, embedder)
        self._ledger.charge("embedding", flops=made.flops, seconds=made.seconds, what=f"embeddings of {split}")
        self._embedders[made.embedder] = None
        self.seconds_inside += time.perf_counter() - begin
        return made.vectors

    def qualities(self, split: str, scorer: str) -> npt.NDArray[np.float64]:
        """Scores of a split's examples by a scorer of the task, billed as embeddings are.

        Raises :class:`TaskError` in one line where they are not one finite number an example.
        """
        begin = time.perf_counter()
        made = self._task.qualities(self._corpus, split, scorer)
        self._ledger.charge("regrouping", flops=made.flops, seconds=made.seconds, what=f"qualities of {split}")
        self.seconds_inside += time.perf_counter() - begin
        return _one_an_example(made.values, len(self._corpus.labels[split]), f"scorer {scorer!r} of {split} examples")

    def labelled(self) -> tuple[Problem, Lab]:
        """The problem under the original labels and a lab for it; :class:`MixerError` unless the regrouper trains."""
        if self._prepared is None:
            raise MixerError("a regrouper that buys runs must say so: set its class's trains = True")
        prepared = self._prepared()
        return prepared.problem, LabelledLab(prepared, self._ledger)

    def charge(self, flops: float, what: str) -> None:
        """FLOPs of the regrouper's own computations."""
        self._ledger.charge("regrouping", flops=flops, what=what)


def partition_of(
    regrouper: Regrouper,
    spec: PluginSpec,
    *,
    task: TrainableTask,
    task_spec: PluginSpec,
    corpus: Corpus,
    seed: int,
    cache: Path,
    ledger: Ledger,
    prepared: Callable[[Partition], Prepared] | None = None,
) -> Partition:
    """The partition for a trial's seed, from the cache where an equal one was made; billed in full either way.

    prepared: makes a training run on a partition, for a regrouper that ``trains``.
    """
    grouping = Grouping(
        domains=corpus.domains,
        train=corpus.labels["train"],
        validation=corpus.labels["validation"],
        seed=derive_seed(seed, "partition"),
    )
    identity = [FORMAT, corpus.fingerprint, named(task_spec), _settings(task), spec.identity(), grouping.seed]
    labelled: Callable[[], Prepared] | None = None
    if regrouper.trains and prepared is not None:
        original = prepared(Partition(domains=corpus.domains, train=grouping.train, validation=grouping.validation))
        identity += _training(original)
        labelled = lambda: original  # noqa: E731
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:20]
    path = cache / "partitions" / f"{spec.name}-{key}.npz"
    stored = _read(path)
    if stored is None:
        bill = Ledger()
        lab = PaidRegroupLab(task, corpus, bill, labelled)
        begin = time.perf_counter()
        made = regrouper.regroup(grouping, lab).checked(grouping)
        bill.charge("regrouping", seconds=max(0.0, time.perf_counter() - begin - lab.seconds_inside))
        report = {**made.report, **({"embedder": lab.embedder} if lab.embedder else {})}
        stored = {
            # through JSON at once, so that a fresh partition and a cached one read alike
            **json.loads(
                json.dumps({"domains": made.domains, "targets": made.targets, "report": report, "bill": bill.state()})
            ),
            "train": made.train,
            "validation": made.validation,
        }
        _write(path, stored)
    bill = Ledger()
    bill.load_state(stored["bill"])
    for account in ("embedding", "regrouping"):
        ledger.charge(account, flops=bill.flops[account], seconds=bill.seconds[account])
    ledger.purchases.update(bill.purchases)
    return Partition(
        domains=tuple(stored["domains"]),
        targets=tuple(stored["targets"]),
        train=stored["train"],
        validation=stored["validation"],
        report=stored["report"],
    ).checked(grouping)


def _one_an_example(values: npt.ArrayLike, count: int, whose: str) -> npt.NDArray[np.float64]:
    try:
        scores = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise TaskError(f"{whose}: gave something else than numbers; return one float an example") from None
    if scores.shape != (count,):
        raise TaskError(f"{whose}: gave values of shape {scores.shape}, not one for each of {count} examples")
    broken = int((~np.isfinite(scores)).sum())
    if broken:
        raise TaskError(f"{whose}: {broken} of {count} values are NaN or infinite; give every example a finite one")
    return scores


def _settings(task: TrainableTask) -> str:
    return repr(task.config)


def _training(prepared: Prepared) -> list[Any]:
    """What the runs of a regrouper that trains depend on besides the data."""
    recipe = {key: value for key, value in dataclasses.asdict(prepared.recipe).items() if key != "time_limit"}
    return [PROTOCOL, recipe, str(prepared.device), str(prepared.dtype), prepared.spec.compile, prepared.spec.threads]


def _write(path: Path, stored: dict[str, Any]) -> None:
    meta = json.dumps({key: stored[key] for key in ("domains", "targets", "report", "bill")})

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez(file, train=stored["train"], validation=stored["validation"], meta=np.array(meta))

    write_atomically(path, write)


def _read(path: Path) -> dict[str, Any] | None:
    """The stored partition; ``None`` where there is none or where the file is damaged (it is then made again)."""
    try:
        with np.load(path, allow_pickle=False) as data:
            meta = json.loads(str(data["meta"]))
            return {**meta, "train": data["train"], "validation": data["validation"]}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
