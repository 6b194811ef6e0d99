"""The contract between a mixing algorithm and the referee.

A mixer reads a :class:`Problem` before training and an :class:`Observation` after every round, and answers with a
:class:`Mixture`. What it wants to observe it declares in :class:`Needs`; everything else it buys from the
:class:`Lab`, which writes a bill. Arrays are float64 on the host, aligned with ``Problem.domains`` unless a
docstring says ``targets``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

SIMPLEX_TOLERANCE = 1e-6


class MixerError(ValueError):
    """A mixer or a regrouper was configured or used wrongly; the message is one line with the remedy."""


class UndeclaredSignalError(MixerError):
    """A mixer read a signal that its ``needs()`` does not declare."""


class MixtureError(MixerError):
    """A mixture is not a point of the simplex over the problem's domains."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """The share of examples to draw from each domain, with optional weights on their losses.

    ``weights``: [m], non-negative, sums to one. ``loss_weights``: [m], non-negative, multiplies each example's loss
    by its domain's weight; ``None`` means one everywhere.
    """

    domains: tuple[str, ...]
    weights: Array
    loss_weights: Array | None = None

    def checked(self, domains: Sequence[str]) -> Mixture:
        """Return a frozen copy, or raise :class:`MixtureError` in one line that says what is wrong."""
        if tuple(self.domains) != tuple(domains):
            extra = sorted(set(self.domains) ^ set(domains))
            what = f"differs in {', '.join(extra[:5])}" if extra else "is in another order"
            raise MixtureError(f"the mixture's domain list {what}; use the names and order of Problem.domains")
        weights = _frozen(self.weights)
        if weights.shape != (len(domains),):
            raise MixtureError(f"the mixture has weights of shape {weights.shape}, expected ({len(domains)},)")
        if not np.all(np.isfinite(weights)):
            raise MixtureError("the mixture holds a weight that is not finite")
        if weights.min() < -SIMPLEX_TOLERANCE or abs(float(weights.sum()) - 1.0) > SIMPLEX_TOLERANCE:
            raise MixtureError(
                f"the mixture is not on the simplex (sum {weights.sum():.6g}, smallest weight {weights.min():.3g}); "
                "weights must be non-negative and sum to 1"
            )
        weights = np.clip(weights, 0.0, None)
        loss_weights = None
        if self.loss_weights is not None:
            loss_weights = _frozen(self.loss_weights)
            if loss_weights.shape != weights.shape or not np.all(np.isfinite(loss_weights)) or loss_weights.min() < 0:
                raise MixtureError("loss_weights must be finite, non-negative and one per domain")
        return Mixture(domains=tuple(domains), weights=_frozen(weights / weights.sum()), loss_weights=loss_weights)


def _frozen(values: npt.ArrayLike) -> Array:
    array = np.array(values, dtype=np.float64)
    array.setflags(write=False)
    return array


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What a mixer may know before training. It never holds the task's name.

    domains: names of the m training domains. targets: names of the n target domains (often the same ones).
    train_shares: [m], share of each domain in the training data. target_shares: [n], share of each target domain in
    the evaluation data (``p`` in R&B). examples, units: [m], training examples and units (tokens or pairs) a domain.
    steps, batch_size: the main budget. seed: the trial's seed, for mixers that draw random numbers.
    """

    domains: tuple[str, ...]
    targets: tuple[str, ...]
    train_shares: Array
    target_shares: Array
    examples: IntArray
    units: IntArray
    steps: int
    batch_size: int
    seed: int

    @property
    def m(self) -> int:
        """Number of training domains."""
        return len(self.domains)

    def mixture(self, weights: npt.ArrayLike, loss_weights: npt.ArrayLike | None = None) -> Mixture:
        """A checked mixture over this problem's domains."""
        raw = Mixture(
            domains=self.domains,
            weights=_frozen(weights),
            loss_weights=None if loss_weights is None else _frozen(loss_weights),
        )
        return raw.checked(self.domains)

    def target_on_domains(self) -> Array:
        """The target shares read on the training domains, [m]: zero where a domain is no target.

        Not renormalised: what falls on targets outside the training domains is lost, as in R&B. All zeros when no
        training domain is a target.
        """
        share = dict(zip(self.targets, self.target_shares.tolist(), strict=True))
        return _frozen([share.get(name, 0.0) for name in self.domains])


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


Signal = TrainLosses | DomainGradients


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchases:
    """Upper bound of what a mixer will buy from the lab during one trial, in calls."""

    validation_losses: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a mixer asks for: how many rounds the main run is cut into, which signals, and what it will buy.

    rounds: the mixture may change after every round but the last; each mixer has its own number. Clipped to the
    number of steps. every: steps in a round; takes the place of ``rounds`` where given.
    """

    rounds: int = 10
    every: int | None = None
    signals: tuple[Signal, ...] = ()
    purchases: Purchases = Purchases()

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


class Lab(Protocol):
    """Where a mixer buys what it does not see for free. Every call is billed to the trial."""

    def validation_losses(self) -> Array:
        """[n] mean validation loss of the live model per *target* domain, in the order of ``Problem.targets``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NoConfig:
    """A plugin without hyperparameters."""


class Mixer(ABC):
    """A data-mixing algorithm. Subclasses set ``name``, may set ``Config`` (a frozen dataclass), implement ``start``.

    A mixer that remembers anything between rounds returns it from ``state_dict`` as JSON-able data.
    """

    name: ClassVar[str]
    Config: ClassVar[type] = NoConfig

    def __init__(self, config: Any = None) -> None:
        self.config = self.Config() if config is None else config

    def needs(self) -> Needs:
        """Rounds, signals and purchases, from the mixer's own config."""
        return Needs()

    @abstractmethod
    def start(self, problem: Problem, lab: Lab) -> Mixture:
        """The mixture of the first round."""

    def update(self, seen: Observation, lab: Lab) -> Mixture | None:
        """The mixture of the next round; ``None`` keeps the present one. Not called after the last round."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """What ``update`` will need later, as JSON-able data."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned; called after ``start`` in a resumed trial."""
        if state:
            raise MixerError(f"mixer {self.name} has state but does not implement load_state_dict")

    def report(self) -> dict[str, Any]:
        """Remarks for the trial's row as JSON-able data, such as domains that had no gradient in a round."""
        return {}

    def published_overhead(self, problem: Problem, *, train_units: float, tracked_fraction: float) -> float | None:
        """The overhead by the method's own paper's formula, as a share of the training FLOPs; ``None``: it has none.

        train_units: tokens or pairs of the main run. tracked_fraction: share of the model's parameters in the layers
        whose domain gradients were declared. See :mod:`mixers.paper_costs`.
        """
        return None
