"""Train on the shares that the evaluation has."""

from __future__ import annotations

from mixers import simplex
from mixers.base import Lab, Mixer, MixerError, Mixture, Problem


class Target(Mixer):
    """Draw in the proportions of the evaluation data: the target shares, renormalised over the training domains.

    A plain yardstick that adaptive methods often leave out, though they too are told the target shares. It exists
    only where some training domain is also a target.
    """

    name = "target"

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        """The target shares of the training domains; :class:`MixerError` where none of them has any."""
        shares = problem.target_on_domains()
        if not shares.any():
            raise MixerError(
                "mixer target: no training domain is a target domain; use another mixer, or a regrouped partition"
            )
        return problem.mixture(simplex.normalise(shares))
