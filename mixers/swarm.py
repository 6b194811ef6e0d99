"""Mixtures drawn around a prior: those that proxy runs are made on, and those that a surrogate is asked.

The sampler of *RegMix* (arXiv 2407.01492; sail-sg/regmix b004d3a, from notes on its code), which Olmix (arXiv
2602.12237) builds on. A draw: one of the strengths at random; Dirichlet(strength x prior^temperature, normalised);
thrown away where a domain is above its cap; shares below the floor become 0 and the rest is renormalised; a mixture
that is there already, up to multiples of the floor, is left out. The code also rounds to such multiples: not done here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from mixers import simplex
from mixers.base import Array, MixerError, Problem

Prior = Literal["train", "uniform", "target"]
ATTEMPTS = 20  # batches of draws before what is missing is moved below its caps in place of drawn anew
SPILL = 1e-3  # share of the prior in a mixture that is moved below its caps, so that there is room
STRENGTHS = tuple(round(float(s), 3) for s in np.geomspace(0.1, 5.0, 15))


def canonical(problem: Problem) -> Problem:
    """The same problem with its domains in an order that depends on neither position nor name.

    From the smallest to the largest by examples, units and shares; names decide between equals alone. Whoever draws
    numbers or fits trees in this order gives a domain the same ones wherever it stands and whatever it is called.
    """
    target = problem.target_on_domains()
    columns = (problem.examples, problem.units, problem.train_shares, target)
    order = sorted(range(problem.m), key=lambda i: (*(float(column[i]) for column in columns), problem.domains[i]))
    return replace(
        problem,
        domains=tuple(problem.domains[i] for i in order),
        train_shares=problem.train_shares[order],
        examples=problem.examples[order],
        units=problem.units[order],
    )


def columns(given: Problem, wanted: Problem) -> list[int]:
    """Positions in ``given`` of the domains of ``wanted``, which has them in another order."""
    position = {name: i for i, name in enumerate(given.domains)}
    return [position[name] for name in wanted.domains]


def repetition_caps(problem: Problem, max_epochs: float | None) -> Array:
    """[m] the shares at which the main run sees a domain ``max_epochs`` times; ones for ``None``.

    Where the budget exceeds so many epochs of all data, the one mixture that repeats every domain equally often.
    """
    if max_epochs is None:
        return np.ones(problem.m)
    caps = _filled(problem, max_epochs)
    return simplex.normalise(caps) if caps.sum() < 1.0 else np.minimum(caps, 1.0)


def short(problem: Problem, max_epochs: float | None) -> bool:
    """Whether so many epochs of all data are less than the budget."""
    return max_epochs is not None and float(_filled(problem, max_epochs).sum()) < 1.0


def _filled(problem: Problem, max_epochs: float) -> Array:
    """[m] shares of the budget that so many epochs of each domain fill."""
    return np.asarray(max_epochs * problem.examples / (float(problem.steps) * problem.batch_size))


def within(weights: Array, train: Array, caps: Array) -> Array:
    """[m] the weights below the caps; what those above 0 have no room for goes to the others by training shares."""
    held = float(caps[weights >= np.finfo(np.float64).tiny].sum()) >= 1.0
    return simplex.capped(weights if held else simplex.normalise((1.0 - SPILL) * weights + SPILL * train), caps)


def untried(mixtures: Array, tried: Array, apart: float) -> Array:
    """Those of the mixtures, [k, m], that are more than ``apart`` in total variation from all tried, [r, m].

    All of them where none is left.
    """
    nearest = np.full(len(mixtures), np.inf)
    for other in tried:
        nearest = np.minimum(nearest, 0.5 * np.abs(mixtures - other).sum(axis=1))
    new = nearest > apart
    return mixtures[new] if new.any() else mixtures


def spaced(mixtures: Array, count: int, apart: float) -> Array:
    """The first mixtures, of [k, m], more than ``apart`` in total variation from each other; ``count`` at most."""
    kept = mixtures[:1]
    for mixture in mixtures[1:]:
        if len(kept) >= count:
            break
        if 0.5 * float(np.abs(kept - mixture).sum(axis=1).min()) > apart:
            kept = np.concatenate((kept, mixture[None]))
    return kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Swarm:
    """How mixtures are drawn.

    prior: what they are drawn around. ``train``: the training shares. ``uniform``: even over the domains that have
    examples. ``target``: the target's shares of the training domains that have examples; all others get nothing.
    temperature: power of the prior, 1: as it is, 0: even. strengths: Dirichlet concentrations; small ones give mixtures
    of few domains. floor: the smallest share above 0. prior_cap: largest share of a domain as a multiple of its share
    of the *training data*, whatever the prior and untempered, as it bounds how often a domain is repeated; ``None``: no
    cap. mixer: begins every message.
    """

    prior: Prior = "train"
    temperature: float = 0.5
    strengths: tuple[float, ...] = STRENGTHS
    floor: float = 2e-4
    prior_cap: float | None = 15.0
    mixer: str = "swarm"

    def caps(self, problem: Problem, more: Array | None = None) -> Array:
        """[m] of prior_cap and, where both leave a mixture, of ``more``, which comes first where they do not."""
        ones = np.ones(problem.m)
        own = ones if self.prior_cap is None else np.minimum(self.prior_cap * problem.train_shares, 1.0)
        if more is None:
            return own
        both = np.minimum(own, more)
        return both if both.sum() >= 1.0 else more

    def draw(self, problem: Problem, count: int, seed: int, *, caps: Array | None = None, new: bool = True) -> Array:
        """[count, m] mixtures over the domains of the problem, in their order. caps: [m], besides prior_cap's.

        new: leave out what was drawn before, as far as that goes (with two domains there are few). Raises
        :class:`MixerError` where the prior or the caps leave nothing to draw.
        """
        home = canonical(problem)
        limits = self.caps(home, None if caps is None else caps[columns(problem, home)])
        prior = self.around(home)
        room = float(limits[prior > 0.0].sum())
        if room < 1.0 - 1e-9:
            raise MixerError(
                f"{self.mixer}: the caps leave {room:.3g} of a mixture to the domains of prior={self.prior}; raise "
                "prior_cap or max_epochs, or use prior=train"
            )
        rng = np.random.default_rng([problem.seed, seed])
        found = np.zeros((0, problem.m))
        for _ in range(ATTEMPTS):
            drawn = self._draw(prior, 2 * count, rng)
            found = np.concatenate((found, drawn[np.all(drawn <= limits + 1e-12, axis=1)]))
            found = self._distinct(found) if new else found
            if len(found) >= count:
                break
        else:
            drawn = (1.0 - SPILL) * self._draw(prior, count - len(found), rng) + SPILL * prior
            found = np.concatenate((found, simplex.capped(drawn, limits)))
        return np.asarray(found[:count][:, columns(home, problem)])

    def around(self, problem: Problem) -> Array:
        """[m] the prior, 0 for domains that get nothing; :class:`MixerError` where there is none."""
        if self.prior == "train":
            return simplex.normalise(problem.train_shares)
        there = problem.examples > 0
        if self.prior == "uniform":
            return simplex.normalise(there)
        shares = np.where(there, problem.target_on_domains(), 0.0)
        if np.count_nonzero(shares) < 2:
            raise MixerError(
                f"{self.mixer}: prior=target needs two training domains or more that are targets, not "
                f"{np.count_nonzero(shares)}; use prior=train or prior=uniform"
            )
        return simplex.normalise(shares)

    def _draw(self, prior: Array, count: int, rng: np.random.Generator) -> Array:
        """[count, m] without caps."""
        there = prior > 0.0
        base = simplex.normalise(prior[there] ** self.temperature)
        picked = rng.integers(len(self.strengths), size=count)
        drawn = np.zeros((count, prior.size))
        for k, strength in enumerate(self.strengths):
            rows = np.flatnonzero(picked == k)
            drawn[np.ix_(rows, there)] = rng.dirichlet(np.maximum(strength * base, 1e-8), size=rows.size)
        kept = np.where(drawn >= np.minimum(self.floor, drawn.max(axis=1, keepdims=True)), drawn, 0.0)
        return np.asarray(kept / kept.sum(axis=1, keepdims=True))

    def _distinct(self, mixtures: Array) -> Array:
        """The first of all that are the same up to multiples of the floor."""
        step = self.floor if self.floor > 0.0 else 1e-9
        _, first = np.unique(np.round(mixtures / step), axis=0, return_index=True)
        return np.asarray(mixtures[np.sort(first)])

    def checked(self) -> None:
        """Raise :class:`MixerError` where a value is none that can be drawn with."""
        for valid, rule in (
            (self.prior in get_args(Prior), f"prior is train, uniform or target, not {self.prior}"),
            (0.0 <= self.temperature <= 1.0, f"temperature must be in [0, 1], not {self.temperature}"),
            (
                len(self.strengths) > 0 and all(0.0 < s < float("inf") for s in self.strengths),
                f"strengths must be one or more positive numbers, not {list(self.strengths)}",
            ),
            (0.0 <= self.floor < 0.5, f"floor must be in [0, 0.5), not {self.floor}"),
            (
                self.prior_cap is None or 1.0 <= self.prior_cap < float("inf"),
                f"prior_cap must be finite and at least 1, or none, not {self.prior_cap}",
            ),
        ):
            if not valid:
                raise MixerError(f"{self.mixer}: {rule}")
