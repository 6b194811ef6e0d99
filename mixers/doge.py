"""DoGE: weights from a small proxy, by how well each domain's gradient points where the targets' loss falls."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mixers import simplex
from mixers.base import (
    Array,
    Choices,
    GradientEstimate,
    Lab,
    Mixer,
    MixerError,
    Mixture,
    Needs,
    Observation,
    Problem,
    Purchases,
    Run,
    Span,
    space,
)

TINY = 1e-6  # beside norms that divide, as released


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Names and defaults are those of the released arguments, where there are such.

    mu: strength of the pull to the last weights; the exponent is score / mu (0.05; 0.01 in the universal config).
    dw_min, dw_max: bounds of a score in learning rates; with a negative dw_min a harmful domain shrinks.
    reweight_eps: share of uniform in the weights. max_grad_norm: longer gradients are cut to it before they are
    multiplied (1; 5 in the universal config); 0: never. absent: see :class:`DoGE`. every: steps between updates.
    examples: of every domain and target in an update; 0: what a uniform batch has of a domain, but at least 1 (the
    code uses the batch itself, 32 examples of 8 domains). proxy_share: the proxy's steps as a share of the main run's
    (released: 10k of 10k to 20k). proxy_size: of its model.
    """

    mu: float = 0.05
    dw_min: float = 0.0
    dw_max: float = 5.0
    reweight_eps: float = 0.0
    max_grad_norm: float = 1.0
    absent: Literal["masked", "released"] = "masked"
    every: int = 1
    examples: int = 0
    proxy_share: float = 1.0
    proxy_size: float = 1.0

    def __post_init__(self) -> None:
        for valid, rule in (
            (0.0 < self.mu < math.inf, f"mu must be finite and above 0, not {self.mu}"),
            (-math.inf < self.dw_min <= 0.0, f"dw_min must be finite and at most 0, not {self.dw_min}"),
            (0.0 < self.dw_max < math.inf, f"dw_max must be finite and above 0, not {self.dw_max}"),
            (0.0 <= self.reweight_eps <= 1.0, f"reweight_eps must be in [0, 1], not {self.reweight_eps}"),
            (0.0 <= self.max_grad_norm < math.inf, f"max_grad_norm must be finite and at least 0 (0: never cut), "
             f"not {self.max_grad_norm}"),
            (self.absent in ("masked", "released"), f"absent is masked or released, not {self.absent}"),
            (self.every >= 1, f"every must be at least 1, not {self.every}"),
            (self.examples >= 0, f"examples must be at least 0 (0: a batch's share), not {self.examples}"),
            (0.0 < self.proxy_share <= 1.0, f"proxy_share must be in (0, 1], not {self.proxy_share}"),
            (0.0 < self.proxy_size < math.inf, f"proxy_size must be finite and above 0, not {self.proxy_size}"),
        ):  # fmt: skip
            if not valid:
                raise MixerError(f"doge: {rule}")


def stepped(weights: Array, seen: GradientEstimate, learning_rate: float, c: Settings) -> Array:
    """The next weights, [m], from the last and from gradients against the mean target."""
    norms, target_norm, products = seen.norms, float(seen.target_norms[0]), seen.products[:, 0]
    if c.max_grad_norm > 0.0:
        cut = np.minimum(1.0, c.max_grad_norm / (norms + TINY))
        products = products * cut * min(1.0, c.max_grad_norm / (target_norm + TINY))
        norms = norms * cut
    counted = norms if c.absent == "released" else norms[seen.present]
    mean = float(counted.mean()) if counted.size else 0.0
    scores = learning_rate * np.clip(products / (mean + TINY), c.dw_min, c.dw_max)
    return simplex.mix_with_uniform(simplex.exponentiated_gradient(weights, scores / c.mu), c.reweight_eps)


