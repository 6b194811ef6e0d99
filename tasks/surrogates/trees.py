"""Boosted regression trees on the shares."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.model_selection import KFold

from tasks.base import FloatArray
from tasks.surrogates.base import Arrays, Surrogate

FOLDS = 5
DEPTH = 3


class Trees(Surrogate):
    """150 trees of depth 3 at a learning rate of 0.12, each on 70 % of the rows; five-fold left-out residuals.

    Piecewise constant: near the best mixtures it is flat where a Gaussian process is not, and beyond the rows it goes
    on as at their edge. Not the trees of any mixer: those of RegMix are LightGBM's.
    """

    name: ClassVar[str] = "trees"
    least_rows: ClassVar[int] = 20

    def fit(self, mixtures: FloatArray, losses: FloatArray) -> tuple[Arrays, FloatArray]:
        """Fit all rows; and, for the residuals, without each fifth of them."""
        residuals = np.empty(len(losses))
        for kept, left in KFold(FOLDS, shuffle=True, random_state=0).split(mixtures):
            part = _boosted(mixtures[kept], losses[kept])
            residuals[left] = losses[left] - self.predict(part, mixtures[left])
        return _boosted(mixtures, losses), residuals

    def predict(self, arrays: Arrays, mixtures: FloatArray) -> FloatArray:
        """The sum over the trees, walked level by level."""
        inputs = mixtures.astype(np.float32)  # as scikit-learn compares
        trees = np.arange(arrays["feature"].shape[0])
        rows = np.arange(len(inputs))[:, None]
        node = np.zeros((len(inputs), len(trees)), dtype=np.int64)
        for _ in range(DEPTH):
            feature = arrays["feature"][trees, node]
            left = inputs[rows, np.maximum(feature, 0)] <= arrays["threshold"][trees, node]
            child = np.where(left, arrays["left"][trees, node], arrays["right"][trees, node])
            node = np.where(feature < 0, node, child)  # a leaf stays
        return np.asarray(arrays["base"] + arrays["value"][trees, node].sum(axis=1), dtype=np.float64)


def _boosted(mixtures: FloatArray, losses: FloatArray) -> Arrays:
    """A fit's trees as arrays [trees, nodes]; feature is negative at leaves."""
    model = GradientBoostingRegressor(
        n_estimators=150, learning_rate=0.12, max_depth=DEPTH, subsample=0.7, min_samples_leaf=4, random_state=0
    ).fit(mixtures, losses)
    trees = [tree.tree_ for tree in model.estimators_[:, 0]]
    nodes = max(tree.node_count for tree in trees)

    def stacked(field: str, dtype: type) -> np.ndarray:
        rows = [np.asarray(getattr(tree, field)).reshape(tree.node_count) for tree in trees]
        return np.array([np.pad(row, (0, nodes - len(row))) for row in rows], dtype=dtype)

    return {
        "feature": stacked("feature", np.int64),
        "threshold": stacked("threshold", np.float64),
        "left": stacked("children_left", np.int64),
        "right": stacked("children_right", np.int64),
        "value": model.learning_rate * stacked("value", np.float64),
        "base": np.array(losses.mean()),
    }
