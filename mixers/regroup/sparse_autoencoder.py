"""A BatchTopK sparse autoencoder in numpy: examples as sums of few out of many directions, the concepts.

Source: BatchTopK of Bussmann, Leask & Nanda (arXiv 2412.06410) with the encoder and decoder of Papadimitriou et al.
(arXiv 2504.11695): codes z = P(x W^T + b), reconstruction z D, rows of D of unit length. P keeps of a whole *batch* the
``active`` x batch size largest values, if they are positive, so that examples may differ in how many concepts they
have. Examples are encoded alone, with the threshold that this cut amounted to on average.

Written out here because codes are sparse: with B examples a batch, c concepts and d dimensions only the encoder needs
2 B c d operations a step; the decoder and all gradients touch B x ``active`` codes. That is a fifth of the dense price.
Everything is float32 and runs on one thread if the caller sees to that (``threadpool_limits``): then equal inputs give
equal bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from mixers.base import IntArray
from mixers.regroup.base import RegroupLab
from mixers.regroup.clustering import Vectors, unit

BETAS, EPSILON = (0.9, 0.999), 1e-8  # Adam's usual ones
REVIVALS = 10  # times in the first three quarters of the training that dead concepts start anew
ROWS = 8_192  # examples encoded at a time, so that memory stays bounded


@dataclass(slots=True, kw_only=True)
class SparseAutoencoder:
    """encoder, decoder: [c, d]; bias: [c]; threshold: what a code must exceed when examples are encoded alone."""

    encoder: Vectors
    bias: Vectors
    decoder: Vectors
    threshold: float

    def encode(self, points: Vectors, lab: RegroupLab) -> csr_array:
        """[n, c] codes, each from its own row alone: no example's code depends on the others."""
        parts = []
        for i in range(0, max(len(points), 1), ROWS):
            values = points[i : i + ROWS] @ self.encoder.T + self.bias
            rows, concepts = np.nonzero(values > max(self.threshold, 0.0))
            parts.append((rows + i, concepts, values[rows, concepts]))
        rows, concepts, values = (np.concatenate(column) for column in zip(*parts, strict=True))
        lab.charge(2.0 * len(points) * self.encoder.size, "sparse autoencoder: codes")
        return csr_array((values, (rows, concepts)), shape=(len(points), len(self.encoder)))

    def explained(self, points: Vectors, codes: csr_array, lab: RegroupLab) -> float:
        """R2: 1 - squared error of the reconstruction / squared deviation of the points from their mean."""
        spread = float(np.square(points - points.mean(axis=0)).sum())
        lab.charge(2.0 * codes.nnz * points.shape[1], "sparse autoencoder: reconstruction")
        return 1.0 - float(np.square(points - codes @ self.decoder).sum()) / spread if spread > 0.0 else 0.0


def batch_top_k(values: Vectors, active: int) -> tuple[IntArray, IntArray]:
    """Rows and columns of the ``active`` x len(values) largest entries of [B, c] values; none that is not positive.

    In the order of rows, then columns.
    """
    count = min(active * len(values), values.size)
    flat = values.ravel()
    largest = np.sort(np.argpartition(flat, values.size - count)[values.size - count :])
    rows, columns = np.divmod(largest[flat[largest] > 0.0], values.shape[1])
    return rows, columns


def gradients(
    points: Vectors, model: SparseAutoencoder, active: int
) -> tuple[tuple[Vectors, Vectors, Vectors], csr_array, Vectors]:
    """Of the batch's mean squared error |x - z D|^2 in encoder, bias and decoder; also codes and errors z D - x.

    The choice of active codes is taken as given, as usual: the loss is differentiable only between its changes.
    """
    n, c = len(points), len(model.encoder)
    values = points @ model.encoder.T + model.bias
    rows, concepts = batch_top_k(values, active)
    codes = csr_array((values[rows, concepts], (rows, concepts)), shape=(n, c))
    errors = codes @ model.decoder - points
    back = (2.0 / n) * errors
    slopes = csr_array((np.einsum("ij,ij->i", back[rows], model.decoder[concepts]), (rows, concepts)), shape=(n, c))
    bias = np.bincount(concepts, weights=slopes.data, minlength=c).astype(np.float32)
    return (slopes.T @ points, bias, codes.T @ back), codes, errors


