"""A Gaussian process of a loss over mixtures and model sizes, and what is worth running next by it.

On BoTorch, which is imported when it is needed; in double precision, on one thread, with random numbers of its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mixers.base import Array, MixerError

Inputs = Literal["root", "share"]
ROWS = 256  # mixtures that are predicted at once: their joint covariance would be formed


def botorch() -> Any:
    """The package, imported when it is needed; :class:`MixerError` where it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of what it stands on
            import botorch as package
    except ImportError:
        raise MixerError("BoTorch is not installed: pip install 'mixoff[admire]'") from None
    return package


@contextmanager
def alone(seed: int) -> Iterator[None]:
    """PyTorch on one thread, with random numbers from a seed, and all as it was afterwards; no warnings of the fit."""
    import torch

    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.default_generator.manual_seed(seed)  # of the CPU alone: no other generator is touched
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """inputs: of the kernel, roots of shares or shares. ard: a length scale a domain, or one. iterations: of a fit."""

    inputs: Inputs = "root"
    ard: bool = True
    iterations: int = 50
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """Fitted processes of minus the losses, one a target. m: domains; sized: whether inputs have a size after them.

    A size is a share of the one that is decided for; inputs without it, [k, m], are taken to be at that one.
    """

    model: Any
    m: int
    sized: bool
    settings: Settings

    def predict(self, mixtures: Array) -> Array:
        """[k, n] mean losses, for mixtures [k, m] or, with a size, [k, m + 1]."""
        import torch
        from gpytorch.settings import skip_posterior_variances

        x = self._tensor(mixtures)
        with alone(self.settings.seed), torch.no_grad(), skip_posterior_variances():
            parts = [self.model.posterior(x[i : i + ROWS]).mean for i in range(0, len(x), ROWS)]
        return np.asarray(-torch.cat(parts).numpy())

    def log_improvement(self, mixtures: Array, shares: Array, least: float) -> Array:
        """[k] logarithm of the expected improvement of mixtures, [k, m], on a loss; shares: [n] of its targets."""
        import torch
        from botorch.acquisition.analytic import LogExpectedImprovement

        with alone(self.settings.seed), torch.no_grad():
            judged = LogExpectedImprovement(self.model, best_f=-least, posterior_transform=_weighted(shares))
            value = judged(self._tensor(mixtures)[:, None])
        return np.asarray(value.numpy())

    def entropy_for_cost(self, inputs: Array, candidates: Array, costs: Array, *, samples: int, seed: int) -> Array:
        """[k] what runs at inputs, [k, m + 1], say of the least loss at size 1, in nats, divided by their ``costs``.

        Max-value entropy search over sizes; one target only. candidates: [r, m] mixtures among which the least loss is
        looked for. costs: [k]. samples: of the least loss.
        """
        import torch
        from botorch.acquisition.max_value_entropy_search import qMultiFidelityMaxValueEntropy
        from botorch.acquisition.utils import project_to_target_fidelity

        with alone(seed), torch.no_grad():
            value = qMultiFidelityMaxValueEntropy(
                self.model,
                candidate_set=self._tensor(candidates),
                num_mv_samples=samples,
                cost_aware_utility=_undivided(),
                project=lambda x: project_to_target_fidelity(x, {self.m: 1.0}, self.m + 1),
            )(self._tensor(inputs)[:, None])
        return np.asarray(np.maximum(value.numpy(), 0.0) / costs)

    def _tensor(self, inputs: Array) -> Any:
        import torch

        if self.sized and inputs.shape[1] == self.m:
            inputs = np.column_stack((inputs, np.ones(len(inputs))))
        return torch.from_numpy(_placed(inputs, self.m, self.settings.inputs))


def _weighted(shares: Array) -> Any:
    """The weighted sum of the targets, a normal variable as they are."""
    import torch
    from botorch.acquisition.objective import ScalarizedPosteriorTransform

    return ScalarizedPosteriorTransform(torch.from_numpy(np.array(shares, dtype=np.float64)))


def _undivided() -> Any:
    """Costs of one: prices hang on the table of sizes, and are divided by where it is at hand."""
    import torch
    from botorch.acquisition.cost_aware import InverseCostWeightedUtility
    from botorch.models.deterministic import GenericDeterministicModel

    return InverseCostWeightedUtility(GenericDeterministicModel(lambda x: torch.ones_like(x[..., :1])))


def _placed(inputs: Array, m: int, how: Inputs) -> Array:
    """Inputs as the kernel sees them."""
    placed = np.array(inputs, dtype=np.float64)
    if how == "root":
        placed[:, :m] = np.sqrt(placed[:, :m])
    return placed


def fit(inputs: Array, losses: Array, m: int, settings: Settings) -> Process:
    """A process a target, of runs on inputs, [k, m] or [k, m + 1] with a size, with losses, [k, n].

    By marginal likelihood, on standardised losses. Without sizes the kernel is a Matern 5/2; with them it is BoTorch's
    linear-truncated one, the sum of one such kernel and, by the distance from size 1, of a second. Where the search for
    the likelihood's maximum fails, parameters stay as they begin.
    """
    import torch
    from botorch.exceptions.errors import ModelFittingError
    from botorch.fit import fit_gpytorch_mll
    from gpytorch.mlls import ExactMarginalLogLikelihood

    x = torch.from_numpy(_placed(inputs, m, settings.inputs))
    y = torch.from_numpy(-np.array(losses, dtype=np.float64))
    sized = inputs.shape[1] > m
    with alone(settings.seed):
        model = _model(x, y, sized, settings)
        try:
            fit_gpytorch_mll(
                ExactMarginalLogLikelihood(model.likelihood, model),
                optimizer_kwargs={"options": {"maxiter": settings.iterations}},
            )
        except ModelFittingError:
            model = _model(x, y, sized, settings)
        model.eval()
    return Process(model=model, m=m, sized=sized, settings=settings)


def _model(x: Any, y: Any, sized: bool, settings: Settings) -> Any:
    """Before the fit."""
    import torch
    from botorch.models import SingleTaskGP, SingleTaskMultiFidelityGP
    from botorch.models.utils.gpytorch_modules import get_covar_module_with_dim_scaled_prior
    from gpytorch.kernels import MaternKernel, ScaleKernel

    m, each = x.shape[1] - sized, torch.Size([y.shape[1]] if y.shape[1] > 1 else [])
    if sized:
        return SingleTaskMultiFidelityGP(x, y, data_fidelities=[m])
    if settings.ard:
        kernel = get_covar_module_with_dim_scaled_prior(m, batch_shape=each, use_rbf_kernel=False)
        return SingleTaskGP(x, y, covar_module=kernel)
    kernel = ScaleKernel(MaternKernel(nu=2.5, batch_shape=each), batch_shape=each)
    return SingleTaskGP(x, y, covar_module=kernel)
