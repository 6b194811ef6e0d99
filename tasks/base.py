"""The contract between a task and the referee: corpus, model, loss, metrics, requirements.

A task says what is trained on what and how it is judged. It owns no training loop and never sees a mixture.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from tasks.outcomes import Best as Best
from tasks.outcomes import Outcomes as Outcomes
from tasks.outcomes import Size as Size
from tasks.outcomes import Support as Support
from tasks.requirement import Requirement as Requirement

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
SPLITS = ("train", "validation", "test")
SplitName = Literal["train", "validation", "test"]
Schedule = Literal["cosine", "linear", "constant"]
Combination = Literal["logits", "probabilities"]


class TaskError(ValueError):
    """A task's data, model or configuration is wrong; the message is one line with the remedy."""


# Metadata of a config field that came after rows were published: at its default it is no part of a trial's identity,
# so that older rows, which lack it, stay the same trial.
ADDED = {"added": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a task's model is trained at one preset; every mixer gets the same one (AdamW with warm-up and decay).

    steps, batch_size (examples), learning_rate (peak), final_lr (share of the peak at the end), warmup (share of the
    steps), weight_decay, betas, clip_norm (0 switches clipping off), time_limit (seconds for one trial, 0: none).
    schedule: what follows the linear warm-up: ``cosine`` or ``linear`` decay to ``final_lr``, or ``constant``.
    eps: AdamW's.
    """

    steps: int
    batch_size: int
    learning_rate: float
    final_lr: float = 0.1
    warmup: float = 0.1
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    clip_norm: float = 1.0
    time_limit: float = 0.0
    schedule: Schedule = field(default="cosine", metadata=ADDED)
    eps: float = field(default=1e-8, metadata=ADDED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A named scale of a task: its recipe, the model and data settings that differ from the task's config defaults."""

    name: str
    recipe: Recipe
    settings: Mapping[str, Any] = field(default_factory=dict)
    summary: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A ratio metric: sum of numerators over sum of denominators of the examples it covers.

    higher_is_better gives the direction; ``primary`` marks the one that a leaderboard ranks by.
    """

    name: str
    unit: str
    higher_is_better: bool
    primary: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """What the training step needs of a forward pass.

    per_unit: [B, U] float32 loss of every unit (token, pair). mask: [B, U] float32, 1 where the unit counts.
    per_example: [B] float32, the mean of an example's counted units; the training loss is its (weighted) mean.
    """

    per_unit: Tensor
    mask: Tensor
    per_example: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Per-example sums from which any grouping's metrics follow.

    domains: [n] original domain index of every example. sums: metric name -> ([n] numerators, [n] denominators); an
    example that a metric leaves out (a sample was judged) has zero in both.
    baselines: the same for what needs no learning, where a metric has such a value: the best constant answer, chance.
    """

    domains: IntArray
    sums: Mapping[str, tuple[FloatArray, FloatArray]]
    baselines: Mapping[str, tuple[FloatArray, FloatArray]] = field(default_factory=dict)

    def by_domain(self, metric: str, m: int, *, baseline: bool = False) -> FloatArray:
        """[m] the metric (or its baseline) within each original domain; NaN where a domain has no example."""
        numerator, denominator = (self.baselines if baseline else self.sums)[metric]
        top = np.bincount(self.domains, weights=numerator, minlength=m)
        bottom = np.bincount(self.domains, weights=denominator, minlength=m)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(bottom > 0, top / bottom, np.nan)


@dataclass(frozen=True, slots=True, kw_only=True)
class Embeddings:
    """Vectors of examples: [n, d] float32, the embedder's full name and version, and what they cost.

    flops: counted. seconds: measured when they were made, also where a cache answered. cached: whether it did.
    """

    vectors: npt.NDArray[np.float32]
    embedder: str
    flops: float
    seconds: float
    cached: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Qualities:
    """Scores of examples: [n], larger is better, on the scorer's own scale. flops, seconds: as for embeddings."""

    values: FloatArray
    flops: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """A task's data, split once from a fixed split seed.

    domains: the m original domain names, of training and of evaluation data; a domain without training examples is a
    target only, one without validation and test examples is a source only. labels: per split, [n] index into
    ``domains``. units: per split, [n] units (tokens, pairs) an example trains on. examples: per split, the task's own
    storage, opaque to the referee. train_shares, target_shares: [m]; a target domain needs test examples.
    weights: per split, [n] what an example counts for in judgement, where that is not one (versions of one thing share
    its weight); a regrouped domain's target share counts validation examples by it.
    fingerprint: hash of contents and splits. expected_fingerprint: that of the published corpus, ``None`` where there
    is none. provenance: where the data came from, for the row.
    """

    domains: tuple[str, ...]
    labels: Mapping[str, IntArray]
    units: Mapping[str, IntArray]
    examples: Mapping[str, Any]
    train_shares: FloatArray
    target_shares: FloatArray
    fingerprint: str
    expected_fingerprint: str | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, FloatArray] = field(default_factory=dict)


Batch = dict[str, Tensor]
Stage = nn.Linear | tuple[nn.Linear, ...]


