"""Mixers that decide from runs bought before training, in the ways that a table can and cannot answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from mixers.base import Checkpoint, Influence, Lab, Mixer, MixerError, Mixture, Needs, Problem, Purchases, Run
from mixers.uniform import Uniform


@dataclass(frozen=True, slots=True, kw_only=True)
class BestOfConfig:
    """runs: static ones, of ``size``. oddity: what about them is not a plain static run."""

    runs: int = 6
    size: float = 1.0
    oddity: str = ""


class BestOf(Mixer):
    """Trains some Dirichlet mixtures and keeps the one of the lowest mean loss."""

    name: ClassVar[str] = "best_of"
    Config: ClassVar[type] = BestOfConfig

    def needs(self) -> Needs:
        return Needs(rounds=1)

    def _orders(self, problem: Problem) -> tuple[Run, ...]:
        rng = np.random.default_rng(problem.seed)
        drawn = rng.dirichlet(np.ones(problem.m), self.config.runs)
        odd: dict[str, Any] = {
            "": {},
            "mixer": {"mixture": None, "mixer": Uniform()},
            "start": {"start": Checkpoint(key="k")},
            "keep": {"keep": True},
            "keep on the way": {"keep_at": (1,)},
            "subsample": {"subsample": 0.5},
            "early": {"evaluate_at": (0, 10)},
            "end": {"evaluate_at": (10,)},
            "lengths": {},
            "more": {},
            "neither": {"mixture": None},
            "loss weights": {"mixture": problem.mixture(drawn[0], np.ones(problem.m))},
        }[self.config.oddity]
        base = {"steps": 10, "size": self.config.size}
        runs = tuple(Run(**({**base, "mixture": problem.mixture(weights)} | odd)) for weights in drawn)
        return (
            tuple(replace(run, steps=10 + i) for i, run in enumerate(runs)) if self.config.oddity == "lengths" else runs
        )

    def purchases(self, problem: Problem) -> Purchases:
        return Purchases(runs=self._orders(problem))

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        orders = self._orders(problem)
        if self.config.oddity == "more":
            orders = (*orders, orders[0])
        results = lab.train(orders)
        assert results[0].steps == (10,)
        self._losses = [result.final.tolist() for result in results]
        scores = [float(np.nansum(result.final * problem.target_shares)) for result in results]
        chosen = orders[int(np.argmin(scores))].mixture
        assert chosen is not None
        return chosen

    def report(self) -> dict[str, Any]:
        return {"losses": self._losses}


class Grabs(Mixer):
    """Declares nothing and buys what ``what`` says."""

    name: ClassVar[str] = "grabs"

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """what: a purchase."""

        what: str = "validation"

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        if self.config.what == "validation":
            lab.validation_losses()
        elif self.config.what == "gradients":
            lab.domain_gradients(4)
        elif self.config.what == "mean gradients":
            lab.domain_gradients(4, against="mean")
        elif self.config.what == "probe":
            lab.probe(problem.mixture(np.full(problem.m, 1 / problem.m)), 3)
        elif self.config.what == "embeddings":
            lab.embeddings(4)
        elif self.config.what == "influence":
            lab.influence(Checkpoint(key="any"), Influence())
        raise MixerError("it was sold")


class Weighing(Mixer):
    """Sets loss weights on its mixture."""

    name: ClassVar[str] = "weighing"

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        return problem.mixture(problem.train_shares, np.ones(problem.m))
