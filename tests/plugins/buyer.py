"""Buys validation losses and follows them, as a purchase that is declared."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from mixers.base import Lab, Mixer, Mixture, Needs, Observation, Problem, Purchases


class Buyer(Mixer):
    name: ClassVar[str] = "buyer"

    def needs(self) -> Needs:
        return Needs(rounds=3)

    def purchases(self, problem: Problem) -> Purchases:
        return Purchases(validation_losses=2)

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        self.problem = problem
        return problem.mixture(problem.train_shares)

    def update(self, seen: Observation, lab: Lab) -> Mixture | None:
        losses = np.exp(lab.validation_losses())
        return self.problem.mixture(losses / losses.sum())
