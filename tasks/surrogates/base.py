"""What every surrogate gives: a fit as plain arrays, and predictions from them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy.typing as npt

from tasks.base import FloatArray

Arrays = dict[str, npt.NDArray[Any]]


class Surrogate(ABC):
    """A family of functions from mixtures to a loss.

    A fit is kept as arrays, never as an object: they can be stored without pickling anything, and what was just fitted
    and what was read from disk predict bit for bit the same.
    """

    name: ClassVar[str]
    least_rows: ClassVar[int]

    @abstractmethod
    def fit(self, mixtures: FloatArray, losses: FloatArray) -> tuple[Arrays, FloatArray]:
        """Arrays of the fit on [r, m] mixtures and [r] losses, and [r] left-out residuals (loss - prediction).

        Deterministic; draws nothing from the trial's seed.
        """

    @abstractmethod
    def predict(self, arrays: Arrays, mixtures: FloatArray) -> FloatArray:
        """[k] losses of [k, m] mixtures. A mixture's value does not depend on the others beside it."""
