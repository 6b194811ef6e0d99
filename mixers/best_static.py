"""The best of several static mixtures, each tried by main runs of its own: how much there was to gain."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mixers import proxies, simplex, swarm
from mixers.base import ADDED, Array, Lab, Mixer, MixerError, Mixture, Needs, Problem, Purchases, Run
from mixers.swarm import Prior, Swarm

DRAWN = 3  # seed of the swarm
# From mixtures of few domains to ones near the prior: RegMix's, which end at 5, are meant to spread a regression.
STRENGTHS = tuple(round(float(s), 2) for s in np.geomspace(2.0, 200.0, 9))


class BestStatic(Mixer):
    """The static mixture with the least validation loss in full runs on seeds that no trial reports.

    A reference and no method: it costs ``mixtures`` x ``seeds`` main runs, to show what a static mixture can gain on
    this task at this budget. A method that stays below it left something, and one above it found what no mixture that
    was tried has. It is not the optimum: few mixtures of a large space are tried.

    The mixtures are the natural, the uniform and the target's, as far as they exist and differ, and draws from RegMix's
    sampler (:mod:`mixers.swarm`) with larger strengths. Their runs are *shared* (see :class:`mixers.lab.Run`): the same
    for all trials of an experiment, which make them once and choose the same mixture, then trained and judged on each
    trial's own seed. Under a partition that depends on the seed each cut has draws and runs of its own.

    Judged by the validation loss that the target shares weigh, a mean over the runs' seeds. The least of many noisy
    losses is lower than its mixture deserves: ``ahead`` shows by how much it beat the second, ``spread`` how far seeds
    of one mixture lie apart. On a table runs are replayed at the judged size, with the noise of single runs, while the
    score is the table's mean: the choice may err there, too: on RegMix's own runs the natural mixture was the best of
    16, and one that a run flattered the choice among 64, though worse by the table's mean (one seed). Scale: losses
    times a constant choose the same mixture.
    """

    name = "best_static"
    reference = True

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """mixtures: that are tried, the plain ones among them. seeds: runs of each. prior, temperature, strengths,
        floor, prior_cap: of the draws, see :class:`mixers.swarm.Swarm`. max_epochs: no draw repeats a domain more
        often; ``None``: no limit.
        """

        mixtures: int = 16
        seeds: int = 1
        temperature: float = 0.5
        strengths: tuple[float, ...] = STRENGTHS
        floor: float = 2e-4
        prior_cap: float | None = 15.0
        max_epochs: float | None = None
        prior: Prior = field(default="train", metadata=ADDED)

        def __post_init__(self) -> None:
            self.swarm.checked()
            for valid, rule in (
                (self.mixtures >= 1, f"mixtures must be at least 1, not {self.mixtures}"),
                (self.seeds >= 1, f"seeds must be at least 1, not {self.seeds}"),
                (
                    self.max_epochs is None or 0.0 < self.max_epochs < float("inf"),
                    f"max_epochs must be positive and finite, or none, not {self.max_epochs}",
                ),
            ):
                if not valid:
                    raise MixerError(f"best_static: {rule}")

        @property
        def swarm(self) -> Swarm:
            """How a mixture is drawn."""
            return Swarm(
                prior=self.prior,
                temperature=self.temperature,
                strengths=self.strengths,
                floor=self.floor,
                prior_cap=self.prior_cap,
                mixer="best_static",
            )

    def needs(self) -> Needs:
        """One round: the mixture is static."""
        return Needs(rounds=1)

    def _candidates(self, problem: Problem) -> dict[str, Array]:
        """Name -> [m]: the same mixtures in every trial, whatever the order of the domains."""
        if problem.m == 1:
            return {}
        c, home = self.config, swarm.canonical(problem)
        target = home.target_on_domains()
        plain = {
            "natural": simplex.normalise(home.train_shares),
            "uniform": simplex.uniform(home.m),
            **({"target": simplex.normalise(target)} if target.any() else {}),
        }
        found: dict[str, Array] = {}
        for name, mixture in plain.items():
            if not any(np.allclose(mixture, other, atol=1e-9) for other in found.values()):
                found[name] = mixture
        count = c.mixtures - len(found)
        if count > 0:
            caps = swarm.repetition_caps(home, c.max_epochs)
            drawn = c.swarm.draw(replace(home, seed=0), count, DRAWN, caps=caps)
            found |= {f"draw {i}": mixture for i, mixture in enumerate(drawn)}
        back = swarm.columns(home, problem)
        return {name: mixture[back] for name, mixture in list(found.items())[: c.mixtures]}

    def _runs(self, problem: Problem) -> tuple[Run, ...]:
        """All seeds of the first mixture, then those of the next."""
        return tuple(
            Run(steps=problem.steps, mixture=problem.mixture(mixture), seed=seed, shared=True)
            for mixture in self._candidates(problem).values()
            for seed in range(self.config.seeds)
        )

    def purchases(self, problem: Problem) -> Purchases:
        """The runs, exactly."""
        return Purchases(runs=self._runs(problem))

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        """Buy the runs and take the best mixture."""
        tried = self._candidates(problem)
        if not tried:
            self._report: dict[str, Any] = {"runs": 0}
            return problem.mixture([1.0])
        losses = np.stack([made.final for made in lab.train(self._runs(problem))])
        weights = proxies.objective(problem, None, losses)
        whole = losses[:, weights > 0.0] @ weights[weights > 0.0]
        by_seed = whole.reshape(len(tried), self.config.seeds)
        means = by_seed.mean(axis=1)  # NaN where one of a mixture's runs diverged
        if not np.isfinite(means).any():
            raise MixerError("best_static: no mixture has finite losses in all its runs; lower the learning rate")
        order = np.argsort(np.where(np.isfinite(means), means, np.inf), kind="stable")
        names = list(tried)
        finite = {names[i]: float(means[i]) for i in order if np.isfinite(means[i])}
        ahead = [b - a for a, b in zip(list(finite.values())[:1], list(finite.values())[1:2], strict=False)]
        spread = np.nanmean(by_seed.std(axis=1, ddof=1)) if self.config.seeds > 1 else None
        self._report = {
            "runs": whole.size,
            "chosen": names[order[0]],
            "losses": [[name, loss] for name, loss in finite.items()],
            "ahead": ahead[0] if ahead else None,
            "spread": None if spread is None else float(spread),
            "diverged": [name for name, mean in zip(names, means, strict=True) if not np.isfinite(mean)],
        }
        return problem.mixture(tried[names[order[0]]])

    def report(self) -> dict[str, Any]:
        """The mixtures' mean losses from the best on, which was chosen, and how surely.

        ahead: how much lower its loss is than the second's. spread: mean over mixtures of the standard deviation over
        seeds; ``None`` for one seed. diverged: mixtures left out because a run of theirs has no finite loss.
        """
        return self._report
