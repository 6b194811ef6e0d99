"""What mixers share that read curves of loss against cost: how long their runs are, and where the curves are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mixers import proxies
from mixers.base import Array, MixerError, Problem, Run
from mixers.curves import LEAST_POINTS
from mixers.proxies import Fidelity


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveConfig:
    """Fields of every mixer that reads curves.

    budgets: runs on a mixture, their steps geometric from ``smallest`` to ``largest``, as shares of the main run's.
    budget: where the curves are read, as a share of the main run's examples. proxy_size, match_repetition,
    validation_examples: see :class:`mixers.proxies.Fidelity`. target, max_epochs: see
    :class:`mixers.offline_config.OfflineConfig`. draws: of the bootstrap.
    """

    budgets: int = 4
    smallest: float = 0.05
    largest: float = 0.4
    budget: float = 1.0
    proxy_size: float = 1.0
    match_repetition: bool = False
    validation_examples: int = 0
    target: str | None = None
    max_epochs: float | None = None
    draws: int = 200

    mixer: ClassVar[str] = "curves"  # begins every message

    def __post_init__(self) -> None:
        Fidelity(size=self.proxy_size, validation_examples=self.validation_examples).checked(self.mixer)
        for valid, rule in (
            (
                self.budgets >= LEAST_POINTS,
                f"budgets must be at least {LEAST_POINTS}, one more than a curve's numbers, not {self.budgets}",
            ),
            (
                0.0 < self.smallest < self.largest <= 1.0,
                f"smallest and largest must be 0 < smallest < largest <= 1, not {self.smallest} and {self.largest}",
            ),
            (0.0 < self.budget < np.inf, f"budget must be positive and finite, not {self.budget}"),
            (
                self.max_epochs is None or 0.0 < self.max_epochs < np.inf,
                f"max_epochs must be positive and finite, or none, not {self.max_epochs}",
            ),
            (self.draws >= 1, f"draws must be at least 1, not {self.draws}"),
        ):
            if not valid:
                raise MixerError(f"{self.mixer}: {rule}")

    def order(self, problem: Problem, mixture: Array, steps: int) -> Run:
        """A run of so many steps on a mixture [m]."""
        how = Fidelity(
            share=steps / problem.steps,
            size=self.proxy_size,
            match_repetition=self.match_repetition,
            validation_examples=self.validation_examples,
        )
        return how.order(problem, mixture)

    def orders(self, problem: Problem, mixture: Array) -> list[Run]:
        """The runs on a mixture [m], from the shortest to the longest."""
        steps = proxies.ladder(problem, self.smallest, self.largest, self.budgets)
        return [self.order(problem, mixture, each) for each in steps]

    def goal(self, problem: Problem) -> float:
        """The cost at which the curves are read, in examples."""
        return float(self.budget * problem.steps * problem.batch_size)
