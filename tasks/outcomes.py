"""What the referee reads of a table of published runs. Import it from :mod:`tasks.base`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A size of model that runs were made at. parameters, tokens (of one run): 0 where they are not known."""

    name: str
    parameters: float
    tokens: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Support:
    """How far a mixture is from the runs of a size.

    distance: total variation to the nearest run's mixture. limit: beyond it an answer is an extrapolation. outside:
    whether the distance is. run: the nearest run's name.
    """

    distance: float
    limit: float
    outside: bool
    run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The best mixture known, [m], and its losses, [n]. score: their mean under the target shares."""

    mixture: Vector
    losses: Vector
    score: float


class Outcomes(ABC):
    """The losses of any mixture at any size that runs were made at.

    domains, targets: m and n names, two lists. train_shares: [m]; target_shares: [n]. available: training data that
    there are, as a multiple of the judged run's. sizes: ascending. judged: index of the one that is judged at.
    fingerprint: hash of everything that an answer depends on.
    """

    domains: tuple[str, ...]
    targets: tuple[str, ...]
    train_shares: Vector
    target_shares: Vector
    available: float
    sizes: tuple[Size, ...]
    judged: int
    fingerprint: str

    @abstractmethod
    def losses(self, mixture: Vector) -> Vector:
        """[n] losses of [m] at the judged size, without noise; NaN for a target that is not known and has no share."""

    @abstractmethod
    def run(self, size: int, mixture: Vector, seed: int) -> Vector:
        """[n] losses that a run of [m] ends with, noise and all: the same for the same seed, size and mixture."""

    @abstractmethod
    def size_of(self, share: float) -> int:
        """The size for a share of the judged size's parameters; :class:`tasks.base.TaskError` where none is near."""

    @abstractmethod
    def cost(self, size: int) -> float:
        """FLOPs of one run at a size."""

    @abstractmethod
    def support(self, size: int, mixture: Vector) -> Support:
        """How far [m] is from the runs of a size."""

    @abstractmethod
    def best(self) -> Best:
        """The best mixture at the judged size, as far as it can be found."""

    @abstractmethod
    def score_error(self) -> float:
        """RMSE of the judged score on runs that its answer was not made from; 0 where it is measured itself."""

    @abstractmethod
    def provenance(self) -> Mapping[str, Any]:
        """Where the runs came from and how well answers between them hold, as JSON-able data."""

    def score(self, losses: Vector) -> float:
        """Mean of [n] losses under the target shares; targets without a share need no loss."""
        counted = self.target_shares > 0
        return float(losses[counted] @ self.target_shares[counted])
