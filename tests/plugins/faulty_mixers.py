"""Mixers with one fault each, named for the check that must find it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mixers.base import (
    Lab,
    Mixer,
    MixerError,
    Mixture,
    Needs,
    Observation,
    Problem,
    Purchases,
    Span,
    TrainLosses,
    space,
)


class _Even(Mixer):
    """No fault yet: three rounds of the uniform mixture."""

    def needs(self) -> Needs:
        return Needs(rounds=4, signals=(TrainLosses(),))

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        self.problem = problem
        return problem.mixture(np.full(problem.m, 1 / problem.m))

    def weigh(self, scores: Any) -> Mixture:
        """The softmax of scores, as a mixture."""
        powers = np.exp(scores - np.max(scores))
        return self.problem.mixture(powers / powers.sum())


class Simplex(_Even):
    name: ClassVar[str] = "fails_simplex"

    def update(self, seen: Observation, lab: Lab) -> Mixture | None:
        return Mixture(domains=self.problem.domains, weights=np.full(self.problem.m, 0.5))


class SimplexList(_Even):
    name: ClassVar[str] = "fails_simplex_list"

    def update(self, seen: Observation, lab: Lab) -> Any:
        return [1 / self.problem.m] * self.problem.m


class SimplexRaises(_Even):
    name: ClassVar[str] = "fails_simplex_raises"

    def update(self, seen: Observation, lab: Lab) -> Any:
        raise RuntimeError("no idea\nwhat to do")


class Determinism(_Even):
    name: ClassVar[str] = "fails_determinism"

    def update(self, seen: Observation, lab: Lab) -> Mixture | None:
        return self.weigh(np.random.default_rng().normal(size=self.problem.m))


class DeterminismGlobal(_Even):
    name: ClassVar[str] = "fails_determinism_global"

    def update(self, seen: Observation, lab: Lab) -> Mixture | None:
        return self.weigh(np.random.normal(size=self.problem.m))  # noqa: NPY002 - the fault


class Signals(_Even):
    name: ClassVar[str] = "fails_signals"

    def update(self, seen: Observation, lab: Lab) -> Mixture | None:
        return self.weigh(np.tanh(seen.domain_gradients.norms()))


class SignalsPeeks(_Even):
    """Looks into the field behind the property, which says nothing where there is nothing."""

    name: ClassVar[str] = "fails_signals_peeks"

    def needs(self) -> Needs:
        return Needs(rounds=4)

    def update(self, seen: Observation, lab: Lab) -> Mixture | None:
        return None if seen.losses is None else self.weigh(np.where(seen.present, seen.losses, 0.0))


class Permutation(_Even):
    name: ClassVar[str] = "fails_permutation"

    def update(self, seen: Observation, lab: Lab) -> Mixture | None:
        return self.weigh(np.arange(self.problem.m))


class Names(_Even):
    name: ClassVar[str] = "fails_names"

    def update(self, seen: Observation, lab: Lab) -> Mixture | None:
        return self.weigh(np.array([domain == "wikipedia" for domain in seen.domains], dtype=float))


class Absent(_Even):
    name: ClassVar[str] = "fails_absent"

    def update(self, seen: Observation, lab: Lab) -> Mixture | None:
        return self.weigh(seen.train_losses)


class AbsentState(_Even):
    """Masks its mixture and keeps the NaN."""

    name: ClassVar[str] = "fails_absent_state"

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        self.losses = np.zeros(problem.m)
        return super().start(problem, lab)

    def update(self, seen: Observation, lab: Lab) -> Mixture | None:
        self.losses = seen.train_losses
        return None

    def state_dict(self) -> dict[str, Any]:
        return {"losses": self.losses.tolist()}

    def load_state_dict(self, state: Any) -> None:
        self.losses = np.array(state["losses"])


class ManyDomains(_Even):
    """One example of every domain in every batch, and the rest even."""

    name: ClassVar[str] = "fails_many_domains"

    def update(self, seen: Observation, lab: Lab) -> Mixture | None:
        m, batch = self.problem.m, self.problem.batch_size
        return self.problem.mixture(1 / batch + (1 - m / batch) * self.problem.train_shares)


class ManyDomainsRefused(_Even):
    """Trains only where a batch can hold every domain, however long the run."""

    name: ClassVar[str] = "fails_many_domains_refused"

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        if problem.m > problem.batch_size:
            raise MixerError("fails_many_domains_refused: too many domains")
        return super().start(problem, lab)


class SingleDomain(_Even):
    name: ClassVar[str] = "fails_single_domain"

    def update(self, seen: Observation, lab: Lab) -> Mixture | None:
        return self.problem.mixture((1 - self.problem.train_shares) / np.float64(self.problem.m - 1))


class Targets(_Even):
    """Takes the targets' losses for the domains'."""

    name: ClassVar[str] = "fails_targets"

    def needs(self) -> Needs:
        return Needs(rounds=4)

    def purchases(self, problem: Problem) -> Purchases:
        return Purchases(validation_losses=3)

    def update(self, seen: Observation, lab: Lab) -> Mixture | None:
        return self.weigh(np.nan_to_num(lab.validation_losses()))


class _Remembers(_Even):
    """Adds up losses."""

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        self.scores = np.zeros(problem.m)
        return super().start(problem, lab)

    def update(self, seen: Observation, lab: Lab) -> Mixture | None:
        self.scores = self.scores + np.where(seen.present, seen.train_losses, 0.0)
        return self.weigh(self.scores)


class State(_Remembers):
    """Remembers, and says nothing of it."""

    name: ClassVar[str] = "fails_state"


class StateArray(_Remembers):
    name: ClassVar[str] = "fails_state_array"

    def state_dict(self) -> dict[str, Any]:
        return {"scores": self.scores}


class StateNotLoaded(_Remembers):
    name: ClassVar[str] = "fails_state_not_loaded"

    def state_dict(self) -> dict[str, Any]:
        return {"scores": self.scores.tolist()}


class StateReport(_Even):
    """Forgets nothing that it needs, but what it reports."""

    name: ClassVar[str] = "fails_state_report"

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        self.updates = 0
        return super().start(problem, lab)

    def update(self, seen: Observation, lab: Lab) -> Mixture | None:
        self.updates += 1
        return None

    def report(self) -> dict[str, Any]:
        return {"updates": self.updates}


class Inputs(_Even):
    name: ClassVar[str] = "fails_inputs"

    def update(self, seen: Observation, lab: Lab) -> Mixture | None:
        losses = seen.train_losses
        losses[~seen.present] = 0.0
        return self.weigh(losses)


class InputsForced(_Even):
    """Takes the lock off first."""

    name: ClassVar[str] = "fails_inputs_forced"

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        problem.train_shares.setflags(write=True)
        problem.train_shares[:] = 1 / problem.m
        return super().start(problem, lab)


class SearchSpace(_Even):
    name: ClassVar[str] = "fails_search_space"
    search_space = space(heat=Span(low=0.1, high=1.0))


class SearchSpaceValue(_Even):
    name: ClassVar[str] = "fails_search_space_value"
    search_space = space(heat=Span(low=-1.0, high=1.0))

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        heat: float = 0.5

        def __post_init__(self) -> None:
            if self.heat < 0:
                raise MixerError(f"heat must be at least 0, not {self.heat}")


class Cost(_Even):
    """Buys one more than it declares."""

    name: ClassVar[str] = "fails_cost"

    def needs(self) -> Needs:
        return Needs(rounds=4)

    def purchases(self, problem: Problem) -> Purchases:
        return Purchases(validation_losses=2)

    def update(self, seen: Observation, lab: Lab) -> Mixture | None:
        lab.validation_losses()
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundConfig:
    """heat: how strongly to follow the losses; refuse: say no to targets that are not trained on."""

    heat: float = 1.0
    refuse: bool = False


class Sound(_Remembers):
    """No fault, with everything that a mixer can have: the faults above are faults in comparison with this."""

    name: ClassVar[str] = "sound"
    Config: ClassVar[type] = SoundConfig

    def needs(self) -> Needs:
        return Needs(rounds=4, signals=(TrainLosses(),))

    def purchases(self, problem: Problem) -> Purchases:
        return Purchases(validation_losses=4)

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        if self.config.refuse and not problem.target_on_domains().any():
            raise MixerError("sound: no training domain is a target; use another mixer")
        lab.validation_losses()
        return super().start(problem, lab)

    def update(self, seen: Observation, lab: Lab) -> Mixture | None:
        super().update(seen, lab)
        losses = dict(zip(self.problem.targets, np.nan_to_num(lab.validation_losses()), strict=True))
        validation = np.array([losses.get(domain, 0.0) for domain in self.problem.domains])
        return self.weigh(self.config.heat * np.tanh(self.scores + validation))

    def state_dict(self) -> dict[str, Any]:
        return {"scores": self.scores.tolist()}

    def load_state_dict(self, state: Any) -> None:
        self.scores = np.array(state["scores"])


class Draws(_Even):
    """Draws from the trial's seed, as it should: its weights then depend on the order by chance."""

    name: ClassVar[str] = "draws"

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        return problem.mixture(np.random.default_rng(problem.seed).dirichlet(np.ones(problem.m)))
