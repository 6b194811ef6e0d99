"""TiKMiX-D: the mixture whose influence on the targets is greatest and most even, solved anew at every stage."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from mixers import influence, simplex
from mixers.base import (
    Array,
    Choices,
    GradientEstimate,
    IntArray,
    Lab,
    Mixer,
    MixerError,
    Mixture,
    Needs,
    Observation,
    Problem,
    Purchases,
    Scaling,
    Span,
    space,
)  # fmt: skip


class TiKMiXD(Mixer):
    """Measure how training on j would change target i, S_ij, and take the mixture of greatest, most even influence.

    Source: *TiKMiX: Take Data Influence into Dynamic Mixture for Language Model Pre-training* (arXiv 2508.17677v1),
    known here from detailed notes on its method; no code is public. The first stage trains on the prior. At each
    boundary S is measured on the live model; with P = S w, every P_i divided by max_j S_ij, the next mixture minimises

        alpha std(P) - beta sum(P) - gamma entropy(w)   over the simplex, subject to  S w >= S prior.

    **A reduced version.** The paper's influence is -grad f_i^T H^-1 (sum of domain j's gradients). Here the curvature H
    is the root of Adam's second moments, a diagonal (``scaling=adam``), or left out (``scaling=none``). The paper cites
    EK-FAC; whether it uses it is uncertain. Gradients are means over equally many examples of each domain, few beside
    the paper's 0.1B tokens.

    Choices:

    - Sign: by the paper's words a positive influence raises the loss, and yet it is maximised. Here S_ij = <g_j, t_i>
      is positive where a step on j *lowers* loss i.
    - Normaliser: the paper adds 1e-8 to it. Here a target is left out, of the constraint too, and reported, where the
      best domain helps by at most ``guard`` times the largest |S_ij| of its row: without help there is no scale.
    - Solver: the problem is convex; :mod:`mixers.influence` solves it for any number of domains. The paper starts SLSQP
      from uniform, which may break the constraint, as the prior never does.
    - Domains without examples keep their share of the prior; targets without examples count for nothing. With no target
      left the mixture is the prior.
    - The prior stays the reference at all boundaries; the paper's is the mixture in force, the same with two stages. It
      speaks of two stages and, elsewhere, of a stage every fifth of the run.
    - shares: the paper sums over targets alike; ``target`` weighs them in std and sum by their shares (times n).

    Limits. Where each domain helps its own target most, few mixtures make no target worse: with diagonal S none but the
    prior does (measured with the seven text domains as targets: two of four stages allowed no move). There is room
    where domains outnumber targets, as the paper's 26 do; elsewhere ``slack`` and ``pareto=false`` give some. The sum
    grows with n while the entropy does not, so with many targets few domains are left. Targets that hardly any domain
    helps have large negative P and rule the result. S is linear: it says nothing of long steps.

    Scale: S times a constant changes nothing, nor does a constant for each target. Deterministic.
    """

    name = "tikmix_d"
    search_space = space(
        beta=Span(low=0.1, high=10.0, log=True),
        gamma=Span(low=0.1, high=30.0, log=True),
        pareto=Choices(values=(True, False)),
    )

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """alpha, beta, gamma: weights of spread, sum and entropy (paper: 1). stages: two in the paper.

        prior: shares of the training data, equal ones or the target's. scaling, shares, guard: see the class. examples:
        of each domain and target in a measurement, which costs the gradients of n + m ceil(n / 4) times as many.
        pareto: whether there is the constraint. slack: how far it lets a target fall below what the prior gives it, in
        units of its best domain's influence (paper: 0).
        """

        stages: int = 2
        alpha: float = 1.0
        beta: float = 1.0
        gamma: float = 1.0
        prior: Literal["natural", "uniform", "target"] = "natural"
        examples: int = 32
        scaling: Scaling = "adam"
        shares: Literal["equal", "target"] = "equal"
        pareto: bool = True
        slack: float = 0.0
        guard: float = 1e-3

        mixer: ClassVar[str] = "tikmix_d"  # begins every message

        def __post_init__(self) -> None:
            weights = (self.alpha, self.beta, self.gamma)
            for valid, rule in (
                (self.stages >= 1, f"stages must be at least 1, not {self.stages}"),
                (all(0.0 <= x < math.inf for x in weights), "alpha, beta and gamma must be finite and at least 0"),
                (any(weights), "one of alpha, beta and gamma must be above 0"),
                (self.prior in ("natural", "uniform", "target"), f"prior is natural, uniform or target: {self.prior}"),
                (self.examples >= 1, f"examples must be at least 1, not {self.examples}"),
                (self.scaling in ("adam", "none"), f"scaling is adam or none, not {self.scaling}"),
                (self.shares in ("equal", "target"), f"shares is equal or target, not {self.shares}"),
                (0.0 <= self.slack < math.inf, f"slack must be finite and at least 0, not {self.slack}"),
                (0.0 <= self.guard < 1.0, f"guard must be in [0, 1), not {self.guard}"),
            ):
                if not valid:
                    raise MixerError(f"{self.mixer}: {rule}")

    def needs(self) -> Needs:
        """A round is a stage; the influence is bought."""
        return Needs(rounds=self.config.stages)

    def purchases(self, problem: Problem) -> Purchases:
        """One measurement at every boundary between stages."""
        boundaries = len(self.needs().boundaries(problem.steps)) - 1
        return Purchases(domain_gradients=boundaries, gradient_examples=self.config.examples)

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        """The prior."""
        self._problem, self._stages = problem, list[dict[str, Any]]()
        if self.config.prior == "target":
            shares = problem.target_on_domains()
            if not shares.any():
                raise MixerError(
                    f"{self.name}: prior=target needs a training domain that is a target; use prior=natural"
                )
            self._prior = simplex.normalise(shares)
        else:
            natural = self.config.prior == "natural"
            self._prior = simplex.normalise(problem.train_shares) if natural else simplex.uniform(problem.m)
        return problem.mixture(self._prior)

    def update(self, seen: Observation, lab: Lab) -> Mixture | None:
        """The mixture of the next stage."""
        c, prior, targets = self.config, self._prior, np.array(self._problem.targets)
        estimates = self._measured(lab)
        there = estimates[0].target_present
        parts = np.stack([estimate.products for estimate in estimates])  # [parts, m, n]
        free = estimates[0].present & np.isfinite(parts[:, :, there]).all(axis=(0, 2))
        matrix = np.where(free, parts.mean(axis=0).T, 0.0)  # [n, m]
        chosen = self._order()[free[self._order()]]
        best = matrix[:, free].max(axis=1, initial=-np.inf)
        used = there & (best > c.guard * np.abs(matrix).max(axis=1))
        rows = matrix[np.ix_(used, chosen)] / best[used, None]  # P = rows weights[chosen]
        wanted = self._problem.target_shares[used] if c.shares == "target" else np.ones(used.sum())
        weights, mass, solved = prior.copy(), float(prior[chosen].sum()), True
        remarks: dict[str, Any] = {}
        if mass > 0.0 and wanted.sum() > 0.0:
            objective = influence.Objective(
                rows=mass * rows,
                shares=simplex.normalise(wanted),
                spread=c.alpha,
                gain=c.beta,
                entropy=c.gamma * mass,
            )
            slack = c.slack if c.pareto else math.inf
            solution, solved = influence.minimise(objective, prior[chosen] / mass, slack)
            apart = mass * parts[:, chosen][:, :, used].transpose(0, 2, 1) / best[used, None]
            solution, remarks = self._refined(objective, solution, apart, seen.step)
            weights[chosen] = mass * solution
        before_after = np.stack([rows @ prior[chosen], rows @ weights[chosen]], axis=1).round(6).tolist()
        self._stages.append(
            {
                "step": seen.step,
                "solved": solved,
                "moved": round(simplex.total_variation(weights, prior), 6),
                "influence": dict(zip(targets[used].tolist(), before_after, strict=True)),
                "left_out": targets[there & ~used].tolist(),
                "no_gradient": np.array(seen.domains)[~free].tolist(),
                **remarks,
            }
        )
        return self._problem.mixture(weights)

    def _measured(self, lab: Lab) -> list[GradientEstimate]:
        """One measurement on the live model, or parts of one whose mean it is."""
        return [lab.domain_gradients(self.config.examples, scaling=self.config.scaling)]

    def _order(self) -> IntArray:
        """[m] positions of the domains in the order in which they are worked on."""
        return np.arange(self._problem.m)

    def _refined(
        self, objective: influence.Objective, solution: Array, parts: Array, step: int
    ) -> tuple[Array, dict[str, Any]]:
        """The mixture to take in place of the objective's solution, and remarks on it; here the solution.

        parts: [parts, n, m] of what the objective's rows are the mean of.
        """
        return solution, {}

    def state_dict(self) -> dict[str, Any]:
        """The remarks on the stages that have begun."""
        return {"stages": self._stages}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._stages = [dict(stage) for stage in state["stages"]]

    def report(self) -> dict[str, Any]:
        """By stage: each target's normalised influence under the prior and the mixture, and what was left out.

        solved: false where the solver stopped early, with the best mixture met that obeys the constraint.
        """
        return {"stages": self._stages}