class Proxy(Mixer):
    """The proxy run: uniform sampling, loss weights m p, so that its expected step is that of sum_i p_i g_i."""

    Config = Settings

    def needs(self) -> Needs:
        """No signal: gradients are bought."""
        return Needs(every=self.config.every)

    def purchases(self, problem: Problem) -> Purchases:
        """The domains' gradients against the mean target's at every update."""
        updates = len(self.needs().boundaries(problem.steps)) - 1
        return Purchases(domain_gradients=updates, gradient_examples=self._examples(problem), gradients_against="mean")

    def _examples(self, problem: Problem) -> int:
        return self.config.examples or max(1, problem.batch_size // problem.m)

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        """Uniform weights for the first steps."""
        self._problem, self._weights = problem, simplex.uniform(problem.m)
        self._sum = self._weights * min(self.config.every, problem.steps)
        return problem.mixture(simplex.uniform(problem.m))

    def update(self, seen: Observation, lab: Lab) -> Mixture | None:
        """Weights for the next steps; they count in the average for as long as they are in force."""
        gradients = lab.domain_gradients(self._examples(self._problem), against="mean")
        self._weights = stepped(self._weights, gradients, seen.learning_rate, self.config)
        self._sum = self._sum + self._weights * min(self.config.every, seen.steps - seen.step)
        m = self._problem.m
        return self._problem.mixture(simplex.uniform(m), loss_weights=m * self._weights)

    def state_dict(self) -> dict[str, Any]:
        """Weights, and their sum over the steps, by domain."""
        arrays = {"weights": self._weights, "sum": self._sum}
        return {what: dict(zip(self._problem.domains, each.tolist(), strict=True)) for what, each in arrays.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._weights, self._sum = (
            np.array([state[what][name] for name in self._problem.domains]) for what in ("weights", "sum")
        )


class DoGE(Mixer):
    """Buy a proxy run that follows gradient alignment; sample by the time average of its weights.

    Source: *DoGE: Domain Reweighting with Generalization Estimation* (arXiv 2310.15393), and the code Olivia-fsm/DoGE
    88400e9 (``update_domain_weights_distributed``, the path of its configs; in the other, by reading, each domain's
    gradient holds those of the domains before it). The paper's text was not at hand. At a step of the proxy with
    learning rate lr, W_i = <g_i, g_target>, score s_i = lr W_i / mean_k |g_k| clipped to lr [dw_min, dw_max], p_i <-
    p_i exp(s_i / mu) / Z, and the proxy steps along sum_i p_i g_i with the new p. The main run samples by the mean of p
    over the proxy's steps.

    The exponent is proportional to the learning rate: in warm-up and at the end of a decay p hardly moves, and a rate
    twice as high acts as half of mu. Gradients (domains' and target's) times c act as exponent times c, as long as no
    bound cuts them: lengths beyond ``max_grad_norm`` do not count, and no step's exponent passes dw_max lr / mu.

    The bill is the proxy and, at every update, ``examples`` of all m domains and n targets forward and backward: with
    the defaults 2.7 to 2.9 main runs in the demo presets.

    Choices:

    - Target: the share-weighted mean of the targets' losses. Released for all domains together: one pseudo-domain of
      data from all of them. Of several target domains the code *sums* the gradients; n equal targets then are ``mu``,
      ``dw_min`` and ``dw_max`` divided by n (and each is cut alone). Its branch that would take a domain's own gradient
      out of the sum compares sets of tensors and is never taken.
    - Gradients are of fresh examples of every domain, after the step; the code scores the training batch itself before
      it. Hence the learning rate is that of the step before (the next one's is not known), and the first step, which
      the code weighs with a rate of about 0, is uniform; it counts in the average, as there.
    - The code leaves a domain that a batch lacks its last gradient. Here only a domain without data is absent: its
      score is 0; ``masked`` leaves it out of mean_k, ``released`` counts it there with norm 0, as the code would.
    - ``dw_min=0`` as released: a harmful domain counts as an orthogonal one, and p falls only as others rise.
    - A step's loss weights are m p on uniform samples: unbiased where a batch lacks domains, but its size varies with
      the draw. The code adds up the batch's domain gradients, each cut to ``max_grad_norm``, by p.
    """

    name = "doge"
    Config = Settings
    search_space = space(
        mu=Span(low=0.001, high=0.2, log=True),
        dw_min=Choices(values=(0.0, -5.0)),
        reweight_eps=Span(low=0.0, high=0.3),
    )

    def needs(self) -> Needs:
        """One round: the main run's mixture is static."""
        return Needs(rounds=1)

    def _proxy(self, problem: Problem) -> Run:
        c: Settings = self.config
        return Run(steps=max(1, round(c.proxy_share * problem.steps)), mixer=Proxy(c), size=c.proxy_size)

    def purchases(self, problem: Problem) -> Purchases:
        """The proxy, with what it buys itself."""
        return Purchases(runs=(self._proxy(problem),))

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        """The averaged weights of the proxy."""
        (proxy,) = lab.train([self._proxy(problem)])
        self._last = dict(proxy.state["weights"])
        average = simplex.normalise([proxy.state["sum"][name] for name in problem.domains])
        return problem.mixture(average)

    def report(self) -> dict[str, Any]:
        """The proxy's last weights by domain; the mixture itself is their average."""
        return {"last_weights": self._last}
