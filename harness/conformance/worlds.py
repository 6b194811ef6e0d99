"""Worlds that are written down in advance, to see how a mixer behaves: no model, no training, milliseconds.

Everything that a domain shows (shares, losses, gradients, served examples) hangs on its identity, a number from 0 to
m - 1, and on the step. Two worlds that differ in the order or the names of their domains alone therefore show the same
domains, and a mixer's answers can be compared between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.gradients import RoundGradients
from mixers.base import (
    Against,
    Array,
    BatchLosses,
    DomainGradients,
    ExampleVectors,
    GradientEstimate,
    InfluenceEstimate,
    IntArray,
    Mixer,
    Mixture,
    Observation,
    Problem,
    TrainLosses,
)

UNITS_PER_EXAMPLE = 20
_WIDTH = 8
_NOISE = 0.3
_EMBEDDED = 12  # examples of a domain or target that have vectors
_PRESENT = ((1, 1, 0, 1, 0), (0, 1, 0, 0, 0), (0, 1, 1, 1, 0), (1, 1, 1, 1, 0))  # by round; domain 4 is never served


@dataclass(frozen=True, kw_only=True)
class World:
    """One scripted course of training over m domains.

    order: the identity of the domain at each position; ascending where empty. names: by identity; d0, d1, ... where
    empty. absent: rounds leave domains out, one of them always, of which no gradient or vector can be bought either,
    and one target has no validation example. apart: the targets are three other domains. read_only: arrays refuse to
    be written to; otherwise every array is a fresh copy that may be spoilt. everything: show all signals; otherwise
    those that the mixer declares.
    """

    m: int = 5
    order: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    steps: int = 40
    batch_size: int = 16
    seed: int = 0
    absent: bool = False
    apart: bool = False
    read_only: bool = False
    everything: bool = True

    @property
    def _identities(self) -> list[int]:
        return list(self.order) or list(range(self.m))

    def _by_position(self, values: npt.ArrayLike) -> Any:
        """A copy in the order of the domains, of numbers by identity."""
        return self._shown(np.array(values)[self._identities])

    def _shown(self, array: Any) -> Any:
        array.setflags(write=not self.read_only)
        return array

    def _drawn(self, what: int, low: float, high: float) -> Array:
        """[m] fixed numbers by identity."""
        return np.random.default_rng([self.m, what]).uniform(low, high, self.m)

    @property
    def domains(self) -> tuple[str, ...]:
        """The names by position."""
        names = self.names or tuple(f"d{i}" for i in range(self.m))
        return tuple(names[i] for i in self._identities)

    def problem(self) -> Problem:
        """What the mixer may know before training."""
        amount, target = self._drawn(1, 0.2, 2.0), self._drawn(2, 0.2, 2.0)
        examples = np.ceil(1000 * amount).astype(np.int64)
        return Problem(
            domains=self.domains,
            targets=("t0", "t1", "t2") if self.apart else self.domains,
            train_shares=self._by_position(examples / examples.sum()),
            target_shares=self._shown(np.array([0.5, 0.3, 0.2]))
            if self.apart
            else self._by_position(target / target.sum()),
            examples=self._by_position(examples),
            units=self._by_position(examples * UNITS_PER_EXAMPLE),
            steps=self.steps,
            batch_size=self.batch_size,
            seed=self.seed,
        )

    def _losses(self, step: int, what: int) -> Array:
        """[m] losses by identity that fall with training, each at its own pace to its own floor."""
        floor, gap = self._drawn(what, 0.5, 2.0), self._drawn(what + 1, 0.5, 3.0)
        falls = (1.0 + 20.0 * step / self.steps) ** -self._drawn(what + 2, 0.1, 0.6)
        return floor + gap * falls + 0.01 * np.sin(3.0 * np.arange(self.m) + step)

    def _served(self, round: int, steps: int) -> IntArray:
        """[m] examples by identity; they add up to the batches of the round."""
        can = np.ones(self.m, dtype=np.int64)
        if self.absent:
            can = np.array(_PRESENT[round % len(_PRESENT)], dtype=np.int64)
        total = steps * self.batch_size
        first = can if total >= can.sum() else 0 * can  # one for everybody, where the round is long enough
        share = can * self._drawn(1, 0.2, 2.0)
        rest = np.random.default_rng([self.m, round]).multinomial(total - int(first.sum()), share / share.sum())
        return np.asarray(first + rest, dtype=np.int64)

    def _gradients(self, round: int, counts: IntArray, self_products: bool) -> RoundGradients:
        """Mean gradients that point partly the same way, with the noise of sampling on the diagonal."""
        means = 0.5 + np.random.default_rng([self.m, 9]).normal(size=(self.m, _WIDTH)) / (1.0 + 0.2 * round)
        sums = counts[:, None] * means
        own = (means**2).sum(1) + _NOISE
        products = sums @ sums.T + np.diag(counts * _NOISE)
        return RoundGradients(
            counts=self._by_position(counts),
            products=self._shown(products[np.ix_(self._identities, self._identities)]),
            self_products=self._by_position(counts * own) if self_products else None,
            self_pairs=self._by_position(counts) if self_products else None,
        )

    def observation(self, mixer: Mixer, round: int, begun: int, step: int) -> Observation:
        """What the mixer sees after the round that began after step ``begun`` and ended with ``step``."""
        declared = {type(signal): signal for signal in mixer.needs().signals}
        counts = self._served(round, step - begun)
        losses = np.where(counts > 0, self._losses(step, 3), np.nan)
        gradients = declared.get(DomainGradients)
        self_products = self.everything or getattr(gradients, "self_products", False)
        return Observation(
            domains=self.domains,
            step=step,
            steps=self.steps,
            round=round,
            learning_rate=1e-3,
            mixture_id=round,
            examples=self._by_position(counts),
            units=self._by_position(counts * UNITS_PER_EXAMPLE),
            losses=self._by_position(losses) if self.everything or TrainLosses in declared else None,
            gradients=self._gradients(round, counts, self_products) if self.everything or gradients else None,
        )

    def estimate(self, step: int, against: Against = "each") -> GradientEstimate:
        """Gradients of domains and targets that point partly the same way."""
        means = 0.5 + np.random.default_rng([self.m, 10]).normal(size=(self.m, _WIDTH)) / (1.0 + step / self.steps)
        identities = np.array(self._identities)
        here = identities != 4 if self.absent else np.ones(self.m, dtype=bool)
        there = identities != 3 if self.absent else np.ones(self.m, dtype=bool)
        targets = means[identities] * there[:, None]
        if self.apart:
            there, targets = np.ones(3, dtype=bool), means[:3]
        domains = means[identities] * here[:, None]
        if against == "mean":
            shares = self.problem().target_shares * there
            targets = (shares / shares.sum() @ targets)[None, :]
        return GradientEstimate(
            products=self._shown(domains @ targets.T),
            norms=self._shown(np.linalg.norm(domains, axis=1)),
            target_norms=self._shown(np.linalg.norm(targets, axis=1)),
            variances=self._shown(np.full(len(domains), np.nan)),
            present=self._shown(here),
            target_present=self._shown(there),
            against=against,
        )

    def embeddings(self, examples: int) -> ExampleVectors:
        """Clouds of vectors around a centre by identity, in the order of the identities: where the data stand."""
        rng = np.random.default_rng([self.m, 16])
        centres = 0.3 + rng.normal(size=(self.m, _WIDTH))
        blends = rng.dirichlet(np.full(self.m, 0.5), 3) @ centres if self.apart else centres
        position = np.argsort(self._identities)
        positions = {"train": position, "validation": np.arange(3) if self.apart else position}
        rows = {}
        for split, middles, gone in (("train", centres, 4), ("validation", blends, 3)):
            clouds = middles[:, None] + _NOISE * rng.normal(size=(len(middles), _EMBEDDED, _WIDTH))
            there = [i for i in range(len(middles)) if not (self.absent and i == gone)]
            kept = clouds[there, :examples].astype(np.float32)
            labels = np.repeat(positions[split][there], kept.shape[1])
            rows[split] = (self._shown(kept.reshape(-1, _WIDTH)), self._shown(labels.astype(np.int64)))
        return ExampleVectors(
            train=rows["train"][0],
            domains=rows["train"][1],
            validation=rows["validation"][0],
            targets=rows["validation"][1],
            embedder="scripted",
        )

    def influence(self, targets: Sequence[int] | None = None) -> InfluenceEstimate:
        """Of three examples a domain on the targets at these positions: each domain has a strength and a direction."""
        means = 0.2 + np.random.default_rng([self.m, 16]).normal(size=(self.m, 3 if self.apart else self.m))
        identities = [i for i in self._identities if not (self.absent and i == 4)]
        rows = np.repeat(means[identities], 3, axis=0) * np.tile([0.5, 1.0, 1.5], len(identities))[:, None]
        by_target = rows if self.apart else rows[:, self._identities]
        asked = np.zeros(by_target.shape[1], dtype=bool)
        asked[list(range(len(asked)) if targets is None else targets)] = True
        if self.absent and not self.apart:
            asked &= np.array(self._identities) != 3
        positions = [self._identities.index(i) for i in identities]
        return InfluenceEstimate(
            influence=self._shown(np.where(asked, by_target, np.nan)),
            domains=self._shown(np.repeat(positions, 3).astype(np.int64)),
            units=self._shown(np.tile([10.0, 20.0, 30.0], len(identities))),
            examples=self._shown((3 * np.repeat(identities, 3) + np.tile([0, 1, 2], len(identities))).astype(np.int64)),
        )

    def lowered(self, mixture: Mixture, steps: int) -> Array:
        """[m] by identity, how much a probe lowers the logarithm of the losses: its own weight counts most."""
        weights = np.zeros(self.m)
        weights[self._identities] = mixture.checked(self.domains).weights
        return steps / self.steps * (0.2 + weights * self._drawn(11, 0.5, 1.5))

    def run_losses(self, weights: Array, step: int) -> Array:
        """[n] validation losses by target of a run on a mixture ([m] by position), after so many steps."""
        by_identity = np.zeros(self.m)
        by_identity[self._identities] = weights
        floor, gap = self._drawn(12, 0.5, 2.0), self._drawn(13, 0.5, 3.0)
        reached = step / self.steps * (0.3 + by_identity * self._drawn(14, 0.5, 2.0) * self.m)
        losses = floor + gap * (1.0 + 5.0 * reached) ** -0.5
        return self._shown(losses[:3].copy() if self.apart else losses[self._identities])

    def batch_losses(self, step: int) -> BatchLosses:
        """A batch of one example a domain, in the order of the identities."""
        losses = np.tile(self._losses(step, 3)[:, None], (1, 4)) + 0.1 * np.arange(4)
        labels = np.argsort(self._identities)
        reference = np.tile(self._drawn(15, 0.5, 2.5)[:, None], (1, 4))
        return BatchLosses(
            domains=self.domains,
            labels=self._shown(labels.astype(np.int64)),
            losses=self._shown(losses),
            mask=self._shown(np.ones_like(losses, dtype=bool)),
            reference=self._shown(reference),
            step=step,
        )

    def validation_losses(self, step: int, lowered: npt.ArrayLike = 0.0) -> Array:
        """[n] by target, falling with training and by what probes have ``lowered``."""
        losses = self._losses(step, 6) * np.exp(-np.asarray(lowered))
        if self.absent:
            losses[3] = np.nan
        return losses[:3].copy() if self.apart else losses[self._identities]
