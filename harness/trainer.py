"""The only training loop. Main runs, timing runs and whatever a lab sells pass through :meth:`Trainer.step`."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from harness.gradients import GradientTracker, last_layers
from harness.process import reseed
from harness.sampler import DomainSampler
from harness.seeds import derive_seed
from mixers.base import (
    Array,
    BatchLosses,
    DomainGradients,
    MixerError,
    Mixture,
    MixtureError,
    Signal,
    StepLosses,
    TrainLosses,
)
from tasks.base import Batch, Corpus, Losses, Recipe, TrainableTask

IntArray = npt.NDArray[np.int64]


class DivergedError(RuntimeError):
    """The training loss is no longer finite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundCounts:
    """What the sampler served in a round: [m] examples and units."""

    examples: IntArray
    units: IntArray


class Trainer:
    """Model, optimiser, sampler and the declared signals of one run.

    A step costs what plain training costs, plus the signals that were asked for.
    """

    def __init__(
        self,
        *,
        task: TrainableTask,
        corpus: Corpus,
        sampler: DomainSampler,
        model: nn.Module,
        recipe: Recipe,
        signals: tuple[Signal, ...],
        seed: int,
        device: torch.device,
        dtype: torch.dtype,
        compiled: bool = False,
        reweigh: Callable[[BatchLosses], Array | None] | None = None,
        reference: nn.Module | None = None,
    ) -> None:
        self.task, self.corpus, self.sampler, self.recipe = task, corpus, sampler, recipe
        self.device, self.dtype, self.seed = device, dtype, seed
        self.model = model.to(device)
        self.forward: nn.Module = torch.compile(self.model) if compiled else self.model  # type: ignore[assignment]
        self.optimizer = _optimizer(self.model, recipe, device)
        self.m = len(sampler.domains)
        self.done = 0
        self.tracker = self._tracker(signals)
        self._observed = self.tracker
        self._loss_sums = (
            torch.zeros(self.m, device=device) if any(isinstance(s, TrainLosses) for s in signals) else None
        )
        self._loss_total = torch.zeros((), device=device)
        self._reweigh = reweigh if any(isinstance(s, StepLosses) for s in signals) else None
        self._reference = None if reference is None else reference.to(device).eval().requires_grad_(False)
        if self._reweigh is not None and self.tracker is not None:
            raise MixerError("StepLosses and DomainGradients cannot be declared together: declare one of them")
        self._units = np.asarray(corpus.units["train"])
        self._served = np.zeros((2, self.m), dtype=np.int64)

    def _tracker(self, signals: tuple[Signal, ...]) -> GradientTracker | None:
        specs = [signal for signal in signals if isinstance(signal, DomainGradients)]
        if not specs:
            return None
        if len(specs) > 1:
            raise MixerError("needs() declares DomainGradients twice; declare it once")
        layers = last_layers(self.task.tracked(self.model), specs[0].layers)
        tracker = GradientTracker(layers, self.m, specs[0], seed=derive_seed(self.seed, "sketch"))
        tracker.attach()
        return tracker

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then the recipe's schedule down to ``final_lr`` of the peak when all steps are done."""
        recipe = self.recipe
        warmup = max(1, round(recipe.warmup * recipe.steps))
        if step < warmup:
            return recipe.learning_rate * (step + 1) / warmup
        progress = min(1.0, (step - warmup) / max(1, recipe.steps - warmup))
        if recipe.schedule == "constant":
            return recipe.learning_rate
        above = 1 - progress if recipe.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
        return recipe.learning_rate * (recipe.final_lr + (1 - recipe.final_lr) * above)

    def begin_round(self, index: int, *, observe: bool = True) -> None:
        """Clear what is counted per round.

        Reseeds the global generators, so that a resumed run goes on as an unbroken one would.
        observe: whether anyone will read the round's gradients; nobody reads those of the last round.
        """
        reseed(derive_seed(self.seed, "round", index))
        self._served[:] = 0
        self._observed = self.tracker if observe else None
        self._loss_total.zero_()
        if self._loss_sums is not None:
            self._loss_sums.zero_()
        self.model.train()

    def step(self, mixture: Mixture) -> None:
        """One optimiser step on a batch drawn from the mixture. Never waits for the device."""
        batch_size = self.recipe.batch_size
        indices, domains = self.sampler.draw(mixture.weights, self.done, batch_size)
        batch = {
            key: tensor.to(self.device, non_blocking=True)
            for key, tensor in self.task.batch(self.corpus, "train", indices).items()
        }
        rate = self.learning_rate(self.done)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        weights: Tensor | None = None
        scale: float | Tensor = 1.0 / batch_size
        if mixture.loss_weights is not None:
            weights = torch.as_tensor(mixture.loss_weights[domains], dtype=torch.float32).to(self.device)
            scale = weights / batch_size
        if self._observed is not None:
            self._observed.begin(domains, scale)
        with self.autocast():
            losses = self.task.loss(self.forward, batch)
        if self._reweigh is not None:
            given = self._reweigh(self._batch_losses(batch, losses, domains))
            if given is not None:
                weights = torch.as_tensor(checked_loss_weights(given, self.m)[domains], dtype=torch.float32)
                weights = weights.to(self.device)
        per_example = losses.per_example
        loss = per_example.mean() if weights is None else (per_example * weights).mean()
        loss.backward()
        if self._observed is not None:
            self._observed.end()
        if self.recipe.clip_norm > 0:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._loss_total += per_example.detach().mean()
        if self._loss_sums is not None:
            self._loss_sums.index_add_(0, torch.from_numpy(domains).to(self.device), per_example.detach().float())
        np.add.at(self._served[0], domains, 1)
        np.add.at(self._served[1], domains, self._units[indices])
        self.done += 1

    def _batch_losses(self, batch: Batch, losses: Losses, domains: IntArray) -> BatchLosses:
        reference = None
        if self._reference is not None:
            with torch.no_grad(), self.autocast():
                reference = _host(self.task.loss(self._reference, batch).per_unit)
        return BatchLosses(
            domains=self.sampler.domains,
            labels=domains,
            losses=_host(losses.per_unit),
            mask=_host(losses.mask) > 0,
            reference=reference,
            step=self.done,
        )

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The context in which the model computes."""
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def served(self) -> RoundCounts:
        """Examples and units served since the round began."""
        return RoundCounts(examples=self._served[0].copy(), units=self._served[1].copy())

    def mean_loss(self, steps: int) -> float:
        """Mean training loss over the round's ``steps``, without loss weights.

        Raises :class:`DivergedError` where it is not finite.
        """
        value = float(self._loss_total) / steps
        if not math.isfinite(value):
            raise DivergedError(f"training diverged: the loss is not finite by step {self.done}")
        return value

    def domain_losses(self) -> npt.NDArray[np.float64] | None:
        """[m] mean example loss of the round per domain, NaN where absent; ``None`` where it was not declared."""
        if self._loss_sums is None:
            return None
        sums = self._loss_sums.double().cpu().numpy()
        counts = self._served[0]
        return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)

    def state(self) -> dict[str, Any]:
        """Tensors and plain data at a round boundary, for a checkpoint."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "done": self.done,
            "drawn": self.sampler.state(),
            "tracker": self.tracker.state() if self.tracker is not None else {},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state`."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.done = int(state["done"])
        self.sampler.load_state(state["drawn"])
        if self.tracker is not None:
            self.tracker.load_state(state["tracker"])


def checked_loss_weights(values: npt.ArrayLike, m: int) -> npt.NDArray[np.float64]:
    """[m] loss weights as a mixer's ``reweigh`` gave them. Raises :class:`mixers.base.MixtureError`."""
    weights = np.asarray(values, dtype=np.float64)
    if weights.shape != (m,) or not np.all(np.isfinite(weights)) or weights.min() < 0:
        raise MixtureError("reweigh() must give finite, non-negative loss weights, one per domain")
    return weights


def _host(values: Tensor) -> npt.NDArray[np.float64]:
    array: npt.NDArray[np.float64] = values.detach().double().cpu().numpy()
    array.setflags(write=False)
    return array


def _optimizer(model: nn.Module, recipe: Recipe, device: torch.device) -> torch.optim.AdamW:
    """AdamW; biases, norms and other vectors are not decayed."""
    matrices = [p for p in model.parameters() if p.requires_grad and p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.requires_grad and p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    betas = (recipe.betas[0], recipe.betas[1])
    wanted = [group for group in groups if group["params"]]
    return torch.optim.AdamW(wanted, lr=recipe.learning_rate, betas=betas, eps=recipe.eps, fused=True)
