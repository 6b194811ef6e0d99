"""The contract of output mixing: several models that share the main run's budget, and one prediction.

It stands beside a mixer's, which is one model on a mixture. The referee trains the members, combines them and judges
the combination in the place of the main run (:mod:`harness.ensembling`).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

import numpy as np

from mixers.base import Array, Lab, Mixer, MixerError, Mixture, Problem, Purchases, Run
from mixers.proxies import objective

Combination = Literal["logits", "probabilities"]


class Ensembler(Mixer):
    """Says which models are trained and how their predictions are put together; subclasses set ``name``, ``Config``.

    It is a :class:`Mixer` so that it is found, configured and run as one; its mixture is what all members together are
    trained on. It has no rounds and sees no signals.
    """

    @property
    @abstractmethod
    def combination(self) -> Combination:
        """What is averaged."""

    @abstractmethod
    def members(self, problem: Problem) -> tuple[Run, ...]:
        """The k orders, each with a static mixture and ``keep=True``; their steps sum to the problem's.

        Members start from the main run's own initial weights and meet examples as it would; ``seed`` is not read.
        """

    @abstractmethod
    def candidates(self, problem: Problem) -> Array:
        """[c, k] weights of the members, each row a mixture. Several: :meth:`choose` decides on validation losses."""

    @property
    def validation_examples(self) -> int:
        """A target's examples in each measurement of a candidate; 0: all."""
        return 0

    def choose(self, problem: Problem, losses: Array) -> int:
        """The candidate with the least validation loss under the target shares; losses: [c, n] by target.

        The first of equal ones. :class:`MixerError` where no candidate has a finite loss.
        """
        weights = objective(problem, None, losses)
        used = weights > 0.0
        totals = losses[:, used] @ weights[used]
        if not np.isfinite(totals).any():
            raise MixerError(f"{self.name}: no weights of the members have a finite validation loss")
        return int(np.where(np.isfinite(totals), totals, np.inf).argmin())

    def purchases(self, problem: Problem) -> Purchases:
        """Where there is a choice: a validation loss for every member of every candidate, exactly."""
        wanted = self.candidates(problem)
        if len(wanted) < 2:
            return Purchases()
        return Purchases(validation_losses=int(np.count_nonzero(wanted)), validation_examples=self.validation_examples)

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        """What all members together are trained on."""
        runs = self.members(problem)
        total = sum(run.steps for run in runs)
        shares = np.zeros(problem.m)
        for run in runs:
            if run.mixture is None:
                raise MixerError(f"{self.name}: a member needs a mixture of its own")
            shares += run.steps / total * run.mixture.weights
        return problem.mixture(shares)
