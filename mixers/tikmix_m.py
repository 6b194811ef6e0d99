"""TiKMiX-M: around TiKMiX-D's mixture, a search among mixtures whose influence is measured on samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from scipy.stats import qmc

from mixers import simplex, surrogates, swarm
from mixers.base import (
    ADDED,
    Array,
    Dimension,
    GradientEstimate,
    IntArray,
    Lab,
    MixerError,
    Mixture,
    Observation,
    Problem,
    Purchases,
)
from mixers.influence import Objective
from mixers.surrogates import TreeSettings
from mixers.tikmix_d import TiKMiXD

ATTEMPTS = 20  # hypercubes before what is missing is moved inside in place of drawn anew
SEARCH = 4  # seed of what is drawn


class TiKMiXM(TiKMiXD):
    """TiKMiX-D, then trees on the sampled influence of mixtures around its answer, and the best of those by the trees.

    Source: *TiKMiX* (arXiv 2508.17677v1), as :class:`mixers.tikmix_d.TiKMiXD`, known from detailed notes; no code is
    public. At each boundary: (1) -D's mixture w. (2) A Latin hypercube over [w_j / 2, 2 w_j] for every domain,
    normalised; what then lies outside is rejected, until there are 256. (3) Each one's influence, and from it -D's
    objective. (4) LightGBM on (mixture, objective). (5) Draw from Dirichlet(a w), take the mean of the best k by the
    trees as the next w, with a growing a.

    **A reduced version, in which little is left to find.** The paper measures each mixture's influence anew, on 0.1B
    tokens of that mixture. Here a measurement is made of ``parts``, each on examples of its own, and a sample of a
    mixture is made from them: sum_j w_j (S_j + d_j / sqrt(w_j parts)), S_j the domain's mean influence and d_j how far
    one of its parts, drawn for this sample, is from it. That has the noise of a sample as large as one domain's, and no
    other news: to first order the influence of a mixture is the mean of its domains', so the trees can at best learn
    what -D's solver knew, and the search trades the solver's optimum for a smoothed one. Interactions of domains
    beyond that order, of which the paper's correlations of 0.85 to 0.93 between added and measured influence leave room
    for, are not measured. ``parts=1`` is that additive influence without noise.

    Choices:

    - All of tikmix_d. The constraint that no target falls below the prior binds the centre, not the search.
    - The paper gives neither rounds, draws, k nor the values of a, and its words on annealing contradict each other: a
      large a is local. Here a goes from 100 to 10,000 in 5 rounds of 1,000 draws, of which 10 are averaged.
    - Where many domains leave hardly a draw inside the interval, and in the search always, draws are moved towards the
      centre until they are inside: trees know nothing beyond. Domains without a gradient keep their prior's share.
    - Trees as RegMix's (:func:`mixers.surrogates.fit_trees`); the paper does not give their settings.
    - The cost is -D's: the parts of ``examples`` are together as many as its examples, or fewer by what a division by
      their number leaves over.

    Scale: as -D, up to the rounding of trees. Deterministic given the problem's seed.
    """

    name = "tikmix_m"
    search_space: ClassVar[Mapping[str, Dimension]] = TiKMiXD.search_space

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config(TiKMiXD.Config):
        """parts: of a measurement, which share its ``examples`` evenly. mixtures: sampled (paper: 256).

        narrow, wide: the interval's ends, as multiples of -D's weights (paper: 0.5, 2). iterations, draws, top_k: of
        the search. first_strength, last_strength: of its Dirichlet, spaced evenly by their logarithm. max_epochs: no
        stage's mixture would repeat a domain more often in the main run, whatever the interval, and what domains have
        no room for goes to the others; ``None``: no limit. The others: :class:`mixers.tikmix_d.TiKMiXD`.
        """

        parts: int = 4
        mixtures: int = 256
        narrow: float = 0.5
        wide: float = 2.0
        iterations: int = 5
        draws: int = 1000
        top_k: int = 10
        first_strength: float = 100.0
        last_strength: float = 10_000.0
        max_epochs: float | None = field(default=None, metadata=ADDED)

        mixer: ClassVar[str] = "tikmix_m"

        def __post_init__(self) -> None:
            TiKMiXD.Config.__post_init__(self)
            for valid, rule in (
                (
                    1 <= self.parts <= self.examples,
                    f"parts must be from 1 to examples = {self.examples}, not {self.parts}",
                ),
                (self.mixtures >= 10, f"mixtures must be at least 10, not {self.mixtures}"),
                (
                    0.0 <= self.narrow < 1.0 < self.wide < float("inf"),
                    f"narrow must be in [0, 1) and wide above 1, not {self.narrow} and {self.wide}",
                ),
                (self.iterations >= 1, f"iterations must be at least 1, not {self.iterations}"),
                (1 <= self.top_k <= self.draws, f"top_k must be from 1 to draws = {self.draws}, not {self.top_k}"),
                (
                    0.0 < self.first_strength <= self.last_strength < float("inf"),
                    f"strengths must be positive and rise, not {self.first_strength} and {self.last_strength}",
                ),
                (
                    self.max_epochs is None or 0.0 < self.max_epochs < float("inf"),
                    f"max_epochs must be positive and finite, or none, not {self.max_epochs}",
                ),
            ):
                if not valid:
                    raise MixerError(f"tikmix_m: {rule}")

    def purchases(self, problem: Problem) -> Purchases:
        """The parts of a measurement at every boundary between stages."""
        c, boundaries = self.config, len(self.needs().boundaries(problem.steps)) - 1
        return Purchases(domain_gradients=c.parts * boundaries, gradient_examples=c.examples // c.parts)

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        """The prior, once LightGBM is there."""
        surrogates.lightgbm(instead="tikmix_d")
        return self._capped(super().start(problem, lab))

    def update(self, seen: Observation, lab: Lab) -> Mixture | None:
        """The mixture of the next stage."""
        wanted = super().update(seen, lab)
        if wanted is None or self.config.max_epochs is None:
            return wanted
        given = self._capped(wanted)
        self._stages[-1]["capped"] = round(simplex.total_variation(given.weights, wanted.weights), 6)
        return given

    def _capped(self, wanted: Mixture) -> Mixture:
        """The mixture within ``max_epochs``."""
        if self.config.max_epochs is None:
            return wanted
        caps = swarm.repetition_caps(self._problem, self.config.max_epochs)
        return self._problem.mixture(swarm.within(wanted.weights, self._problem.train_shares, caps))

    def _measured(self, lab: Lab) -> list[GradientEstimate]:
        c = self.config
        return [lab.domain_gradients(c.examples // c.parts, scaling=c.scaling) for _ in range(c.parts)]

    def _order(self) -> IntArray:
        """Canonical, so that places and names change nothing of what is drawn."""
        return np.array(swarm.columns(self._problem, swarm.canonical(self._problem)), dtype=np.int64)

    def _refined(self, objective: Objective, solution: Array, parts: Array, step: int) -> tuple[Array, dict[str, Any]]:
        """The mixture that the trees find best around the solution, [m]."""
        c, rng = self.config, np.random.default_rng([self._problem.seed, SEARCH, step])
        if solution.size < 2:
            return solution, {}
        low, high = c.narrow * solution, np.minimum(c.wide * solution, 1.0)
        mixtures, moved = self._hypercube(solution, low, high, rng)
        values = sampled(objective, mixtures, parts, rng)
        trees = surrogates.fit_trees(mixtures, values[:, None], TreeSettings())
        best = solution
        for strength in np.geomspace(c.first_strength, c.last_strength, c.iterations):
            drawn = rng.dirichlet(np.maximum(strength * best, 1e-8), size=c.draws)
            drawn = np.concatenate((best[None], inside(solution, drawn, low, high)))
            order = np.argsort(trees.predict(drawn)[:, 0], kind="stable")
            best = simplex.normalise(drawn[order[: c.top_k]].mean(axis=0))
        return best, {
            "objective": [objective.value(solution), objective.value(best)],
            "predicted": trees.predict(np.stack([solution, best]))[:, 0].tolist(),
            "noise": float(np.std(values - [objective.value(mixture) for mixture in mixtures])),
            "moved_inside": moved,
            "from_d": round(simplex.total_variation(best, solution), 6),
        }

    def _hypercube(self, centre: Array, low: Array, high: Array, rng: np.random.Generator) -> tuple[Array, int]:
        """Mixtures, [mixtures, m], in the interval around the centre, and how many had to be moved there."""
        count, found = self.config.mixtures, np.zeros((0, centre.size))
        for _ in range(ATTEMPTS):
            cube = qmc.LatinHypercube(d=centre.size, rng=rng).random(count)
            drawn = low + cube * (high - low)
            drawn = drawn / drawn.sum(axis=1, keepdims=True)
            fits = ((drawn >= low) & (drawn <= high)).all(axis=1)
            found = np.concatenate((found, drawn[fits]))
            if len(found) >= count:
                return found[:count], 0
        missing = count - len(found)
        return np.concatenate((found, inside(centre, drawn[~fits][:missing], low, high))), missing

    def report(self) -> dict[str, Any]:
        """As tikmix_d's, of the mixture that was taken, and by stage what the search did.

        objective: -D's, to be minimised, at its own mixture and at the one taken. predicted: the same by the trees.
        noise: standard deviation that sampling adds to the objective. moved_inside: mixtures of the hypercube that were
        not rejected but moved. from_d: total variation to -D's mixture. capped: total variation by which ``max_epochs``
        then moved the whole mixture, where it is given.
        """
        return super().report()


def sampled(objective: Objective, mixtures: Array, parts: Array, rng: np.random.Generator) -> Array:
    """[k] objectives of mixtures [k, m], each on a sample of its own made from parts [parts, n, m]."""
    count = len(parts)
    # Deviations from the mean of so few are too small by this factor.
    apart = (parts - parts.mean(axis=0)) * np.sqrt(count / max(1, count - 1))
    picked = rng.integers(count, size=mixtures.shape)
    domains = np.arange(mixtures.shape[1])
    values = []
    for mixture, which in zip(mixtures, picked, strict=True):
        noise = apart[which, :, domains]  # [m, n]
        values.append(objective.of(objective.rows @ mixture + np.sqrt(mixture / count) @ noise, mixture))
    return np.array(values)


def inside(centre: Array, mixtures: Array, low: Array, high: Array) -> Array:
    """Mixtures, [k, m], moved towards the centre by as little as brings them between low and high."""
    step = mixtures - centre
    room = np.where(step > 0.0, high - centre, centre - low)
    reach = np.divide(room, np.abs(step), out=np.full_like(step, np.inf), where=step != 0.0).min(axis=1)
    return np.asarray(centre + np.minimum(reach, 1.0)[:, None] * step)
