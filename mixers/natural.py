"""Every domain in proportion to its size."""

from __future__ import annotations

from mixers import simplex
from mixers.base import Lab, Mixer, Mixture, Problem


class Natural(Mixer):
    """Draw in proportion to the training data, as if it had never been cut into domains: the train shares."""

    name = "natural"

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        """The train shares."""
        return problem.mixture(simplex.normalise(problem.train_shares))
