"""Drawing training examples: domains by the mixture, examples within a domain without replacement.

A domain's stream never restarts when the mixture changes: each domain walks through its own permutations, one epoch
after the other, at whatever pace the mixture sets. Both streams depend on the trial's seed alone, so that with equal
seeds all mixers meet each domain's examples in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from harness.seeds import derive_seed

IntArray = npt.NDArray[np.int64]


class DomainStreams:
    """A stream of examples a domain, each in epochs. labels: [n] domain index of every example, -1: in no stream."""

    def __init__(self, labels: IntArray, domains: Sequence[str], seed: int) -> None:
        self.domains = tuple(domains)
        self.seed = seed
        self._members = [np.flatnonzero(labels == i) for i in range(len(self.domains))]
        self.sizes: IntArray = np.array([len(members) for members in self._members], dtype=np.int64)
        self.drawn: IntArray = np.zeros(len(self.domains), dtype=np.int64)
        self._order: list[tuple[int, IntArray] | None] = [None] * len(self.domains)

    def take(self, domain: int, count: int) -> IntArray:
        """[count] indices of a domain's next examples; empty where it has none."""
        if not self.sizes[domain]:
            return np.zeros(0, dtype=np.int64)
        return np.array([self._next(domain) for _ in range(count)], dtype=np.int64)

    @property
    def epochs(self) -> npt.NDArray[np.float64]:
        """[m] passes made over each domain."""
        return self.drawn / self.sizes

    def _next(self, domain: int) -> int:
        members = self._members[domain]
        epoch, position = divmod(int(self.drawn[domain]), len(members))
        order = self._order[domain]
        if order is None or order[0] != epoch:
            rng = np.random.default_rng(derive_seed(self.seed, "order", self.domains[domain], epoch))
            order = (epoch, rng.permutation(members))
            self._order[domain] = order
        self.drawn[domain] += 1
        return int(order[1][position])

    def state(self) -> list[int]:
        """Examples drawn from each domain: all there is to remember."""
        return [int(count) for count in self.drawn]

    def load_state(self, drawn: Sequence[int]) -> None:
        """Go on from :meth:`state`."""
        self.drawn = np.array(drawn, dtype=np.int64)


class DomainSampler(DomainStreams):
    """Draws examples i.i.d. over domains, in epochs within a domain; every domain needs at least one example."""

    def __init__(self, labels: IntArray, domains: Sequence[str], seed: int) -> None:
        super().__init__(labels, domains, seed)
        if self.sizes.min(initial=1) == 0:
            empty = self.domains[int(np.argmin(self.sizes))]
            raise ValueError(f"domain {empty} has no training example")

    def draw(self, weights: npt.NDArray[np.float64], step: int, batch: int) -> tuple[IntArray, IntArray]:
        """Example indices and their domains, both [batch], for one step."""
        uniform = np.random.default_rng(derive_seed(self.seed, "domains", step)).random(batch)
        edges = np.cumsum(weights)
        picks = np.searchsorted(edges / edges[-1], uniform, side="right").astype(np.int64)
        indices = np.array([self._next(int(domain)) for domain in picks], dtype=np.int64)
        return indices, picks
