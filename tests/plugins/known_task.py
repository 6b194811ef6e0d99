"""A tabular task from outside the tree: its outcomes are a formula."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from tasks.base import Best, Metric, Outcomes, Preset, Recipe, Size, Support, TabularTask, TaskError
from tasks.outcomes import Vector


class Formula(Outcomes):
    """Loss j is 1 - share j; a model of half the parameters loses 0.5 more."""

    domains = ("a", "b")
    targets = ("a", "b")
    train_shares = np.array([0.8, 0.2])
    target_shares = np.array([0.25, 0.75])
    available = 2.0
    sizes = (Size(name="half", parameters=5.0, tokens=1.0), Size(name="whole", parameters=10.0, tokens=1.0))
    judged = 1
    fingerprint = "formula"

    def losses(self, mixture: Vector) -> Vector:
        return 1.0 - mixture

    def run(self, size: int, mixture: Vector, seed: int) -> Vector:
        return 1.0 - mixture + (0.5 if size == 0 else 0.0)

    def size_of(self, share: float) -> int:
        if share not in (0.5, 1.0):
            raise TaskError("order size=0.5 or size=1")
        return int(share == 1.0)

    def cost(self, size: int) -> float:
        return (30.0, 60.0)[size]

    def support(self, size: int, mixture: Vector) -> Support:
        return Support(distance=0.0, limit=1.0, outside=False, run="formula")

    def best(self) -> Best:
        return Best(mixture=np.array([0.0, 1.0]), losses=np.array([1.0, 0.0]), score=0.25)

    def score_error(self) -> float:
        return 0.0

    def provenance(self) -> Mapping[str, Any]:
        return {"source": "formula"}


@dataclass(frozen=True, slots=True, kw_only=True)
class NoSettings:
    """Nothing to set."""


class Known(TabularTask):
    """Outcomes that are known in closed form."""

    name: ClassVar[str] = "known"
    unit: ClassVar[str] = "token"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="loss", unit="loss", higher_is_better=False, primary=True),
        Metric(name="regret", unit="loss", higher_is_better=False),
    )
    Config: ClassVar[type] = NoSettings
    presets: ClassVar[Mapping[str, Preset]] = {
        "demo": Preset(name="demo", recipe=Recipe(steps=100, batch_size=10, learning_rate=0.1))
    }

    def load(self) -> Outcomes:
        return Formula()
