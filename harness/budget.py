"""Two ways to compare: at equal main budget, and at equal total budget, where a mixer pays out of its own training.

Under ``total`` the budget is the FLOPs of the recipe's steps without any mixer. What the mixer declares, its signals
and its purchases for a main run of the length that is left, is taken off before the main run starts, so that its
length and its schedule are known; the lab refuses more than was declared. Regrouping belongs to the partition, which
all mixers share, and is not taken off.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from harness.flops import PassFlops
from harness.prepared import Prepared, pass_flops, problem_of
from harness.proxies.prices import price_of
from mixers.base import DomainGradients, MixerError, StepLosses

RULES = ("main", "total")
TRACKED_STEPS = 2  # enough to count a signal's price a step
MARGIN = 1.02  # the price of a step's signals varies a little with the domains that it meets


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserve:
    """A fitted budget in FLOPs. total: of everything. main: of the main run's steps. steps: how many those are."""

    total: float
    main: float
    steps: int

    def as_row(self) -> dict[str, float | int | str]:
        """The object ``budget`` of a row."""
        return {"rule": "total", "flops": self.total, "main_flops": self.main, "steps": self.steps}


def fitted(prepared: Prepared) -> tuple[Prepared, Reserve | None]:
    """The trial with the main run that its budget rule leaves, and the reserve where there is one.

    Raises :class:`MixerError` where the purchases alone exceed the budget.
    """
    if prepared.spec.budget_rule == "main":
        return prepared, None
    flops = pass_flops(prepared, prepared.build_model().to(prepared.device))
    steps = prepared.recipe.steps
    total = steps * flops.training
    signals = _signal_flops(prepared, flops)

    def spent(main_steps: int) -> float:
        run = _shortened(prepared, main_steps)
        bought = price_of(run, run.mixer.purchases(run.problem), flops)
        return main_steps * flops.training + bought + signals.of(run)

    def fits(main_steps: int) -> bool:
        try:
            return spent(main_steps) <= total * (1 + 1e-12)
        except MixerError:  # too short for this mixer, whose own words come below if nothing longer fits
            return True

    low, high = 1, steps
    while low < high:  # the most steps that fit
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    if (needed := spent(low)) > total * (1 + 1e-12):
        raise MixerError(
            f"{prepared.mixer.name}: what it declares to buy costs {100 * needed / total:.0f} % of the total "
            "budget with a main run of one step; make its purchases smaller, or use --budget-rule main"
        )
    return _shortened(prepared, low), Reserve(total=total, main=low * flops.training, steps=low)


def _shortened(prepared: Prepared, steps: int) -> Prepared:
    """The same trial with a main run of so many steps."""
    recipe = replace(prepared.recipe, steps=steps)
    problem = problem_of(prepared.corpus, prepared.partition, recipe, prepared.problem.seed)
    return replace(prepared, recipe=recipe, problem=problem)


@dataclass(frozen=True, slots=True, kw_only=True)
class _SignalPrice:
    """FLOPs that signals add to a step and to a round's end."""

    step: float
    round: float

    def of(self, run: Prepared) -> float:
        """Upper bound over a main run."""
        steps = run.recipe.steps
        return steps * self.step + len(run.mixer.needs().boundaries(steps)) * self.round


def _signal_flops(prepared: Prepared, flops: PassFlops) -> _SignalPrice:
    """Counted on a few tracked steps of a trainer that is thrown away."""
    signals = prepared.mixer.needs().signals
    step = sum(flops.forward for signal in signals if isinstance(signal, StepLosses) and signal.reference is not None)
    tracked = tuple(signal for signal in signals if isinstance(signal, DomainGradients))
    if not tracked:
        return _SignalPrice(step=step, round=0.0)
    trainer = prepared.trainer(tracked)
    m = prepared.problem.m
    trainer.begin_round(0)
    for _ in range(TRACKED_STEPS):
        trainer.step(prepared.problem.mixture([1.0 / m] * m))
    assert trainer.tracker is not None
    steps_only = trainer.tracker.flops
    present = max(1, int((trainer.tracker.take().counts > 0).sum()))
    end = (trainer.tracker.flops - steps_only) * (m / present) ** 2
    return _SignalPrice(step=step + MARGIN * steps_only / TRACKED_STEPS, round=end)
