"""What a mixer reads and answers with: the problem and the mixture. Import them from :mod:`mixers.base`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