def fit(
    points: Vectors,
    concepts: int,
    *,
    active: int,
    steps: int,
    batch_size: int,
    learning_rate: float,
    rng: np.random.Generator,
    lab: RegroupLab,
) -> SparseAutoencoder:
    """An autoencoder of so many ``concepts`` for points [n, d], by Adam; its rate falls to zero in the last half.

    Concepts begin as training examples, the encoder as the decoder: a few hundred steps could not turn random
    directions. Ten times in the first three quarters, those that fired for no example since the last time start anew
    as what the batch's worst reconstructions miss. The threshold is the mean over the last quarter of the smallest
    code that a batch kept.
    """
    n, d = points.shape
    model = _begin(points, concepts, active, batch_size, rng)
    parameters = (model.encoder, model.bias, model.decoder)
    moments = [(np.zeros_like(each), np.zeros_like(each)) for each in parameters]
    every, fired, cuts = max(1, 3 * steps // (4 * REVIVALS)), np.zeros(concepts, dtype=np.bool_), []
    order = rng.permutation(n)
    size, at = min(batch_size, n), 0
    for step in range(1, steps + 1):
        if at + size > n:
            order, at = rng.permutation(n), 0
        batch = points[order[at : at + size]]
        at += size
        slopes, codes, errors = gradients(batch, model, active)
        rate = learning_rate * min(1.0, 2.0 * (1.0 - (step - 1) / steps))
        for parameter, slope, (first, second) in zip(parameters, slopes, moments, strict=True):
            _adam(parameter, slope, first, second, rate, step)
        model.decoder /= np.maximum(np.linalg.norm(model.decoder, axis=1, keepdims=True), EPSILON)
        fired[codes.indices] = True
        if step > steps - max(1, steps // 4) and codes.nnz:
            cuts.append(float(codes.data.min()))
        if step % every == 0 and step <= 3 * steps // 4:
            _revive(model, np.flatnonzero(~fired), errors, moments)
            fired[:] = False
    model.threshold = float(np.mean(cuts)) if cuts else 0.0
    lab.charge(steps * (2.0 * size * model.encoder.size + 8.0 * size * active * d), "sparse autoencoder: training")
    return model


def _begin(points: Vectors, concepts: int, active: int, batch_size: int, rng: np.random.Generator) -> SparseAutoencoder:
    """Directions of distinct examples in random order; of a normal distribution where there are no more.

    The encoder is the decoder times one number, for which the first examples' reconstructions have the least error:
    examples that are alike fire for each other, and their sum would be far too long.
    """
    start = rng.standard_normal((concepts, points.shape[1])).astype(np.float32)
    some = points[rng.permutation(len(points))[:concepts]]
    some = some[np.linalg.norm(some, axis=1) > 0.0]
    start[: len(some)] = some
    decoder = unit(start)
    bias = np.zeros(concepts, dtype=np.float32)
    model = SparseAutoencoder(encoder=decoder.copy(), bias=bias, decoder=decoder, threshold=0.0)
    first = points[:batch_size]
    _, _, errors = gradients(first, model, active)
    made = errors + first
    length = float(np.square(made).sum())
    model.encoder *= np.float32(float((made * first).sum()) / length if length > 0.0 else 1.0)
    return model


def _adam(value: Vectors, slope: Vectors, first: Vectors, second: Vectors, rate: float, step: int) -> None:
    """One step of Adam, in place."""
    first += (1.0 - BETAS[0]) * (slope - first)
    second += (1.0 - BETAS[1]) * (slope * slope - second)
    scale = np.sqrt(second / (1.0 - BETAS[1] ** step)) + EPSILON
    value -= np.float32(rate / (1.0 - BETAS[0] ** step)) * first / scale


def _revive(
    model: SparseAutoencoder, dead: IntArray, errors: Vectors, moments: Sequence[tuple[Vectors, Vectors]]
) -> None:
    """Point dead concepts, as many as there are examples, to the largest errors of a batch."""
    worst = np.argsort(-np.linalg.norm(errors, axis=1), kind="stable")[: len(dead)]
    chosen = dead[: len(worst)]
    model.decoder[chosen] = unit(-errors[worst])
    model.encoder[chosen] = model.decoder[chosen] * np.linalg.norm(model.encoder, axis=1).mean()
    model.bias[chosen] = 0.0
    for first, second in moments:
        first[chosen] = second[chosen] = 0.0
