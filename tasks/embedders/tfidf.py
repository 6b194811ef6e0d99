"""TF-IDF and a truncated SVD, fitted on the training texts: needs no package with weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import sklearn
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from tasks.base import TaskError
from tasks.embedders.base import Embedder, Vectors, unit

_WORDS = 20_000
_WIDTH = 128
_ITERATIONS = 4
_OVERSAMPLES = 10


class Tfidf(Embedder):
    """Latent semantic analysis: 20,000 words, sublinear counts, 128 dimensions by a randomised SVD of fixed seed."""

    fitted: ClassVar[bool] = True

    def __init__(self) -> None:
        self._counter = TfidfVectorizer(max_features=_WORDS, sublinear_tf=True, dtype=np.float32)
        self._svd: TruncatedSVD | None = None
        self.name = f"tfidf (scikit-learn {sklearn.__version__}, {_WIDTH}-d)"

    def fit(self, texts: Sequence[str]) -> float:
        """Learn words, their weights and the directions.

        Billed: 2 FLOPs a non-zero count and column for each of the 2 * 4 + 2 products with the sparse matrix, the
        orthogonalisations left out.
        """
        try:
            counts = self._counter.fit_transform(texts)
        except ValueError:
            raise TaskError("embedder tfidf found no words in the training texts; use embedder=static") from None
        width = max(1, min(_WIDTH, min(counts.shape) - 1))
        self._svd = TruncatedSVD(width, n_iter=_ITERATIONS, n_oversamples=_OVERSAMPLES, random_state=0).fit(counts)
        return 2.0 * counts.nnz * (width + _OVERSAMPLES) * (2 * _ITERATIONS + 2)

    def encode(self, texts: Sequence[str]) -> tuple[Vectors, float]:
        """Texts on the fitted directions; 2 FLOPs a non-zero count and dimension are billed."""
        assert self._svd is not None, "fit first"
        counts = self._counter.transform(texts)
        return unit(self._svd.transform(counts)), 2.0 * counts.nnz * self._svd.n_components
