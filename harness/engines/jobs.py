"""What the workers do next: trials, and the errands that trials wait for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.orders import OrderPolicy
from harness.spec import TrialSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A trial, or with ``policy.errand`` one of its runs."""

    spec: TrialSpec
    policy: OrderPolicy


class JobQueue:
    """Trials in order of their threads; errands go first, and a trial goes on when its last errand is done.

    A run that several trials wait for is made once. An errand that failed is not tried again: the trial makes the run
    itself and ends as it must. Trials delegate only while fewer trials wait than there are workers; with a longer
    queue all workers are busy anyway.
    """

    def __init__(self, specs: Sequence[TrialSpec], workers: int) -> None:
        self._trials = sorted(specs, key=lambda spec: spec.threads)
        self._errands: list[Job] = []
        self._workers = workers
        self._parked: dict[str, tuple[TrialSpec, set[str]]] = {}
        self._sent: set[str] = set()
        self._alone: set[str] = set()

    @property
    def threads(self) -> int | None:
        """Threads of the next job; ``None`` where nothing waits."""
        if self._errands:
            return self._errands[0].spec.threads
        return self._trials[0].threads if self._trials else None

    def next(self) -> Job:
        """The next job, which is no longer waiting."""
        if self._errands:
            return self._errands.pop(0)
        spec = self._trials.pop(0)
        free = len(self._trials) < self._workers - 1
        return Job(spec=spec, policy=OrderPolicy(delegate=free and spec.id not in self._alone))

    def put_back(self, job: Job) -> None:
        """Begin with this job again: its worker was lost before it took it."""
        if job.policy.errand:
            self._errands.insert(0, job)
        else:
            self._trials.insert(0, job.spec)

    def park(self, spec: TrialSpec, keys: Iterable[str]) -> None:
        """The trial waits for these runs; those that nobody was sent for become errands."""
        new = [key for key in keys if key not in self._sent]
        self._sent.update(new)
        self._errands += [Job(spec=spec, policy=OrderPolicy(errand=key)) for key in new]
        awaited = set(new) | {key for key in keys if self._under_way(key)}
        if awaited:
            self._parked[spec.id] = (spec, awaited)
        else:  # all were sent for before, and are still missing: they failed
            self._alone.add(spec.id)
            self._trials.insert(0, spec)

    def _under_way(self, key: str) -> bool:
        return any(key in awaited for _, awaited in self._parked.values())

    def errand_ended(self, job: Job) -> None:
        """Well or not: whoever waited for this run alone goes on."""
        for name, (spec, awaited) in list(self._parked.items()):
            awaited.discard(job.policy.errand)
            if not awaited:
                del self._parked[name]
                self._trials.insert(0, spec)