class Task(ABC):
    """What every task says of itself. Subclasses set the class attributes and ``Config``, a frozen dataclass.

    ``presets`` maps names to scales. A task object is made from its config, a preset and a cache folder; it is cheap
    to make: data is read in ``load``.
    """

    name: ClassVar[str]
    unit: ClassVar[str]
    metrics: ClassVar[tuple[Metric, ...]]
    Config: ClassVar[type]
    presets: ClassVar[Mapping[str, Preset]]

    @classmethod
    def primary(cls) -> Metric:
        """The metric that a leaderboard ranks by."""
        return next(metric for metric in cls.metrics if metric.primary)

    @classmethod
    def configure(cls, preset: Preset, overrides: Mapping[str, Any]) -> Any:
        """The task's config: its defaults, replaced by the preset's settings, replaced by the user's own.

        Raises :class:`TaskError` in one line for an unknown field (with the nearest valid one) or a wrong value.
        """
        valid = [item.name for item in fields(cls.Config)]
        for name in overrides:
            if name not in valid:
                near = get_close_matches(str(name), valid, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]!r}?" if near else f"valid ones are {', '.join(valid)}"
                raise TaskError(f"task {cls.name} has no setting {name!r}; {hint}")
        try:
            return TypeAdapter(cls.Config).validate_python({**preset.settings, **overrides})
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            cause = first.get("ctx", {}).get("error")
            reason = str(cause) if cause is not None else f"setting {where}={first['input']!r}: {first['msg']}"
            raise TaskError(f"task {cls.name}: {reason}") from None

    def __init__(self, config: Any, preset: Preset, cache: Path) -> None:
        self.config = config
        self.preset = preset
        self.cache = cache

    def requirements(self) -> Sequence[Requirement]:
        """What this config needs beyond the package itself, and what of it is there; quick, reads no data."""
        return ()


class TabularTask(Task):
    """A task whose runs were made by others, who published each one's mixture and losses; nothing is trained.

    Its metrics are ``loss``, the primary one, and ``regret``, both made by the referee. Its presets are nominal
    recipes: mixers read a budget in steps, of which a table knows nothing.
    """

    @abstractmethod
    def load(self) -> Outcomes:
        """Read the table and fit what answers for mixtures between its rows; cached. Raises :class:`TaskError`."""


class TrainableTask(Task):
    """A task whose score comes from training a model, which is made in ``build_model``."""

    @abstractmethod
    def load(self) -> Corpus:
        """Read, split and prepare the data; cached on disk where that is slow. Raises :class:`TaskError`."""

    @abstractmethod
    def build_model(self, seed: int) -> nn.Module:
        """A fresh model for this preset; initial weights depend on ``seed`` alone. Call after ``load``."""

    def tracked(self, model: nn.Module) -> Sequence[Stage]:
        """The linear layers where domain gradients can be read, in definition order; mixers count from the end.

        A stage is one layer, or several that count as one because they stand side by side (the projections of two
        towers); their gradients are concatenated. A layer's input must lead with the batch, one row of blocks an
        example: what flows through an example's rows is taken for that example's gradient. Where losses are not
        separable by example (contrastive ones), the task's docstring says what that means.
        """
        return [module for module in model.modules() if isinstance(module, nn.Linear)]

    @abstractmethod
    def batch(self, corpus: Corpus, split: str, indices: IntArray) -> Batch:
        """Host tensors of these examples, batch first; shapes do not depend on which examples they are."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch) -> Losses:
        """One forward pass over a batch that is on the model's device."""

    @abstractmethod
    def evaluate(
        self, model: nn.Module, corpus: Corpus, split: str, *, device: torch.device, dtype: torch.dtype
    ) -> Scores:
        """Every metric on every example of ``validation`` or ``test``, without gradients; leaves the mode as found."""

    def combine(self, models: Sequence[nn.Module], weights: FloatArray, how: Combination) -> nn.Module:
        """What ``evaluate`` takes in a model's place: k of this task's models by weights [k] > 0 that sum to one.

        how: ``logits`` averages what the softmax is taken of, ``probabilities`` what comes of it.
        """
        raise TaskError(f"task {self.name} cannot combine models' predictions; it lacks combine() of TrainableTask")

    def take(self, corpus: Corpus, split: str, indices: IntArray) -> Corpus:
        """The corpus with only these examples in a split.

        Overridden where a split's storage cannot be indexed by an array of indices.
        """
        return replace(
            corpus,
            labels={**corpus.labels, split: corpus.labels[split][indices]},
            units={**corpus.units, split: corpus.units[split][indices]},
            examples={**corpus.examples, split: corpus.examples[split][indices]},
        )

    def scaled(self, size: float) -> TrainableTask:
        """This task with a model of about ``size`` times the parameters, for proxy runs; the data stay the same."""
        if size == 1.0:
            return self
        raise TaskError(f"task {self.name} has models of one size; order proxy runs with size=1")

    def modalities(self) -> tuple[str, ...]:
        """Names of embedders, one for each modality that an example has."""
        return ("auto",)

    @abstractmethod
    def embed(self, corpus: Corpus, split: str, embedder: str) -> Embeddings:
        """Vectors of a split's examples for regroupers, cached by content; ``auto`` names the task's default."""

    def qualities(self, corpus: Corpus, split: str, scorer: str) -> Qualities:
        """Scores of a split's examples, for regroupers that prune. Overridden by tasks that have a scorer."""
        raise TaskError(f"task {self.name} has no scorer of quality named {scorer!r}, nor any other")
