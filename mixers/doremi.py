"""DoReMi: weights from a small proxy that is trained to lose nowhere against a reference."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mixers import simplex
from mixers.base import (
    Array,
    BatchLosses,
    Checkpoint,
    Choices,
    Lab,
    Mixer,
    MixerError,
    Mixture,
    Needs,
    Problem,
    Purchases,
    Run,
    Span,
    StepLosses,
    space,
)  # fmt: skip

Normaliser = Literal["domain", "released"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyConfig:
    """step_size, smoothing, normaliser: as in DoReMi's. reference: key of the reference model."""

    step_size: float = 1.0
    smoothing: float = 1e-3
    normaliser: Normaliser = "domain"
    reference: str = ""


class Proxy(Mixer):
    """The proxy's group DRO: uniform sampling, loss weights that follow the excess losses of every batch."""

    Config = ProxyConfig

    def needs(self) -> Needs:
        """Every step's losses, its own and the reference's."""
        return Needs(rounds=1, signals=(StepLosses(reference=Checkpoint(key=self.config.reference)),))

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        """Uniform sampling to the end."""
        self._weights = simplex.uniform(problem.m)
        self._excess, self._sum, self._count = np.zeros(problem.m), np.zeros(problem.m), 0
        return problem.mixture(simplex.uniform(problem.m))

    def reweigh(self, batch: BatchLosses) -> Array | None:
        """Algorithm 1: clip per token, average per domain, step, normalise, smooth; then weigh this very batch."""
        c = self.config
        assert batch.reference is not None
        excess = batch.means(np.maximum(batch.losses - batch.reference, 0.0))
        self._excess = np.where(np.isnan(excess), self._excess, excess)
        stepped = simplex.exponentiated_gradient(self._weights, c.step_size * self._excess)
        self._weights = simplex.mix_with_uniform(stepped, c.smoothing)
        self._sum, self._count = self._sum + self._weights, self._count + 1
        counts = batch.examples.astype(np.float64)
        if c.normaliser == "released":
            return self._weights * counts.sum() / float(self._weights @ counts)
        return np.divide(self._weights * counts.sum(), counts, out=np.zeros_like(counts), where=counts > 0)

    def state_dict(self) -> dict[str, Any]:
        """Weights, excess losses and the sum that the average is made of."""
        arrays = {"weights": self._weights, "excess": self._excess, "sum": self._sum}
        return {name: array.tolist() for name, array in arrays.items()} | {"count": self._count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._weights, self._excess, self._sum = (np.array(state[name]) for name in ("weights", "excess", "sum"))
        self._count = int(state["count"])


class DoReMi(Mixer):
    """Buy a reference run and a proxy run under group DRO; sample by the time average of the proxy's weights.

    Source: Xie et al., *DoReMi: Optimizing Data Mixtures Speeds Up Language Model Pretraining* (arXiv 2305.10429),
    Equation 1 and Algorithm 1, and the code sangmichaelxie/doremi 7cde52d. (1) A reference on the reference shares. (2)
    A proxy with uniform sampling: lambda_i is the mean over domain i's tokens of max(loss - reference loss, 0), clipped
    *per token, then averaged*; alpha' = alpha exp(eta lambda), alpha = (1 - c) alpha' / sum + c / m; the step is taken
    on the losses weighted by the *new* alpha. (3) The main run samples by the mean of alpha over the steps, from the
    first. Several ``rounds`` take the average for the next reference, until no weight moves by 1e-3.

    Choices:

    - normaliser: ``domain`` weighs each domain's mean loss by alpha (paper); ``released`` divides the weighted sum by
      the weighted count of the whole batch. Counts are of examples, whose losses are means over their tokens: the same
      as counting tokens where all examples are of one length.
    - A domain absent from a batch (0/0 in the paper) keeps its last excess, 0 at first. The code does so too, but
      starts at ln(vocabulary).
    - The average starts with the first step's weights; the code counts the uniform ones as a sample, too.
    - reference: ``natural`` (Pile) or ``uniform`` (GLaM; then iterate). Proxy and reference are of the main run's
      length, as in the paper, unless ``proxy_share`` says less, and of ``proxy_size``.
    - Scale: losses multiplied by a constant act as eta multiplied by it.

    With batches that are small against the number of domains alpha runs to one domain within a batch or two; the
    authors advise a smaller eta (0.1) and the natural reference.
    """

    name = "doremi"
    search_space = space(
        step_size=Span(low=0.01, high=2.0, log=True),
        smoothing=Span(low=1e-4, high=0.1, log=True),
        reference=Choices(values=("natural", "uniform")),
    )

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """step_size: the paper's eta. smoothing: its c. rounds. proxy_share: of the main run's steps. proxy_size."""

        step_size: float = 1.0
        smoothing: float = 1e-3
        rounds: int = 1
        normaliser: Normaliser = "domain"
        reference: Literal["natural", "uniform"] = "natural"
        proxy_share: float = 1.0
        proxy_size: float = 1.0

        def __post_init__(self) -> None:
            for valid, rule in (
                (0.0 <= self.step_size < math.inf, f"step_size must be finite and at least 0, not {self.step_size}"),
                (0.0 <= self.smoothing <= 1.0, f"smoothing must be in [0, 1], not {self.smoothing}"),
                (self.rounds >= 1, f"rounds must be at least 1, not {self.rounds}"),
                (0.0 < self.proxy_share <= 1.0, f"proxy_share must be in (0, 1], not {self.proxy_share}"),
                (self.proxy_size > 0.0, f"proxy_size must be above 0, not {self.proxy_size}"),
            ):
                if not valid:
                    raise MixerError(f"doremi: {rule}")

    def needs(self) -> Needs:
        """One round: the main run's mixture is static."""
        return Needs(rounds=1)

    def _pair(self, problem: Problem, shares: Array, key: str) -> tuple[Run, Run]:
        """The reference's order and the proxy's."""
        c = self.config
        steps = max(1, round(c.proxy_share * problem.steps))
        proxy = ProxyConfig(step_size=c.step_size, smoothing=c.smoothing, normaliser=c.normaliser, reference=key)
        reference = Run(steps=steps, mixture=problem.mixture(shares), size=c.proxy_size, keep=True)
        return reference, Run(steps=steps, mixer=Proxy(proxy), size=c.proxy_size)

    def purchases(self, problem: Problem) -> Purchases:
        """A reference and a proxy a round."""
        return Purchases(runs=self._pair(problem, simplex.uniform(problem.m), "later") * self.config.rounds)

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        """The averaged weights of the last round's proxy."""
        shares = simplex.uniform(problem.m) if self.config.reference == "uniform" else problem.train_shares
        self._rounds: list[list[float]] = []
        for _ in range(self.config.rounds):
            (reference,) = lab.train([self._pair(problem, shares, "")[0]])
            assert reference.checkpoint is not None
            (proxy,) = lab.train([self._pair(problem, shares, reference.checkpoint.key)[1]])
            average = simplex.normalise(np.array(proxy.state["sum"]) / proxy.state["count"])
            moved, shares = float(np.abs(average - shares).max()), average
            self._rounds.append(average.tolist())
            if moved < 1e-3:
                break
        return problem.mixture(shares)

    def report(self) -> dict[str, Any]:
        """The averaged weights of every round."""
        return {"rounds": self._rounds}
