"""The toy task as it would be if it could not combine models."""

from __future__ import annotations

from typing import ClassVar

from harness.conformance.toy_task import Toy
from tasks.base import TrainableTask


class Alone(Toy):
    """Symbols, one model at a time."""

    name: ClassVar[str] = "alone"
    combine = TrainableTask.combine
