"""The counter of a trial on a table: it sells replayed runs of static mixtures and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from harness.lab import RUNS
from harness.ledger import Ledger
from harness.seeds import run_seed
from mixers.base import (
    Against,
    Array,
    Checkpoint,
    ExampleVectors,
    GradientEstimate,
    Influence,
    InfluenceEstimate,
    Mixer,
    MixerError,
    Mixture,
    Needs,
    Problem,
    Purchases,
    Run,
    RunResult,
    Scaling,
)
from mixers.ensembler import Ensembler
from tasks.base import Outcomes, TaskError


def refuse(what: str) -> NoReturn:
    """Raise the one refusal that a table has."""
    raise MixerError(f"a table replays runs of static mixtures; {what} needs training: use a task that trains")


def refuse_online(mixer: Mixer, needs: Needs, bought: Purchases) -> None:
    """Refuse a mixer that declares anything of a live model: its first mixture alone would not be that mixer."""
    if isinstance(mixer, Ensembler):
        refuse(f"{mixer.name}'s combination of models")
    if needs.signals:
        refuse(f"{mixer.name}'s signal {type(needs.signals[0]).__name__}")
    for field, what in (
        ("validation_losses", "validation losses of the main run"),
        ("domain_gradients", "domain gradients"),
        ("probe_steps", "probe steps"),
        ("embedding_examples", "embeddings"),
        ("influence", "influence of examples"),
    ):
        if getattr(bought, field):
            refuse(f"{mixer.name}'s purchase of {what}")


class TableLab:
    """The :class:`mixers.base.Lab` of a trial on a table; refuses more than the mixer declared.

    An order's size picks the table's nearest one. A table has runs of one length a size, and bills them whole: orders
    of one size must have as many steps, and how many does not matter. replayed: by size, how many runs were sold, and
    how many of them from outside the support.
    """

    def __init__(self, outcomes: Outcomes, problem: Problem, ledger: Ledger, declared: Purchases, seed: int) -> None:
        self._outcomes, self._problem, self._ledger, self._seed = outcomes, problem, ledger, seed
        self._steps: dict[int, int] = {}
        self._allowed = sum(self.price(run) for run in declared.runs)
        self.replayed: dict[str, dict[str, int]] = {}

    def train(self, runs: Sequence[Run]) -> list[RunResult]:
        """What the table says of these runs, in the order given; equal ones end alike and are billed each time."""
        spent = self._ledger.purchases.get(RUNS, {}).get("flops", 0.0)
        wanted = sum(self.price(run) for run in runs)
        if spent + wanted > self._allowed * (1 + 1e-9):
            raise MixerError(
                f"runs of {spent + wanted:.3g} FLOPs, {self._allowed:.3g} were declared; add them to purchases().runs"
            )
        return [self._replay(run) for run in runs]

    def price(self, run: Run) -> float:
        """FLOPs of an order; :class:`MixerError` where no table can answer it."""
        return self._outcomes.cost(self._size(run))

    def _size(self, run: Run) -> int:
        """Index of the order's size, once it is clear that the table can answer it."""
        for there, what in (
            (run.mixer is not None, "a run under a mixer"),
            (run.start is not None, "a run from a kept model"),
            (run.keep or bool(run.keep_at), "keeping a run's model"),
            (run.subsample != 1.0, f"a run on a subsample ({run.subsample:g}) of the data"),
            (any(step != run.steps for step in run.evaluate_at), "a loss before a run's end (evaluate_at)"),
        ):
            if there:
                refuse(what)
        if run.mixture is None or run.steps < 1:
            raise MixerError("a run has a mixture and at least one step; order it so")
        if run.mixture.loss_weights is not None:
            refuse("a run with loss weights")
        if not run.size > 0:
            raise MixerError(f"a run's size must be above 0, not {run.size}")
        try:
            size = self._outcomes.size_of(run.size)
        except TaskError as error:
            raise MixerError(str(error)) from None
        if self._steps.setdefault(size, run.steps) != run.steps:
            refuse(f"comparing runs of {self._steps[size]} and of {run.steps} steps at one size")
        return size

    def _replay(self, run: Run) -> RunResult:
        size = self._size(run)
        assert run.mixture is not None
        weights = run.mixture.checked(self._problem.domains).weights
        losses = self._outcomes.run(size, weights, run_seed(self._seed, run.seed, shared=run.shared))
        losses.setflags(write=False)
        cost = self._outcomes.cost(size)
        self._ledger.charge("mixing", flops=cost, what=RUNS)
        line = self.replayed.setdefault(self._outcomes.sizes[size].name, {"runs": 0, "outside_support": 0})
        line["runs"] += 1
        line["outside_support"] += self._outcomes.support(size, weights).outside
        return RunResult(steps=(run.steps,), losses=losses[None], flops=cost)

    def validation_losses(self, examples: int = 0) -> Array:
        """Refused: there is no live model."""
        refuse("validation losses of the main run")

    def domain_gradients(
        self, examples: int, *, parts: int = 1, scaling: Scaling = "none", against: Against = "each"
    ) -> GradientEstimate:
        """Refused: there is no live model."""
        refuse("a domain gradient")

    def probe(self, mixture: Mixture, steps: int) -> None:
        """Refused: there is no live model."""
        refuse("a probe")

    def embeddings(self, examples: int, embedder: str = "auto") -> ExampleVectors:
        """Refused: a table has no examples."""
        refuse("an embedding of examples")

    def influence(
        self, checkpoint: Checkpoint, how: Influence, targets: Sequence[int] | None = None
    ) -> InfluenceEstimate:
        """Refused: there is no model."""
        refuse("influence of examples")
