"""What may be tuned about a mixer: the space that its class declares. Import it from :mod:`mixers.base`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from mixers.problem import MixerError


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Values from ``low`` to ``high``. log: spread evenly over their logarithm. whole: whole numbers only."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise MixerError(f"a span needs two finite ends with low < high, not {self.low} and {self.high}")
        if self.log and self.low <= 0:
            raise MixerError(f"a logarithmic span must begin above 0, not at {self.low}")

    def at(self, share: float) -> float | int:
        """The value at a share of the way in [0, 1), to three digits."""
        if self.log:
            value = math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + share * (self.high - self.low)
        return round(value) if self.whole else float(f"{value:.3g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """One of these values, all as likely."""

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if len(self.values) < 2:
            raise MixerError("choices need at least two values")

    def at(self, share: float) -> Any:
        """The value at a share of the way in [0, 1)."""
        return self.values[int(share * len(self.values))]


Dimension = Span | Choices


def space(**dimensions: Dimension) -> Mapping[str, Dimension]:
    """A search space by field name, which nobody can change."""
    return MappingProxyType(dimensions)
