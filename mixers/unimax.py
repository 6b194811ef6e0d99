"""UniMax: uniform, until a domain would be repeated too often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mixers import simplex
from mixers.base import Lab, Mixer, MixerError, Mixture, Problem, Span, space


class UniMax(Mixer):
    """Spread the budget evenly over the domains, capping how often each one is repeated.

    Source: Chung et al., *UniMax: Fairer and More Effective Language Sampling for Large-Scale Multilingual
    Pretraining*, ICLR 2023 (arXiv 2304.09151), Algorithm 1. Domains are visited from the smallest to the largest.
    Each is offered an even share of the budget that is left; where that exceeds N epochs of its data it takes N
    epochs, and the rest goes to the larger ones. The mixture is the normalised allocation.

    Certain, from the paper's algorithm: the order, the cap, the redistribution and the normalisation; its inputs are
    character counts, a character budget and N. Second-hand: that the authors found N = 1 best, with a small effect,
    which is the default here. Different here: domains in place of languages, and examples in place of characters, so
    that the cap bounds exactly the epochs that the sampler counts.

    Where the budget exceeds N epochs of all the data, every domain is at its cap and the mixture is the natural one.
    """

    name = "unimax"
    search_space = space(
        max_epochs=Span(low=0.25, high=16.0, log=True),
    )

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """max_epochs: the paper's N, how many times a domain's data may be seen at most; any number above 0."""

        max_epochs: float = 1.0

        def __post_init__(self) -> None:
            if not 0.0 < self.max_epochs < float("inf"):
                raise MixerError(f"unimax: max_epochs must be positive and finite, not {self.max_epochs}")

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        """The capped allocation of steps × batch_size examples."""
        budget = float(problem.steps) * problem.batch_size
        caps = self.config.max_epochs * problem.examples
        amounts = simplex.water_fill(budget, caps)
        capped = np.flatnonzero(amounts >= caps)
        self._report = {
            "capped": [problem.domains[i] for i in capped],
            "budget_in_epochs": budget / float(problem.examples.sum()),
        }
        return problem.mixture(simplex.normalise(amounts))

    def report(self) -> dict[str, Any]:
        """The domains at their cap, and the budget as epochs over all training data."""
        return self._report
