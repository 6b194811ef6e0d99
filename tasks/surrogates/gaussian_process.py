"""A Gaussian process over the logarithms of the shares."""

from __future__ import annotations

import warnings
from typing import ClassVar

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from tasks.base import FloatArray
from tasks.surrogates.base import Arrays, Surrogate

OFFSET = 1e-3  # added to shares before the logarithm: what a table rounded to three digits can tell from zero
MOST = 128  # rows on which the kernel's parameters are found; all rows are conditioned on


class GaussianProcess(Surrogate):
    """Constant x Matern 5/2 with a length for every domain, plus noise; losses standardised.

    Inputs are log(share + 0.001): a loss falls steeply with the first per cent of its own domain and slowly after that.
    On RegMix's 768 runs of 1M this halves the left-out error of raw shares on Pile-CC with one length for all. Lengths
    by domain halve it again on some targets (DM Mathematics). Left-out residuals are those of leaving out each
    row in turn, in closed form, at the kernel's parameters of the whole fit, which makes them a little too small.
    """

    name: ClassVar[str] = "gp"
    least_rows: ClassVar[int] = 5

    def fit(self, mixtures: FloatArray, losses: FloatArray) -> tuple[Arrays, FloatArray]:
        """Kernel parameters by marginal likelihood on a fixed part of the rows, weights on all of them."""
        inputs = np.log(mixtures + OFFSET)
        mean, scale = losses.mean(), losses.std() or 1.0
        outputs = (losses - mean) / scale
        kernel = ConstantKernel(1.0, (1e-3, 1e4)) * Matern(
            np.full(mixtures.shape[1], 5.0), (1e-1, 1e3), nu=2.5
        ) + WhiteKernel(1e-2, (1e-6, 1.0))
        some = np.random.default_rng(0).permutation(len(losses))[:MOST]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a length at its bound: the domain does not matter
            found = GaussianProcessRegressor(kernel).fit(inputs[some], outputs[some]).kernel_
        arrays: Arrays = {
            "amplitude": np.array(found.k1.k1.constant_value),
            "lengths": np.array(found.k1.k2.length_scale, dtype=np.float64),
            "inputs": inputs,
            "scale": np.array([mean, scale]),
        }
        covariance = _kernel(arrays, inputs) + found.k2.noise_level * np.eye(len(losses))
        inverse = np.linalg.inv(covariance)
        arrays["weights"] = inverse @ outputs
        return arrays, scale * arrays["weights"] / np.diag(inverse)

    def predict(self, arrays: Arrays, mixtures: FloatArray) -> FloatArray:
        """The posterior mean."""
        mean, scale = arrays["scale"]
        kernel = _kernel(arrays, np.log(mixtures + OFFSET))
        # Not by BLAS, whose last bits depend on how many mixtures stand beside each other.
        return np.asarray(mean + scale * np.einsum("kr,r->k", kernel, arrays["weights"]), dtype=np.float64)


def _kernel(arrays: Arrays, inputs: FloatArray) -> FloatArray:
    """[k, r] covariances with the rows, noise aside."""
    lengths = arrays["lengths"]
    distance = np.sqrt(5.0) * cdist(inputs / lengths, arrays["inputs"] / lengths)
    return np.asarray(arrays["amplitude"] * (1.0 + distance + distance**2 / 3.0) * np.exp(-distance), dtype=np.float64)
