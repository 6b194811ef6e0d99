"""What a mixer can buy, and what it gets for it. Import it from :mod:`mixers.base`.

Models stay with the referee: a mixer holds opaque :class:`Checkpoint` handles. Every purchase is on the trial's bill.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from mixers.problem import Array, BoolArray, IntArray, MixerError, Mixture

if TYPE_CHECKING:
    from mixers.base import Mixer

Scaling = Literal["none", "adam"]
Against = Literal["each", "mean"]
Layers = Literal["ends", "output", "all"]
InfluenceMethod = Literal["datainf", "grad_dot"]


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
    a checkpoint. keep_at: steps (0: before training) after which the model of that moment is kept too, for the result's
    ``checkpoints``; keeping costs nothing but room on the disk.
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
    keep_at: tuple[int, ...] = ()
    shared: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What came of a run.

    steps: when it was evaluated, ascending, the end last. losses: [len(steps), n] mean validation losses by target,
    NaN where a target has no example, and all of them where the run diverged. state: ``state_dict`` of the mixer that
    drove it, at the end. checkpoint: where it was to be kept. flops: all that it cost. checkpoints: the models kept on
    the way, by step.
    """

    steps: tuple[int, ...]
    losses: Array
    state: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: Checkpoint | None = None
    flops: float = 0.0
    checkpoints: Mapping[int, Checkpoint] = field(default_factory=dict)

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
class ExampleVectors:
    """Feature vectors of examples of each training domain and each target.

    train: [k, d] float32. domains: [k] index into ``Problem.domains``. validation: [l, d] float32. targets: [l] index
    into ``Problem.targets``. A domain or target without data has no row. Rows stand in the data's own order, whatever
    that of the domains is. embedder: the full name of what made the vectors. Nothing scales them to one length.
    """

    train: npt.NDArray[np.float32]
    domains: IntArray
    validation: npt.NDArray[np.float32]
    targets: IntArray
    embedder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Influence:
    """How the influence of training examples on targets is measured.

    examples: training examples of each domain, always the same ones in a trial. target_examples: of each target. Zero
    is all of them. layers: where gradients are read: ``ends`` (what examples enter by and the output layer), ``output``
    or ``all`` (both ends and every tracked linear layer between). method: ``grad_dot``, inner products of gradients,
    or ``datainf`` (arXiv 2310.00902), with an inverse curvature between them, damped in each layer by ``damping``
    times the mean squared gradient norm over the layer's size.
    """

    examples: int = 32
    target_examples: int = 32
    layers: Layers = "ends"
    method: InfluenceMethod = "datainf"
    damping: float = 0.1

    def __post_init__(self) -> None:
        for valid, rule in (
            (self.examples >= 0, f"examples must be at least 0, not {self.examples}"),
            (self.target_examples >= 0, f"target_examples must be at least 0, not {self.target_examples}"),
            (self.layers in ("ends", "output", "all"), f"layers is ends, output or all, not {self.layers}"),
            (self.method in ("datainf", "grad_dot"), f"method is datainf or grad_dot, not {self.method}"),
            (0.0 < self.damping < float("inf"), f"damping must be positive and finite, not {self.damping}"),
        ):
            if not valid:
                raise MixerError(f"influence: {rule}")


@dataclass(frozen=True, slots=True, kw_only=True)
class InfluenceEstimate:
    """Influence of k training examples. A domain without examples has no row.

    influence: [k, n]; positive where a small step on the example *lowers* the target's loss (the mean over its
    examples); NaN for a target that was not asked for or has no example. domains: [k] index of the example's domain.
    units: [k] units (tokens, pairs) of the example. examples: [k] numbers of the examples, the same in every call.
    """

    influence: Array
    domains: IntArray
    units: Array
    examples: IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchases:
    """Upper bound of what a mixer will buy during one trial; the lab refuses more.

    validation_losses: calls. validation_examples: a target's examples in a call, 0: all. domain_gradients: calls.
    gradient_examples: examples of each domain and target in a call. gradients_against: ``mean`` where no call is
    against each target; it is cheaper where there are more than four. probe_steps: steps of the main run spent in
    probes: they cost nothing beside it. runs: the orders, as they will be given; what they cost counts, so a mixture
    that is not known yet may be any, and a checkpoint that does not exist yet has any key. embedding_examples: of each
    domain and target in the one call of ``embeddings``, 0: none. embedder: whose vectors those are. influence: calls,
    each on all targets at most. influence_how: of every call. influence_size: size of the largest model that is asked.
    """

    validation_losses: int = 0
    validation_examples: int = 0
    domain_gradients: int = 0
    gradient_examples: int = 0
    gradients_against: Against = "each"
    probe_steps: int = 0
    runs: tuple[Run, ...] = ()
    embedding_examples: int = 0
    embedder: str = "auto"
    influence: int = 0
    influence_how: Influence = Influence()
    influence_size: float = 1.0


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

    def embeddings(self, examples: int, embedder: str = "auto") -> ExampleVectors:
        """Vectors of up to so many examples of each training domain, and of each target's validation examples.

        Always the same examples, for every mixer of a trial; fewer ask for the first of them. No model is trained for
        it. embedder: ``auto`` lets the task choose; otherwise a name that the task knows. Sold once a run. Tasks embed
        whole splits, so the price is that of all training and all validation data, however few examples are wanted.
        """
        ...

    def influence(
        self, checkpoint: Checkpoint, how: Influence, targets: Sequence[int] | None = None
    ) -> InfluenceEstimate:
        """How much a small step on each of some training examples would lower the targets' losses, at a kept model.

        targets: positions in ``Problem.targets``; ``None``: all. Only those asked for are paid for.
        """
        ...
