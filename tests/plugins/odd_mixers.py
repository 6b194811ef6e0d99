"""Mixers that do what no mixer should, and a slow one for tests that interrupt it."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mixers.base import DomainGradients, Lab, Mixer, Mixture, Needs, Observation, Problem, TrainLosses


class _Even(Mixer):
    def needs(self) -> Needs:
        return Needs(rounds=5)

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        self.problem = problem
        return problem.mixture(np.full(problem.m, 1 / problem.m))


class OffSimplex(_Even):
    name: ClassVar[str] = "off_simplex"

    def update(self, seen: Observation, lab: Lab) -> Mixture | None:
        return Mixture(domains=self.problem.domains, weights=np.full(self.problem.m, 0.5))


class Raises(_Even):
    name: ClassVar[str] = "raises"

    def update(self, seen: Observation, lab: Lab) -> Mixture | None:
        raise RuntimeError("no idea\nwhat to do")


class Undeclared(_Even):
    name: ClassVar[str] = "undeclared"

    def update(self, seen: Observation, lab: Lab) -> Mixture | None:
        seen.domain_gradients.gram()
        return None


class Overbuys(_Even):
    name: ClassVar[str] = "overbuys"

    def update(self, seen: Observation, lab: Lab) -> Mixture | None:
        lab.validation_losses()
        return None


class Hungry(_Even):
    name: ClassVar[str] = "hungry"

    def update(self, seen: Observation, lab: Lab) -> Mixture | None:
        np.empty(1 << 55, dtype=np.uint8)
        return None


class Dies(_Even):
    name: ClassVar[str] = "dies"

    def update(self, seen: Observation, lab: Lab) -> Mixture | None:
        os.kill(os.getpid(), signal.SIGSEGV)
        return None


class Hangs(_Even):
    name: ClassVar[str] = "hangs"

    def update(self, seen: Observation, lab: Lab) -> Mixture | None:
        time.sleep(600)
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryConfig:
    """pause: seconds to wait in every update."""

    pause: float = 0.0


class Memory(Mixer):
    """Chases losses and gradients and remembers: everything that a resumed trial must bring back."""

    name: ClassVar[str] = "memory"
    Config: ClassVar[type] = MemoryConfig

    def needs(self) -> Needs:
        return Needs(rounds=10, signals=(TrainLosses(), DomainGradients()))

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        self.problem = problem
        self.scores = np.zeros(problem.m)
        return problem.mixture(np.full(problem.m, 1 / problem.m), loss_weights=np.ones(problem.m))

    def update(self, seen: Observation, lab: Lab) -> Mixture | None:
        time.sleep(self.config.pause)
        self.scores += np.where(seen.present, np.nan_to_num(seen.train_losses), 0.0)
        self.scores += 0.1 * np.tanh(seen.domain_gradients.gram().sum(1))
        weights = np.exp(0.3 * (self.scores - self.scores.max()))
        return self.problem.mixture(weights / weights.sum(), loss_weights=0.5 + weights)

    def state_dict(self) -> dict[str, Any]:
        return {"scores": self.scores.tolist()}

    def load_state_dict(self, state: Any) -> None:
        self.scores = np.array(state["scores"])
