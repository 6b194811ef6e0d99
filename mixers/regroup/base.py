"""The contract between a regrouper and the referee."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from mixers.base import IntArray, Lab, MixerError, NoConfig, Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouping:
    """What a regrouper may know: the original labels of the training and validation examples, and the seed.

    domains: the original domain names, of training and of validation data. train, validation: [n_train],
    [n_validation] indices into ``domains``.
    """

    domains: tuple[str, ...]
    train: IntArray
    validation: IntArray
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """A cut of the data into domains. ``report`` goes into the row (k, silhouette, sizes, embedder, ...).

    domains: the new names. targets: names of the target domains where they are others than the training domains;
    empty where they are the same. train: [n_train] index into ``domains``. validation: [n_validation] index into
    ``targets``, or into ``domains`` where that is empty. Every training domain must own at least one training example:
    a domain without training data could not be sampled.
    """

    domains: tuple[str, ...]
    train: IntArray
    validation: IntArray
    targets: tuple[str, ...] = ()
    report: dict[str, Any] = field(default_factory=dict)

    @property
    def target_domains(self) -> tuple[str, ...]:
        """Names that ``validation`` points into."""
        return self.targets or self.domains

    def checked(self, grouping: Grouping) -> Partition:
        """Return self, or raise :class:`MixerError` in one line."""
        for name, labels, expected, names in (
            ("train", self.train, grouping.train, self.domains),
            ("validation", self.validation, grouping.validation, self.target_domains),
        ):
            if labels.shape != expected.shape:
                raise MixerError(f"the partition labels {labels.shape[0]} {name} examples, not {expected.shape[0]}")
            if labels.size and (labels.min() < 0 or labels.max() >= len(names)):
                raise MixerError(f"the partition has a {name} label outside 0..{len(names) - 1}")
        empty = np.setdiff1d(np.arange(len(self.domains)), self.train)
        if empty.size:
            raise MixerError(f"the partition's domain {self.domains[int(empty[0])]} has no training example")
        for names in (self.domains, self.targets):
            if len(set(names)) != len(names):
                raise MixerError("the partition repeats a domain name")
        return self


class RegroupLab(Protocol):
    """What a regrouper may buy. Seconds are billed by the referee; FLOPs of its own work it reports itself."""

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of embedders, one for each modality that an example has: ``("auto",)`` where there is but one."""
        ...

    def embeddings(self, split: str, embedder: str) -> npt.NDArray[np.float32]:
        """[n, d] vectors of the ``train`` or ``validation`` examples; billed; rows follow ``Grouping``'s order.

        embedder: ``auto`` lets the task choose; otherwise a name that the task knows. The row says which it was.
        """
        ...

    def qualities(self, split: str, scorer: str) -> npt.NDArray[np.float64]:
        """[n] quality of each example of a split, larger is better; billed; rows follow ``Grouping``'s order.

        scorer: a name that the task knows. Few tasks know any: the others refuse, and say so.
        """
        ...

    def labelled(self) -> tuple[Problem, Lab]:
        """The problem as the original labels cut it, and a lab that sells runs and influence on it; billed.

        Influence names training examples by their place in ``Grouping.train``. Only for a regrouper that ``trains``.
        """
        ...

    def charge(self, flops: float, what: str) -> None:
        """Add FLOPs of the regrouper's own computations to the bill."""
        ...


class Regrouper(ABC):
    """Cuts the training data into domains, once, before training. Subclasses set ``name`` and implement ``regroup``.

    trains: whether the cut comes from training runs, so that it depends on the recipe, too.
    """

    name: ClassVar[str]
    trains: ClassVar[bool] = False
    Config: ClassVar[type] = NoConfig

    def __init__(self, config: Any = None) -> None:
        self.config = self.Config() if config is None else config

    @abstractmethod
    def regroup(self, grouping: Grouping, lab: RegroupLab) -> Partition:
        """The new partition."""
