"""AutoMixer's cut: a training example belongs to the target that it serves most."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from mixers import checkpoints
from mixers.base import ADDED, Array, BoolArray, IntArray, Lab, MixerError, Problem
from mixers.lab import Influence, InfluenceMethod, Layers
from mixers.proxies import Fidelity
from mixers.regroup import clustering
from mixers.regroup.base import Grouping, Partition, Regrouper, RegroupLab
from mixers.regroup.report import describe


class AutoMixer(Regrouper):
    """Cut the training data by the target whose loss an example lowers most, as influence at checkpoints tells.

    Source: *AutoMixer: Checkpoint Artifacts as Automatic Data Mixers* (arXiv 2506.21910, ACL 2025), known here from its
    abstract and from notes on its method; no code is public. One simulated run on the training shares of the original
    domains keeps ``checkpoints`` models; each target, an original domain with validation examples, takes the one with
    its least validation loss; every training example is scored against every target there (:mod:`mixers.checkpoints`)
    and joins the group of the target with its largest influence.

    Choices, where the notes are silent unless they say otherwise:

    - Influences on a target are divided by their root mean square over the training examples: otherwise the target
      with the largest gradient would take nearly all. An example that helps no target joins the one it harms least.
    - A tie goes to the example's own domain where that is among the best, else to the target that comes first. So does
      an example without a finite influence. Notes: the rule for ties is unknown.
    - Validation examples stay with their target, so groups and targets mean the same, and target shares are the
      original ones. The alternative, to send them by their own influence, would move what is judged. A target that no
      training example serves most has no domain; it is then a target alone.
    - The paper scores with DataInf; the default here is ``grad_dot``, a third of its price where all examples are
      scored, and nearly equal to it by a comparison (arXiv 2412.03906, from notes).
    - Targets are the original domains; the paper's are tasks with data of their own. The cut can be no finer than they.

    It costs the simulated run and a forward and a backward pass over all training examples for each checkpoint that is
    best at some target, all on the account of regrouping. Each of ``stability_seeds`` trains another run and costs all
    that again: so there is none by default, and the report's ``stability`` is null; ``automixer[stability_seeds=1]``
    measures it. Deterministic; the run's seed is the trial's.
    """

    name = "automixer"
    trains = True

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """checkpoints: the paper's 10. proxy_share, proxy_size: the simulated run's steps and parameters as shares of
        the main run's. match_repetition: of that run, see :class:`mixers.proxies.Fidelity`; all examples are scored
        either way. validation_examples: of each target, to choose checkpoints by; target_examples: to score against; 0:
        all. layers, method, damping: see :class:`mixers.lab.Influence`. stability_seeds: further simulated runs, from
        other weights, whose cuts are compared with this one for the report.
        """

        checkpoints: int = 10
        proxy_share: float = 0.5
        proxy_size: float = 1.0
        validation_examples: int = 64
        target_examples: int = 32
        layers: Layers = "ends"
        method: InfluenceMethod = "grad_dot"
        damping: float = 0.1
        stability_seeds: int = 0
        match_repetition: bool = field(default=False, metadata=ADDED)

        def __post_init__(self) -> None:
            self.fidelity.checked("automixer")
            if self.checkpoints < 1 or self.stability_seeds < 0:
                raise MixerError("automixer: checkpoints must be at least 1 and stability_seeds at least 0")
            _ = self.influence  # checks its own fields

        @property
        def fidelity(self) -> Fidelity:
            """What the simulated run is."""
            return Fidelity(
                share=self.proxy_share,
                size=self.proxy_size,
                match_repetition=self.match_repetition,
                validation_examples=self.validation_examples,
            )

        @property
        def influence(self) -> Influence:
            """How examples are scored: all of them."""
            return Influence(
                examples=0,
                target_examples=self.target_examples,
                layers=self.layers,
                method=self.method,
                damping=self.damping,
            )

    def regroup(self, grouping: Grouping, lab: RegroupLab) -> Partition:
        """The groups, each named for its target: ``for-<target>``."""
        problem, labelled = lab.labelled()
        points, scores, used = self._points(problem, labelled, len(grouping.train), seed=0)
        best = _strongest(points, used, grouping.train)
        orphans = np.setdiff1d(grouping.validation, np.flatnonzero(used))
        if orphans.size:
            raise MixerError(f"automixer: the simulated run has no finite loss of {problem.targets[orphans[0]]}")
        again = [
            _strongest(self._points(problem, labelled, len(grouping.train), seed=1 + i)[0], used, grouping.train)
            for i in range(self.config.stability_seeds)
        ]
        there = np.unique(best)
        names = np.array([f"for-{name}" for name in problem.targets])
        train = np.searchsorted(there, best).astype(np.int64)
        same = np.array_equal(there, np.flatnonzero(used))
        unit = clustering.unit(points[:, used])
        return Partition(
            domains=tuple(names[there].tolist()),
            targets=() if same else tuple(names[used].tolist()),
            train=train,
            validation=np.searchsorted(np.flatnonzero(used), grouping.validation).astype(np.int64),
            report={
                **describe(unit, train, again, grouping, lab),
                "checkpoints": {problem.targets[j]: int(scores.steps[j]) for j in np.flatnonzero(used)},
                "kept_by_own_target": round(float((best == grouping.train).mean()), 4),
                "harmful_to_all": round(float((points[:, used] <= 0.0).all(axis=1).mean()), 4),
            },
        )

    def _points(
        self, problem: Problem, labelled: Lab, size: int, *, seed: int
    ) -> tuple[Array, checkpoints.Scores, BoolArray]:
        """[size, n] standardised influences of the training examples, what they came from, and the targets used, [n].

        Zeros for an example without finite influence and for a target that is not used.
        """
        c = self.config
        run = replace(c.fidelity.order(problem, problem.train_shares), seed=seed)
        (result,) = labelled.train([checkpoints.watched(run, c.checkpoints)])
        used = np.asarray(np.isfinite(result.losses).any(axis=0), dtype=np.bool_)
        scores = checkpoints.score(result, labelled, c.influence, used, standardise=True)
        points = np.zeros((size, len(problem.targets)))
        points[scores.examples] = scores.influence
        return points, scores, used


def _strongest(points: Array, used: BoolArray, own: IntArray) -> IntArray:
    """[k] the used target with the largest influence; on a tie the example's ``own``, [k], if it is among them."""
    allowed = np.where(used, points, -np.inf)
    best = allowed.argmax(axis=1)
    rows = np.arange(len(points))
    return np.where(allowed[rows, own] == allowed[rows, best], own, best).astype(np.int64)
