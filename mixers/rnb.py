"""R&B's Balance: weigh domains by how well their gradients serve the target."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mixers import paper_costs, simplex
from mixers.base import (
    Array,
    Choices,
    DomainGradients,
    Lab,
    Mixer,
    MixerError,
    Mixture,
    Needs,
    Observation,
    Problem,
    Span,
    space,
)  # fmt: skip


def balance(gram: Array, target: Array, lam: float) -> Array | None:
    """softmax(lam G p / ||G p||_2), [m]; ``None`` where G p is zero or not finite, so that it has no direction.

    gram: [m, m] inner products of the domains' mean gradients. target: [m] evaluation shares p; their sum does not
    matter. Neither does a positive factor on ``gram``.
    """
    alignment = gram @ target
    largest = float(np.abs(alignment).max())
    if not (math.isfinite(largest) and largest > 0.0):
        return None
    alignment = alignment / largest  # so that the norm neither overflows nor vanishes
    return simplex.softmax(lam * alignment / np.linalg.norm(alignment))


class RnB(Mixer):
    """Balance, the online half of *R&B: Domain Regrouping and Data Mixture Balancing* (arXiv 2505.00358).

    Source: Section 3.4, Algorithm 1 and Algorithm 3. After every round, with G_ij the inner product of the mean
    *training* gradients that domains i and j gathered during that round, and p the *target* shares (never the
    mixture in force), the mixture becomes softmax(lam G p / ||G p||_2). It is overwritten: no product with the last
    mixture and no average, and G starts afresh every round. The first mixture is uniform. No evaluation loss or
    gradient is computed: p weighs training gradients of the same domain. The Regroup half is a partition, ``kmeans``.

    Choices where the paper leaves room:

    - Norm: line 17 of Algorithm 3 prints the softmax without ||G p||_2. Section 3.4, Appendix B.1 and Algorithm 1
      have it, and the weights published for S1 fit only with it. It is used here.
    - Layers: the text says the final layer, and Table 7 has one layer for S1; the overhead figures reproduce with
      all linear layers. The default is 1; ``layers=0`` takes all that the task tracks.
    - lam: 3 is given for S1 only. Every logit lies in [-lam, lam] and is lam / sqrt(m) where all domains agree, so
      that one lam means a flatter mixture with more domains; see ``sqrt_m``.
    - Rounds: the text gives none; 10 is the number of the authors' cost model.
    - A domain without examples in a round is undefined in the paper. Its row and column of G are zero, hence its
      logit is 0: below every domain that serves the target, so that it may stay starved. ``floor`` prevents that.
    - G p zero or not finite (no training domain is a target, say): the mixture in force is kept, and reported.
    - Gradients are those of the example-mean loss, unclipped, averaged over a domain's examples of the round.
    """

    name = "rnb"
    search_space = space(
        lam=Span(low=0.3, high=30.0, log=True),
        ema=Span(low=0.0, high=0.9),
        debias=Choices(values=(False, True)),
    )

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """The paper's method by default; the fields from ``ema`` on switch on variants that are not in the paper.

        lam: strength of the preference; 0 is uniform, large is all on one domain. rounds: rounds T of the run.
        layers: the last n tracked linear layers; 0 for all. estimator: ``sketch`` (projected gradients, cheap) or
        ``exact``.
        ema: share of the old mixture kept at each update; 0 overwrites. floor: smallest weight of a domain, at most
        1/m. debias: take each step's product with itself out of G's diagonal, which sampling noise inflates for
        rarely drawn domains. sqrt_m: use lam sqrt(m), so that lam is the logit where all domains agree, for every m.
        cosine: divide G by the gradients' norms, so that only directions count.
        """

        lam: float = 3.0
        rounds: int = 10
        layers: int = 1
        estimator: Literal["sketch", "exact"] = "sketch"
        ema: float = 0.0
        floor: float = 0.0
        debias: bool = False
        sqrt_m: bool = False
        cosine: bool = False

        def __post_init__(self) -> None:
            for valid, rule in (
                (math.isfinite(self.lam) and self.lam >= 0.0, f"lam must be finite and at least 0, not {self.lam}"),
                (self.rounds >= 1, f"rounds must be at least 1, not {self.rounds}"),
                (self.layers >= 0, f"layers must be at least 0 (0: all), not {self.layers}"),
                (self.estimator in ("sketch", "exact"), f"estimator is sketch or exact, not {self.estimator}"),
                (0.0 <= self.ema < 1.0, f"ema must be in [0, 1), not {self.ema}"),
                (0.0 <= self.floor < 1.0, f"floor must be in [0, 1), not {self.floor}"),
            ):
                if not valid:
                    raise MixerError(f"rnb: {rule}")

    def needs(self) -> Needs:
        """The domains' gradients, ``rounds`` times."""
        c = self.config
        gradients = DomainGradients(layers=c.layers, estimator=c.estimator, self_products=c.debias)
        return Needs(rounds=c.rounds, signals=(gradients,))

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        """The uniform mixture."""
        self._target = problem.target_on_domains()
        self._weights = simplex.floored(simplex.uniform(problem.m), self.config.floor)
        self._absent: dict[str, list[int]] = {}
        self._skipped: list[int] = []
        return problem.mixture(self._weights)

    def update(self, seen: Observation, lab: Lab) -> Mixture | None:
        """The balanced mixture, or ``None`` where the gradients say nothing about the target."""
        c = self.config
        gradients = seen.domain_gradients
        for i in np.flatnonzero(gradients.counts == 0):
            self._absent.setdefault(seen.domains[i], []).append(seen.round)
        gram = gradients.gram(debiased=c.debias)
        if c.cosine:
            scale = np.outer(gradients.norms(), gradients.norms())
            gram = np.divide(gram, scale, out=np.zeros_like(gram), where=scale > 0.0)
        lam = c.lam * math.sqrt(len(seen.domains)) if c.sqrt_m else c.lam
        weights = balance(gram, self._target, lam)
        if weights is None:
            self._skipped.append(seen.round)
            return None
        self._weights = simplex.floored((1.0 - c.ema) * weights + c.ema * self._weights, c.floor)
        return Mixture(domains=seen.domains, weights=self._weights)

    def published_overhead(self, problem: Problem, *, train_units: float, tracked_fraction: float) -> float:
        """Table 4: m^2 inner products a round, and nothing else."""
        rounds = len(self.needs().boundaries(problem.steps))
        return paper_costs.rnb(m=problem.m, rounds=rounds, train_tokens=train_units, tracked_fraction=tracked_fraction)

    def state_dict(self) -> dict[str, Any]:
        """The remarks for the row, and with ``ema`` the mixture in force."""
        absent = {name: list(rounds) for name, rounds in self._absent.items()}
        state: dict[str, Any] = {"absent": absent, "skipped": list(self._skipped)}
        if self.config.ema > 0.0:
            state["weights"] = self._weights.tolist()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._absent = {name: list(rounds) for name, rounds in state["absent"].items()}
        self._skipped = list(state["skipped"])
        if "weights" in state:
            self._weights = np.array(state["weights"], dtype=np.float64)

    def report(self) -> dict[str, Any]:
        """Rounds in which a domain had no gradient, and rounds whose update was skipped, as in ``0-3,5``."""
        remarks: dict[str, Any] = {}
        if self._absent:
            remarks["absent"] = {name: _runs(rounds) for name, rounds in sorted(self._absent.items())}
        if self._skipped:
            remarks["skipped_updates"] = _runs(self._skipped)
            remarks["skipped_because"] = (
                "G p was zero or not finite" if self._target.any() else "no training domain is a target domain"
            )
        return remarks


def _runs(rounds: list[int]) -> str:
    """Ascending round numbers written compactly: 0, 1, 2, 5 is ``0-2,5``."""
    runs: list[list[int]] = []
    for i in rounds:
        if runs and i == runs[-1][1] + 1:
            runs[-1][1] = i
        else:
            runs.append([i, i])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
