"""The contract between a mixing algorithm and the referee.

A mixer reads a :class:`Problem` before training and an :class:`Observation` after every round, and answers with a
:class:`Mixture`. What it wants to observe it declares in :class:`Needs`; everything else it buys from the
:class:`Lab`, which writes a bill. Arrays are float64 on the host, aligned with ``Problem.domains`` unless a
docstring says ``targets``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from mixers.lab import (
    Against,
    Checkpoint,
    ExampleVectors,
    GradientEstimate,
    Influence,
    InfluenceEstimate,
    InfluenceMethod,
    Lab,
    Layers,
    Purchases,
    Run,
    RunResult,
    Scaling,
)
from mixers.problem import (
    SIMPLEX_TOLERANCE,
    Array,
    BoolArray,
    IntArray,
    MixerError,
    Mixture,
    MixtureError,
    Problem,
    UndeclaredSignalError,
)
from mixers.search import Choices, Dimension, Span, space
from mixers.signals import (
    BatchLosses,
    DomainGradients,
    GradientView,
    Needs,
    Observation,
    Signal,
    StepLosses,
    TrainLosses,
)

__all__ = [
    "ADDED",
    "SIMPLEX_TOLERANCE",
    "Against",
    "Array",
    "BatchLosses",
    "BoolArray",
    "Checkpoint",
    "Choices",
    "Dimension",
    "DomainGradients",
    "ExampleVectors",
    "GradientEstimate",
    "GradientView",
    "Influence",
    "InfluenceEstimate",
    "InfluenceMethod",
    "IntArray",
    "Lab",
    "Layers",
    "Mixer",
    "MixerError",
    "Mixture",
    "MixtureError",
    "Needs",
    "NoConfig",
    "Observation",
    "Problem",
    "Purchases",
    "Run",
    "RunResult",
    "Scaling",
    "Signal",
    "Span",
    "StepLosses",
    "TrainLosses",
    "UndeclaredSignalError",
    "space",
]

# Metadata of a config field that came after rows were published: at its default it is no part of a trial's identity,
# so that older rows, which lack it, stay the same trial.
ADDED = {"added": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class NoConfig:
    """A plugin without hyperparameters."""


class Mixer(ABC):
    """A data-mixing algorithm. Subclasses set ``name``, may set ``Config`` (a frozen dataclass), implement ``start``.

    search_space: fields of ``Config`` that ``harness tune`` may set, with their ranges; those that decide over the
    price stay out, so that tries of one mixer cost the same.

    reference: the mixer is a yardstick and no method; tables say so and leave it out of their tests.

    A mixer that remembers anything between rounds returns it from ``state_dict`` as JSON-able data.
    """

    name: ClassVar[str]
    Config: ClassVar[type] = NoConfig
    search_space: ClassVar[Mapping[str, Dimension]] = space()
    reference: ClassVar[bool] = False

    def __init__(self, config: Any = None) -> None:
        self.config = self.Config() if config is None else config

    def needs(self) -> Needs:
        """Rounds and signals, from the mixer's own config."""
        return Needs()

    def purchases(self, problem: Problem) -> Purchases:
        """Upper bound of what the mixer will buy on this problem; the default buys nothing."""
        return Purchases()

    @abstractmethod
    def start(self, problem: Problem, lab: Lab) -> Mixture:
        """The mixture of the first round."""

    def update(self, seen: Observation, lab: Lab) -> Mixture | None:
        """The mixture of the next round; ``None`` keeps the present one. Not called after the last round."""
        return None

    def reweigh(self, batch: BatchLosses) -> Array | None:
        """[m] weights that multiply the losses of this very batch, or ``None``: those of the mixture.

        Called at every step between forward and backward, where ``needs()`` declares :class:`StepLosses`.
        """
        return None

    def state_dict(self) -> dict[str, Any]:
        """What ``update`` will need later, as JSON-able data."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned; called after ``start`` in a resumed trial."""
        if state:
            raise MixerError(f"mixer {self.name} has state but does not implement load_state_dict")

    def report(self) -> dict[str, Any]:
        """Remarks for the trial's row as JSON-able data, such as domains that had no gradient in a round."""
        return {}

    def published_overhead(self, problem: Problem, *, train_units: float, tracked_fraction: float) -> float | None:
        """The overhead by the method's own paper's formula, as a share of the training FLOPs; ``None``: it has none.

        train_units: tokens or pairs of the main run. tracked_fraction: share of the model's parameters in the layers
        whose domain gradients were declared. See :mod:`mixers.paper_costs`.
        """
        return None
