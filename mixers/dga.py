"""DGA: while the main run goes on, lean towards domains whose gradients point where the targets' loss falls."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mixers import simplex
from mixers.base import (
    Array,
    BoolArray,
    Choices,
    GradientEstimate,
    Lab,
    Mixer,
    MixerError,
    Mixture,
    Needs,
    Observation,
    Problem,
    Purchases,
    Scaling,
    Span,
    space,
)


class DGA(Mixer):
    """Online gradient alignment, p_i <- p_i exp(eta a_i) / Z with a_i = <g_i, g_target>, every so many steps.

    Source: *Dynamic Gradient Alignment for Online Data Mixing* (arXiv 2410.02498). Its text was not at hand and no code
    of its authors was found: the form is that of public reviews and summaries. At the end of a round the mixer buys the
    gradients of all domains, and of the targets' share-weighted mean loss, on fresh mini-batches, and multiplies p by
    exp(eta a). The next round draws from the new mixture. It is DoGE's step, on the main run and without a proxy.

    **Not verified**: eta, the interval, mini-batches, ``beta``, and whether the gradients are normalised. The defaults
    are ours. No one eta suits raw products everywhere: after one run of the demo preset with the default the smallest
    and largest weights are 0.13 and 0.16 (text), 0.05 and 0.15 (reasoning), 0.00 and 0.78 (multimodal); with
    ``scaling=cosine, eta=0.5`` 0.06 and 0.24, 0.03 and 0.17, 0.08 and 0.17. Near uniform, eta is too small to tell.

    Choices:

    - scaling: ``raw`` is the form above; gradients times c act as eta c^2, and gradients that shrink during training
      slow it down. ``mean_norm`` divides by the mean norm of the domains' gradients, as DoGE does (eta c). ``cosine``
      divides by |g_i| |g_target|, so that length plays no part.
    - geometry: ``adam`` takes all products after division by the root of Adam's second moments, of which the sources
      say nothing: the alignment of the steps that the optimiser would take. Its values are of another size, so that eta
      must be chosen anew (or ``scaling=cosine``).
    - beta: the mixture in force is (1 - beta) times the last one plus beta p, the moving average that the paper has
      against over-fitting on small domains; p itself goes on without it. 1: no average.
    - The first mixture is uniform, and the first update comes after the first round.
    - bases: for many domains the paper learns weights over N << m distributions over the domains (histograms of related
      data sets) alone. What they are cannot be told from the problem, so they are given here, by domain name. The
      gradient of a basis is the share-weighted mean of its domains' ones. This keeps the mixture within the bases'
      hull; it saves nothing, as the lab sells gradients by domain. No ``cosine``: it would need the bases' norms.
    - A domain without data keeps its weight. Without any target's data nothing moves.
    """

    name = "dga"
    search_space = space(
        scaling=Choices(values=("raw", "mean_norm", "cosine")),
        eta=Span(low=0.01, high=3.0, log=True),
        beta=Span(low=0.1, high=1.0),
    )

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """eta: step size, ours. rounds, ours. every: steps in a round (the paper's T_r), in place of ``rounds``.

        examples: of every domain and target in an update. scaling, geometry, beta: see the class. bases: mappings of
        domain name -> share (a domain that is left out has 0), each of which is scaled to sum to 1; none: the domains.
        """

        eta: float = 0.1
        rounds: int = 20
        every: int | None = None
        examples: int = 8
        scaling: Literal["raw", "mean_norm", "cosine"] = "raw"
        geometry: Scaling = "none"
        beta: float = 1.0
        bases: tuple[Mapping[str, float], ...] = ()

        def __post_init__(self) -> None:
            for valid, rule in (
                (0.0 <= self.eta < math.inf, f"eta must be finite and at least 0, not {self.eta}"),
                (self.rounds >= 1, f"rounds must be at least 1, not {self.rounds}"),
                (self.every is None or self.every >= 1, f"every must be at least 1, not {self.every}"),
                (self.examples >= 1, f"examples must be at least 1, not {self.examples}"),
                (self.scaling in ("raw", "mean_norm", "cosine"), "scaling is raw, mean_norm or cosine, "
                 f"not {self.scaling}"),
                (self.geometry in ("none", "adam"), f"geometry is none or adam, not {self.geometry}"),
                (0.0 < self.beta <= 1.0, f"beta must be in (0, 1] (1: no average), not {self.beta}"),
                (not (self.bases and self.scaling == "cosine"), "bases have no cosine; use scaling=mean_norm or raw"),
                (all(min(each.values(), default=0.0) >= 0.0 and 0.0 < sum(each.values()) < math.inf
                     for each in self.bases), "bases need shares that are at least 0 and do not all vanish"),
            ):  # fmt: skip
                if not valid:
                    raise MixerError(f"dga: {rule}")

    def needs(self) -> Needs:
        """Rounds; gradients are bought."""
        return Needs(rounds=self.config.rounds, every=self.config.every)

    def purchases(self, problem: Problem) -> Purchases:
        """The gradients of all domains against the mean target's after every round but the last."""
        updates = len(self.needs().boundaries(problem.steps)) - 1
        return Purchases(domain_gradients=updates, gradient_examples=self.config.examples, gradients_against="mean")

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        """Uniform, over the domains or over the bases."""
        self._problem = problem
        self._bases = self._columns(problem.domains)
        self._weights = simplex.uniform(self._bases.shape[1])
        self._served = self._bases @ self._weights
        self._alignment: Array = np.zeros(problem.m)
        self._absent: list[str] = []
        return problem.mixture(self._served)

    def _columns(self, domains: tuple[str, ...]) -> Array:
        """[m, N] the bases as columns; the identity where there are none."""
        if not self.config.bases:
            return np.eye(len(domains))
        strange = sorted({name for each in self.config.bases for name in each} - set(domains))
        if strange:
            raise MixerError(f"dga: bases name {strange[0]!r}, which is no training domain")
        return np.stack([simplex.normalise([each.get(name, 0.0) for name in domains]) for each in self.config.bases], 1)

    def update(self, seen: Observation, lab: Lab) -> Mixture | None:
        """The next mixture, from fresh gradients of the live model."""
        c = self.config
        bought = lab.domain_gradients(c.examples, scaling=c.geometry, against="mean")
        self._alignment = self._scaled(bought)
        self._absent = [name for name, there in zip(seen.domains, bought.present, strict=True) if not there]
        there = bought.present.astype(np.float64) @ self._bases
        gain = np.divide(self._alignment @ self._bases, there, out=np.zeros_like(there), where=there > 0.0)
        self._weights = moved(self._weights, c.eta * gain, there > 0.0)
        self._served = (1.0 - c.beta) * self._served + c.beta * (self._bases @ self._weights)
        return self._problem.mixture(self._served)

    def _scaled(self, bought: GradientEstimate) -> Array:
        """[m] alignments in the config's scaling; 0 where a domain or all targets are absent."""
        products = np.where(bought.present, bought.alignment(self._problem.target_shares), 0.0)
        size = np.ones_like(products)
        if self.config.scaling == "cosine":
            size = bought.norms * bought.target_norms[0]
        elif self.config.scaling == "mean_norm" and bought.present.any():
            size = np.full_like(products, bought.norms[bought.present].mean())
        return np.divide(products, size, out=np.zeros_like(products), where=size > 0.0)

    def state_dict(self) -> dict[str, Any]:
        """Weights over the bases; by domain the mixture in force and the last alignment; who was absent in it."""
        names = self._problem.domains
        return {
            "weights": self._weights.tolist()
            if self.config.bases
            else dict(zip(names, self._weights.tolist(), strict=True)),
            "served": dict(zip(names, self._served.tolist(), strict=True)),
            "alignment": dict(zip(names, self._alignment.tolist(), strict=True)),
            "absent": self._absent,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        names, weights = self._problem.domains, state["weights"]
        self._weights = np.array(weights if self.config.bases else [weights[name] for name in names])
        self._served, self._alignment = (np.array([state[what][n] for n in names]) for what in ("served", "alignment"))
        self._absent = list(state["absent"])

    def report(self) -> dict[str, Any]:
        """The last alignments by domain, as scaled, and the domains that had no gradient then."""
        aligned = dict(zip(self._problem.domains, self._alignment.tolist(), strict=True))
        return {"alignment": aligned} | ({"absent": self._absent} if self._absent else {})


def moved(weights: Array, gain: Array, there: BoolArray) -> Array:
    """One multiplicative step, [N], among those that are ``there``; the others keep their weight."""
    share = float(weights[there].sum())
    if not share > 0.0:
        return weights
    stepped = weights.copy()
    stepped[there] = share * simplex.exponentiated_gradient(weights[there] / share, gain[there])
    return stepped
