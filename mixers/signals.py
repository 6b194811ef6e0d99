"""What a mixer can ask to see of training, and what it then sees. Import it from :mod:`mixers.base`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mixers.lab import Checkpoint
from mixers.problem import Array, BoolArray, IntArray, UndeclaredSignalError


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainLosses:
    """Signal: mean training loss per domain over the round (example-mean). Costs one small add a step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainGradients:
    """Signal: inner products between the domains' mean training gradients of the last tracked linear layers.

    layers: how many of the task's tracked layers, counted from the end (layers that stand side by side, as the
    projections of two towers, count as one); 0 means all of them.
    estimator: ``exact`` accumulates whole weight gradients per domain; ``sketch`` accumulates an unbiased random
    projection of them, drawn anew every round, whose price and error ``benchmarks/gradient_price.py`` and
    ``benchmarks/gradient_error.py`` measure.
    rows, columns: size of the sketch on the layer's output and on its input side (``sketch`` only; 0 leaves a side
    whole). The error falls about as 1/sqrt(rows) + 1/sqrt(columns). A token costs
    2 (outputs + inputs columns + rows columns) FLOPs, and the sums 4 rows columns bytes a domain, in every layer.
    self_products: also keep the squared norms of every step's own sums, for a debiased diagonal.
    """

    layers: int = 1
    estimator: str = "sketch"
    rows: int = 64
    columns: int = 0
    self_products: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLosses:
    """Signal: every step's losses, unit by unit, go to :meth:`mixers.base.Mixer.reweigh` before the backward pass.

    reference: a kept model whose losses on the same batch come along; that costs its forward pass a step.
    """

    reference: Checkpoint | None = None


Signal = TrainLosses | DomainGradients | StepLosses


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLosses:
    """The losses of one batch, before its backward pass.

    domains: names. labels: [B] index into them. losses, reference: [B, U] of every unit (token, pair), float64. mask:
    [B, U] True where the unit counts. step: optimiser steps done before this one.
    """

    domains: tuple[str, ...]
    labels: IntArray
    losses: Array
    mask: BoolArray
    reference: Array | None
    step: int

    @property
    def examples(self) -> IntArray:
        """[m] examples of each domain in the batch."""
        return np.bincount(self.labels, minlength=len(self.domains)).astype(np.int64)

    def means(self, values: Array) -> Array:
        """[m] mean of [B, U] values over the counted units of each domain; NaN where the batch has none."""
        m = len(self.domains)
        top = np.bincount(self.labels, weights=(values * self.mask).sum(1), minlength=m)
        bottom = np.bincount(self.labels, weights=self.mask.sum(1), minlength=m)
        return np.divide(top, bottom, out=np.full(m, np.nan), where=bottom > 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a mixer asks for: how many rounds the main run is cut into, and which signals.

    rounds: the mixture may change after every round but the last; each mixer has its own number. Clipped to the
    number of steps. every: steps in a round; takes the place of ``rounds`` where given.
    """

    rounds: int = 10
    every: int | None = None
    signals: tuple[Signal, ...] = ()

    def boundaries(self, steps: int) -> tuple[int, ...]:
        """The steps after which a round ends, in order; the last is ``steps`` itself."""
        if self.every is not None:
            inner = range(self.every, steps, self.every)
            return (*inner, steps)
        rounds = max(1, min(self.rounds, steps))
        return tuple(round(steps * (i + 1) / rounds) for i in range(rounds))


class GradientView(Protocol):
    """The round's domain gradients, reduced to what a mixer may read."""

    @property
    def counts(self) -> IntArray:
        """[m] examples behind each domain's mean gradient."""
        ...

    def gram(self, *, debiased: bool = False) -> Array:
        """[m, m] inner products of the mean gradients; rows and columns of absent domains are zero.

        debiased: take the products of a step's sum with itself out of the diagonal, so that sampling noise does not
        inflate it (needs ``self_products``); a domain seen in one step only then has diagonal zero.
        """
        ...

    def norms(self) -> Array:
        """[m] norms of the mean gradients (from the biased diagonal)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What a mixer sees after a round. Arrays are read-only and [m]; ``present`` says which domains were served.

    step: optimiser steps done. steps: steps in all. round: index of the round that ended, from 0. learning_rate: that
    of the last step. mixture_id: number of the mixture that was in force (0 is the one from ``start``).
    examples, units: served during the round.
    """

    domains: tuple[str, ...]
    step: int
    steps: int
    round: int
    learning_rate: float
    mixture_id: int
    examples: IntArray
    units: IntArray
    losses: Array | None = None
    gradients: GradientView | None = None

    @property
    def present(self) -> BoolArray:
        """[m] True where the round served at least one example."""
        return self.examples > 0

    @property
    def train_losses(self) -> Array:
        """[m] mean training loss per domain; NaN where absent. Needs ``TrainLosses()``."""
        if self.losses is None:
            raise UndeclaredSignalError("train_losses was not declared: add TrainLosses() to needs().signals")
        return self.losses

    @property
    def domain_gradients(self) -> GradientView:
        """The round's domain gradients. Needs ``DomainGradients(...)``."""
        if self.gradients is None:
            raise UndeclaredSignalError("domain_gradients was not declared: add DomainGradients() to needs().signals")
        return self.gradients
