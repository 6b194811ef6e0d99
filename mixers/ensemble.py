"""Output mixing: a model a source, and their predictions averaged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mixers import simplex, swarm
from mixers.base import Array, Choices, IntArray, Lab, MixerError, Mixture, Problem, Run, space
from mixers.ensembler import Combination, Ensembler

MANY = 16  # members
LIKE_ROUNDING = 1e-9  # parts of a step that differ by less are equal


class Ensemble(Ensembler):
    """Train one model on each domain alone, at the main run's samples in all; judge their averaged predictions.

    Source: Nguyen et al., *Quality Not Quantity: On the Interaction between Dataset Design and Robustness of CLIP*,
    NeurIPS 2022 (arXiv 2208.05516), who compare mixing the data of two sources with mixing the predictions of two
    models. A reduced version: the body was not at hand, and the released code holds downloads alone. What they average
    is not known here, so both are offered; nor are their weights and their split of the samples known.

    - budget: every domain's share of the main run's steps, ``even`` or ``natural`` (its share of the training data).
      Steps are whole, sum to the main run's, and none is below one: an ensemble sees as many samples as any mixer.
      A member has the main run's initial weights, batch size and learning rate, and a schedule of its own length.
    - weights: ``even``, or ``fitted``: those with the least validation loss among the even weights, each member alone,
      and the points halfway between; with two domains these are 0, 1/4, 1/2, 3/4 and 1. That is 2 m + 1 points, and
      m (m + 2) forward passes of one model over the validation examples, which are on the bill.
    - combine: ``logits`` averages what the softmax is taken of, so that probabilities are multiplied; a confident
      member weighs more. ``probabilities`` averages after it. A task says what its logits are.

    Training costs what a main run costs. Serving costs a model for every member of positive weight; the row says how
    many. With m domains a member has about 1/m of the samples: beyond a handful of domains it is hardly trained (beyond
    16 it is m models to keep and load, and the fit's passes grow with their square).
    """

    name = "ensemble"
    search_space = space(
        combine=Choices(values=("logits", "probabilities")),
        budget=Choices(values=("even", "natural")),
    )

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """combine, budget, weights: see above. validation_examples: of each target, for fitted weights; 0: all."""

        combine: Combination = "logits"
        budget: Literal["even", "natural"] = "even"
        weights: Literal["even", "fitted"] = "even"
        validation_examples: int = 0

        def __post_init__(self) -> None:
            for valid, rule in (
                (
                    self.combine in ("logits", "probabilities"),
                    f"combine is logits or probabilities, not {self.combine}",
                ),
                (self.budget in ("even", "natural"), f"budget is even or natural, not {self.budget}"),
                (self.weights in ("even", "fitted"), f"weights is even or fitted, not {self.weights}"),
                (
                    self.validation_examples >= 0,
                    f"validation_examples must be at least 0, not {self.validation_examples}",
                ),
            ):
                if not valid:
                    raise MixerError(f"ensemble: {rule}")

    @property
    def combination(self) -> Combination:
        """As configured."""
        return self.config.combine

    @property
    def validation_examples(self) -> int:
        """As configured."""
        return int(self.config.validation_examples)

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        """What all members together are trained on: each domain's share of the steps."""
        mixture = super().start(problem, lab)
        self._report: dict[str, Any] = {}
        if problem.m > MANY:
            least = int(self._steps(problem).min())
            self._report = {
                "caution": f"{problem.m} models are trained, kept and served; one has {least} of {problem.steps} steps"
            }
        return mixture

    def report(self) -> dict[str, Any]:
        """caution: where there are many members, what that means."""
        return self._report

    def members(self, problem: Problem) -> tuple[Run, ...]:
        """One order a domain, in the problem's order."""
        steps = self._steps(problem)
        alone = np.eye(problem.m)
        return tuple(
            Run(steps=int(count), mixture=problem.mixture(row), keep=True)
            for count, row in zip(steps, alone, strict=True)
        )

    def candidates(self, problem: Problem) -> Array:
        """The even weights; to be fitted: these, the corners and the points halfway."""
        even = simplex.uniform(problem.m)
        if self.config.weights == "even" or problem.m == 1:
            return even[None]
        corners = np.eye(problem.m)
        return np.concatenate([even[None], corners, (even + corners) / 2])

    def _steps(self, problem: Problem) -> IntArray:
        """[m] whole steps by domain: the shares' largest remainders, at least one each."""
        if problem.m > problem.steps:
            raise MixerError(
                f"ensemble: {problem.m} domains share {problem.steps} steps, and each needs one; train for longer, "
                "or cut the data into fewer domains"
            )
        home = swarm.canonical(problem)  # whoever gets an odd step gets it wherever it stands
        shares = simplex.uniform(home.m) if self.config.budget == "even" else simplex.normalise(home.train_shares)
        wanted = shares * problem.steps
        steps = np.floor(wanted + LIKE_ROUNDING).astype(np.int64)
        remainders = np.round((wanted - steps) / LIKE_ROUNDING)
        steps[np.argsort(-remainders, kind="stable")[: problem.steps - int(steps.sum())]] += 1
        while not steps.all():
            steps[int(steps.argmin())] += 1
            steps[int(steps.argmax())] -= 1
        return np.asarray(steps[swarm.columns(home, problem)])
