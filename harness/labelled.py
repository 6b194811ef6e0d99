"""What a regrouper buys on the data as labelled, before they are cut: runs, and influence at the models they kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from harness.influence import measure
from harness.ledger import Ledger
from harness.prepared import Prepared
from mixers.base import (
    Against,
    Array,
    Checkpoint,
    ExampleVectors,
    GradientEstimate,
    Influence,
    InfluenceEstimate,
    MixerError,
    Mixture,
    Run,
    RunResult,
    Scaling,
)

# Names of their own on the bill: what a mixer bought is read off it.
RUNS, INFLUENCE = "runs for regrouping", "influence for regrouping"


class LabelledLab:
    """The :class:`mixers.base.Lab` of a regrouper; everything goes on ``ledger``'s account for regrouping.

    There is no bound to declare: a regrouper's bill takes nothing off the main run.
    """

    def __init__(self, prepared: Prepared, ledger: Ledger) -> None:
        self._prepared, self._ledger = prepared, ledger

    def train(self, runs: Sequence[Run]) -> list[RunResult]:
        """Runs on the data as labelled, from the cache where equal ones were made; billed in full either way."""
        all_made = self._prepared.make_runs(self._prepared, runs)
        for made in all_made:  # fresh ones are on the regrouper's own clock
            self._ledger.charge("regrouping", flops=made.result.flops, seconds=made.elsewhere, what=RUNS)
        return [made.result for made in all_made]

    def influence(
        self, checkpoint: Checkpoint, how: Influence, targets: Sequence[int] | None = None
    ) -> InfluenceEstimate:
        """Influence of training examples on the original targets."""
        made = measure(self._prepared, checkpoint, how, targets)
        self._ledger.charge("regrouping", flops=made.flops, what=INFLUENCE)
        return made.estimate

    def validation_losses(self, examples: int = 0) -> Array:
        """Refused: there is no live model."""
        _refuse("validation losses")

    def domain_gradients(
        self, examples: int, *, parts: int = 1, scaling: Scaling = "none", against: Against = "each"
    ) -> GradientEstimate:
        """Refused: there is no live model."""
        _refuse("domain gradients")

    def probe(self, mixture: Mixture, steps: int) -> None:
        """Refused: there is no live model."""
        _refuse("a probe")

    def embeddings(self, examples: int, embedder: str = "auto") -> ExampleVectors:
        """Refused: a regrouper buys whole splits."""
        raise MixerError("a regrouper has embeddings of its own: RegroupLab.embeddings(split, embedder)")


def _refuse(what: str) -> NoReturn:
    raise MixerError(f"a regrouper cuts before the main run, which {what} would need; order a run and its losses")
