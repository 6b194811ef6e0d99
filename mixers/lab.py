"""What a mixer can buy, and what it gets for it. Import it from :mod:`mixers.base`.

Models stay with the referee: a mixer holds opaque :class:`Checkpoint` handles. Every purchase is on the trial's bill.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from mixers.problem import Array, BoolArray, Mixture

if TYPE_CHECKING:
    from mixers.base import Mixer

Scaling = Literal["none", "adam"]
Against = Literal["each", "mean"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A trained model that the referee keeps. key: JSON-able; it means nothing to a mixer."""

    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """An order: one training run on the trial's data, apart from the main run (a proxy, a reference).

    steps: optimiser steps; the learning-rate schedule has this length. mixture: a static one; or mixer: the mixer that
    drives the run, which buys at the parent's cost. size: the model's parameters as a share of the main model's, about.
    seed: runs of one seed start from the same weights and meet examples in the same order; it is joined with the
    trial's. shared: it is not, so that an equal order of another trial of the experiment is the same run, made once (as
    long as both trials cut the data alike); such a run has the seed of no trial's main run. start: weights to go on
    from, in place of fresh ones. subsample: share of every domain's training examples that is used, the same ones for
    every run and nested (a proxy whose budget is this share of the main run's repeats its data as often as the main run
    does: arXiv 2606.07597). evaluate_at: steps (0: before training) after which validation losses are taken besides the
    end. validation_examples: a target's examples in each evaluation; 0: all. keep: whether the trained model is kept as
    a checkpoint.
    """

    steps: int
    mixture: Mixture | None = None
    mixer: Mixer | None = None
    size: float = 1.0
    seed: int = 0
    start: Checkpoint | None = None
    subsample: float = 1.0
    evaluate_at: tuple[int, ...] = ()
    validation_examples: int = 0
    keep: bool = False
    shared: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What came of a run.

    steps: when it was evaluated, ascending, the end last. losses: [len(steps), n] mean validation losses by target,
    NaN where a target has no example. state: ``state_dict`` of the mixer that drove it, at the end. checkpoint: where
    it was to be kept. flops: all that it cost.
    """

    steps: tuple[int, ...]
    losses: Array
    state: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: Checkpoint | None = None
    flops: float = 0.0

    @property
    def final(self) -> Array:
        """[n] validation losses at the end."""
        last: Array = self.losses[-1]
        return last


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientEstimate:
    """Gradients of the live model, reduced to inner products. A domain without data is absent: zeros.

    products: [m, n] <g_i, t_j> of mean gradients over the examples drawn for each domain and target. norms: [m] of g_i.
    target_norms: [n]. variances: [m] estimated variance (trace of the covariance) of g_i as a mean over its examples,
    from its ``parts``; NaN with one part. present: [m], target_present: [n]. against: with ``mean`` there is one target
    gradient, that of the share-weighted mean of the losses of the targets that are present; products are then [m, 1]
    and target_norms [1].
    """

    products: Array
    norms: Array
    target_norms: Array
    variances: Array
    present: BoolArray
    target_present: BoolArray
    against: Against = "each"

    def alignment(self, target_shares: Array) -> Array:
        """[m] inner products with the gradient of the target loss, the share-weighted mean of the targets' losses.

        target_shares: [n]. They are not used where ``against`` is ``mean``: the problem's own are then in the products.
        """
        if self.against == "mean":
            return np.array(self.products[:, 0], dtype=np.float64)
        shares = np.where(self.target_present, target_shares, 0.0)
        total = shares.sum()
        return np.asarray(self.products @ (shares / total if total > 0 else shares), dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchases:
    """Upper bound of what a mixer will buy during one trial; the lab refuses more.

    validation_losses: calls. validation_examples: a target's examples in a call, 0: all. domain_gradients: calls.
    gradient_examples: examples of each domain and target in a call. gradients_against: ``mean`` where no call is
    against each target; it is cheaper where there are more than four. probe_steps: steps of the main run spent in
    probes: they cost nothing beside it. runs: the orders, as they will be given; what they cost counts, so a mixture
    that is not known yet may be any, and a checkpoint that does not exist yet has any key.
    """

    validation_losses: int = 0
    validation_examples: int = 0
    domain_gradients: int = 0
    gradient_examples: int = 0
    gradients_against: Against = "each"
    probe_steps: int = 0
    runs: tuple[Run, ...] = ()


class Lab(Protocol):
    """Where a mixer buys what it does not see for free. Every call is billed to the trial."""

    def validation_losses(self, examples: int = 0) -> Array:
        """[n] mean validation loss of the live model per *target* domain, in the order of ``Problem.targets``.

        examples: of each target, always the same ones; 0: all. NaN where a target has none.
        """
        ...

    def domain_gradients(
        self, examples: int, *, parts: int = 1, scaling: Scaling = "none", against: Against = "each"
    ) -> GradientEstimate:
        """Gradients of all parameters of the live model, on fresh examples of each training domain and each target.

        Training examples come from the training split, in an order of their own that does not touch the main run's;
        targets' come from validation. parts: micro-batches of a domain, for variances. scaling: ``adam`` divides
        products by the root of the optimiser's second moments, so that they speak of the steps that it would take.
        against: each target's gradient, or the one of the targets' share-weighted mean loss, for which every domain's
        gradient is formed once, however many targets there are.
        """
        ...

    def probe(self, mixture: Mixture, steps: int) -> None:
        """Train the live model for some steps of the main run on a mixture, with its optimiser and schedule."""
        ...

    def train(self, runs: Sequence[Run]) -> list[RunResult]:
        """Proxy and reference runs, in the order given; equal ones are made once and billed in full each time."""
        ...
