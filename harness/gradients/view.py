"""What a mixer sees of a round's domain gradients: a Gram matrix and counts, on the host."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixers.base import Array, IntArray, UndeclaredSignalError


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundGradients:
    """Inner products between the domains' summed training gradients of one round (a ``GradientView``).

    counts: [m] examples behind each sum, |S_i|. products: [m, m] float64 <A_i, A_j>, summed over the tracked layers.
    self_products: [m] float64, per domain the sum over steps of the squared norm of that step's own sum.
    self_pairs: [m] int64, per domain the sum over steps of the squared number of its examples in the step.
    The last two are ``None`` unless the mixer declared them.
    """

    counts: IntArray
    products: Array
    self_products: Array | None = None
    self_pairs: IntArray | None = None

    def gram(self, *, debiased: bool = False) -> Array:
        """[m, m] G_ij = <A_i, A_j> / (|S_i| |S_j|) (R&B, Algorithm 1); zero rows and columns where |S_i| = 0.

        debiased: the diagonal uses only products between different steps,
        (|A_i|^2 - sum_s |A_i^s|^2) / (|S_i|^2 - sum_s n_is^2). Examples are drawn independently, so the noise in two
        steps is uncorrelated and its variance does not enter; zero where the domain was seen in one step only.
        """
        n = self.counts.astype(np.float64)
        inverse = np.divide(1.0, n, out=np.zeros_like(n), where=n > 0)
        gram: Array = self.products * np.outer(inverse, inverse)
        if debiased:
            if self.self_products is None or self.self_pairs is None:
                raise UndeclaredSignalError(
                    "the debiased Gram matrix was not declared: "
                    "add DomainGradients(self_products=True) to needs().signals"
                )
            pairs = n**2 - self.self_pairs
            between = np.diagonal(self.products) - self.self_products
            np.fill_diagonal(gram, np.divide(between, pairs, out=np.zeros_like(n), where=pairs > 0))
        return gram

    def norms(self) -> Array:
        """[m] norms of the domains' mean gradients; zero where absent."""
        return np.sqrt(np.clip(np.diagonal(self.gram()), 0.0, None))
