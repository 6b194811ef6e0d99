"""The same share for every domain."""

from __future__ import annotations

from mixers import simplex
from mixers.base import Lab, Mixer, Mixture, Problem


class Uniform(Mixer):
    """Draw from every domain equally often, whatever its size: 1/m. Papers call it *stratified* sampling."""

    name = "uniform"

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        """The uniform mixture."""
        return problem.mixture(simplex.uniform(problem.m))
