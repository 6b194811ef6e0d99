"""AutoMixer: a domain weighs what its examples do for the targets, at the checkpoints that are best at each of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from mixers import checkpoints, proxies, simplex, swarm
from mixers.base import (
    ADDED,
    Array,
    Choices,
    Lab,
    Mixer,
    MixerError,
    Mixture,
    Needs,
    Problem,
    Purchases,
    Run,
    Span,
    space,
)
from mixers.lab import Influence, InfluenceMethod, Layers


class AutoMixer(Mixer):
    """Train once, keep checkpoints, and weigh domains by the influence of their examples at each target's best one.

    Source: *AutoMixer: Checkpoint Artifacts as Automatic Data Mixers* (arXiv 2506.21910, ACL 2025), known here from its
    abstract and from notes on its method; no code is public. One simulated run on the training shares keeps
    ``checkpoints`` models. Target j takes the one with its least validation loss, theta_j, of step s_j. With I_j(x) the
    influence of training example x on target j at theta_j,

        I(x) = sum_j a_j I_j(x),  a_j = s_j / sum_i s_i;    rho_g = sum_{x in g} units(x) I(x) / sum_{x in g} units(x);

    domain g gets rho_g / sum rho. The mixture is static: the paper leaves a schedule to later work.

    **A reduced version.** The paper scores all examples, with a 350M proxy, and then cuts the data anew by influence;
    this is its mixer alone, on whatever domains there are, from ``examples`` of each. Its cut is the regrouper
    ``automixer``. Its targets are tasks, judged by accuracy; here a checkpoint is chosen by validation loss.

    Choices, where the notes are silent unless they say otherwise:

    - Influence is positive where an example *lowers* the target's loss (that of DataInf, as published, is negative).
    - negative: what becomes of negative densities. ``clip``: nothing, they are 0. ``softmax``: weights proportional to
      exp(rho / (temperature x standard deviation of the densities)). Where no density is positive (``clip``) or all are
      0, the mixture is the training shares, and the report says so.
    - shares: the paper adds targets up alike, so do we; ``target`` weighs them by their shares. Either way a target
      counts with the size of its gradient, unless ``standardise`` divides each by its root mean square.
    - layers, method, damping: embedding and output layers, DataInf with .1, as the paper says. A comparison of methods
      (arXiv 2412.03906, from notes) finds ``grad_dot`` nearly equal, at about the same price here.
    - proxy_share: half the main run, validation_examples: 64, both ours. The paper's simulated run has 100,000 steps.
    - A tie between checkpoints goes to the earlier one. Targets without a finite loss count for nothing; domains that
      have no example to score keep their training share.

    Limits. Influence is of single small steps at models of the *training* shares: it knows no repetition and no
    diminishing returns, so a domain of a handful of examples may get a large weight; ``max_epochs`` bounds how often it
    is repeated. Densities of a handful of examples are noisy: their standard errors are in the report. The paper finds
    small proxies (75M) worth nothing.

    Scale: all influences, or the losses, times a constant change nothing. Deterministic.
    """

    name = "automixer"
    search_space = space(
        negative=Choices(values=("clip", "softmax")),
        temperature=Span(low=0.3, high=3.0, log=True),
        standardise=Choices(values=(False, True)),
    )

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """checkpoints: the paper's 10. proxy_share, proxy_size: the simulated run's steps and parameters as shares of
        the main run's. match_repetition: see :class:`mixers.proxies.Fidelity`. validation_examples: of each target, to
        choose checkpoints by. examples: training examples of each domain that are scored; target_examples: of each
        target, to score against. 0: all. max_epochs: the main run repeats no domain more often, and what domains that
        help have no room for goes to the others by training shares; ``None``: no limit. The rest: see the class.
        """

        checkpoints: int = 10
        proxy_share: float = 0.5
        proxy_size: float = 1.0
        validation_examples: int = 64
        examples: int = 32
        target_examples: int = 32
        layers: Layers = "ends"
        method: InfluenceMethod = "datainf"
        damping: float = 0.1
        shares: Literal["equal", "target"] = "equal"
        standardise: bool = False
        negative: Literal["clip", "softmax"] = "clip"
        temperature: float = 1.0
        match_repetition: bool = field(default=False, metadata=ADDED)
        max_epochs: float | None = field(default=None, metadata=ADDED)

        def __post_init__(self) -> None:
            self.fidelity.checked("automixer")
            for valid, rule in (
                (self.checkpoints >= 1, f"checkpoints must be at least 1, not {self.checkpoints}"),
                (self.shares in ("equal", "target"), f"shares is equal or target, not {self.shares}"),
                (self.negative in ("clip", "softmax"), f"negative is clip or softmax, not {self.negative}"),
                (0.0 < self.temperature < math.inf, f"temperature must be above 0 and finite, not {self.temperature}"),
                (
                    self.max_epochs is None or 0.0 < self.max_epochs < math.inf,
                    f"max_epochs must be positive and finite, or none, not {self.max_epochs}",
                ),
            ):
                if not valid:
                    raise MixerError(f"automixer: {rule}")
            _ = self.influence  # checks its own fields

        @property
        def fidelity(self) -> proxies.Fidelity:
            """What the simulated run is."""
            return proxies.Fidelity(
                share=self.proxy_share,
                size=self.proxy_size,
                match_repetition=self.match_repetition,
                validation_examples=self.validation_examples,
            )

        @property
        def influence(self) -> Influence:
            """How examples are scored."""
            return Influence(
                examples=self.examples,
                target_examples=self.target_examples,
                layers=self.layers,
                method=self.method,
                damping=self.damping,
            )

    def needs(self) -> Needs:
        """One round: the mixture is static."""
        return Needs(rounds=1)

    def _run(self, problem: Problem) -> Run:
        return checkpoints.watched(self.config.fidelity.order(problem, problem.train_shares), self.config.checkpoints)

    def purchases(self, problem: Problem) -> Purchases:
        """The simulated run, and at most all targets at as many checkpoints as there can be best ones."""
        if problem.m == 1:
            return Purchases()
        run = self._run(problem)
        return Purchases(
            runs=(run,),
            influence=min(len(run.keep_at), len(problem.targets)),
            influence_how=self.config.influence,
            influence_size=run.size,
        )

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        """Buy the run and the influences, and weigh the domains by them."""
        if problem.m == 1:
            self._report: dict[str, Any] = {"examples": 0}
            return problem.mixture([1.0])
        run, c = self._run(problem), self.config
        (result,) = lab.train([run])
        used = proxies.objective(problem, None, result.losses) > 0.0
        found = checkpoints.score(result, lab, c.influence, used, standardise=c.standardise)
        weight = problem.target_shares if c.shares == "target" else np.ones(len(used))
        blend = np.where(used, weight * found.steps, 0.0)  # a_j, up to what they are divided by in the end
        joint = np.where(used, found.influence, 0.0) @ (blend / blend.sum())
        density, error = checkpoints.densities(joint, found.units, found.domains, problem.m)
        weights, remark = self._weights(density, problem.train_shares)
        known, names = np.isfinite(density), np.array(problem.domains)
        self._report = {
            "checkpoints": {t: int(s) for t, s, there in zip(problem.targets, found.steps, used, strict=True) if there},
            "density": dict(zip(names[known].tolist(), density[known].tolist(), strict=True)),
            "standard_error": dict(zip(names[known].tolist(), error[known].tolist(), strict=True)),
            "examples": len(joint),
            "helpful": round(float((joint > 0.0).mean()), 4) if len(joint) else None,
            "skipped_targets": [name for name, there in zip(problem.targets, used, strict=True) if not there],
            "not_scored": names[~known].tolist(),
            **({"remark": remark} if remark else {}),
        }
        if c.max_epochs is not None:
            wanted = weights
            weights = swarm.within(wanted, problem.train_shares, swarm.repetition_caps(problem, c.max_epochs))
            self._report["capped"] = round(simplex.total_variation(weights, wanted), 6)
        return problem.mixture(weights)

    def _weights(self, density: Array, prior: Array) -> tuple[Array, str]:
        """[m] weights from densities, NaN where a domain has none; and a remark where they give none."""
        c, known = self.config, np.isfinite(density)
        rho = density[known]
        if c.negative == "clip":
            raw, remark = np.clip(rho, 0.0, None), "no domain has a positive density: training shares"
        elif rho.size and rho.any():
            spread = float(rho.std())
            raw, remark = simplex.softmax(rho / (c.temperature * spread)) if spread > 0.0 else np.ones(rho.size), ""
        else:
            raw, remark = np.zeros(rho.size), "all densities are 0: training shares"
        if raw.sum() <= 0.0:
            return np.array(prior), remark
        weights = np.array(prior)
        weights[known] = prior[known].sum() * simplex.normalise(raw)
        return simplex.normalise(weights), ""

    def report(self) -> dict[str, Any]:
        """Each target's checkpoint (its step), each domain's density with its standard error, and what was left out.

        helpful: share of the scored examples whose joint influence is positive. capped: total variation by which
        ``max_epochs`` moved the mixture, where it is given.
        """
        return self._report
