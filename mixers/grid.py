"""Fixed shares that the user names: input mixing, and the points of a grid over them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from mixers import simplex
from mixers.base import Array, Lab, Mixer, MixerError, Mixture, Problem


class Grid(Mixer):
    """Draw from named domains in shares that the user gives; one model is trained on what is drawn.

    With two sources this is the *input mixing* of Nguyen et al., *Quality Not Quantity: On the Interaction between
    Dataset Design and Robustness of CLIP*, NeurIPS 2022 (arXiv 2208.05516): the number of samples is the main run's,
    whatever the shares. Its body was not at hand; which shares the authors ran is not known here, and what is certain
    from the abstract is that mixing sources dilutes the robustness of the best of them.

    A point of a grid is a mixer of its own. Five points between two sources, photos and art, are

        --mixers "grid[source=art,share=0],grid[source=art,share=0.25],grid[source=art,share=0.5],
                  grid[source=art,share=0.75],grid[source=art,share=1]"

    and any other point is ``grid[shares={photos: 3, art: 1}]``, or the same as ``{photos=3,art=1}``. Without either
    all domains get the same share, as ``uniform`` gives them. Names are those of the partition's training domains: a
    cut by clusters has others. Output mixing, a model a source, is ``ensemble``.
    """

    name = "grid"

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """shares: domain -> amount; amounts are divided by their sum, and a domain that is not named gets nothing.

        source, share: in place of ``shares``: this share for one domain, the others have the rest evenly.
        """

        shares: Mapping[str, float] = field(default_factory=dict)
        source: str | None = None
        share: float | None = None

        def __post_init__(self) -> None:
            amounts = list(self.shares.values())
            for valid, rule in (
                (
                    not self.shares or (self.source is None and self.share is None),
                    "give either shares, or source and share",
                ),
                (
                    (self.source is None) == (self.share is None),
                    "source and share belong together, as in grid[source=art,share=0.25]",
                ),
                (
                    self.share is None or 0.0 <= self.share <= 1.0,
                    f"share must be in [0, 1], not {self.share}",
                ),
                (
                    all(math.isfinite(amount) and amount >= 0.0 for amount in amounts),
                    f"shares must be finite and at least 0, not {amounts}",
                ),
                (not amounts or sum(amounts) > 0.0, "shares are all zero; give at least one domain some"),
            ):
                if not valid:
                    raise MixerError(f"grid: {rule}")
            object.__setattr__(self, "shares", dict(sorted(self.shares.items())))  # spelt in any order, one trial

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        """The shares; :class:`MixerError` for a name that is no training domain."""
        c = self.config
        if c.source is not None:
            return problem.mixture(self._one_against_the_others(problem))
        if not c.shares:
            return problem.mixture(simplex.uniform(problem.m))
        for name in c.shares:
            _check(name, problem)
        return problem.mixture(simplex.normalise([c.shares.get(name, 0.0) for name in problem.domains]))

    def _one_against_the_others(self, problem: Problem) -> Array:
        """[m] ``share`` for ``source``, the rest evenly for the others."""
        source, share = self.config.source, self.config.share
        _check(source, problem)
        if problem.m == 1 and share < 1.0:
            raise MixerError(f"grid: {source!r} is the only domain, so its share is 1, not {share}")
        rest = (1.0 - share) / max(1, problem.m - 1)
        return simplex.normalise([share if name == source else rest for name in problem.domains])


def _check(name: str, problem: Problem) -> None:
    if name not in problem.domains:
        raise MixerError(f"grid: there is no training domain {name!r}; the domains are {', '.join(problem.domains)}")
