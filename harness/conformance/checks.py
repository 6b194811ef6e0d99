"""The checks of ``harness check``, one function each.

A check plays a fresh mixer in scripted worlds and raises :class:`BrokenError`, whose message says what is wrong and
how to mend it. Whatever a mixer itself raises in such a world fails the check too; the suite then adds the advice that
:mod:`~harness.conformance.promises` has for it.
"""

from __future__ import annotations

import dataclasses
import json
import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.conformance.scripted import Run, World
from harness.registry import Registry
from harness.spec import TrialSpec
from harness.store import RunFolder
from harness.trial import run_trial
from mixers.base import Mixer, MixerError, Mixture, MixtureError, Needs, UndeclaredSignalError

TOLERANCE = 1e-6
NAMES = ("zebra", "B", "x-1", "", "wikipedia")
ORDER = (3, 0, 4, 1, 2)


class BrokenError(Exception):
    """A mixer does not keep what a check asks; the message is one line with the remedy."""


class NotApplicableError(Exception):
    """The check says nothing about this mixer; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A mixer under check. make: a fresh object with its config. spec: its trial on the toy task."""

    make: Callable[[], Mixer]
    spec: TrialSpec
    registry: Registry
    _ordinary: list[Mixture] = field(default_factory=list)

    def play(self, world: World) -> Run:
        """A fresh mixer, played to the end."""
        return Run(self.make(), world).to_end()

    def ordinary(self) -> list[Mixture]:
        """The mixtures of an ordinary run, played once."""
        if not self._ordinary:
            self._ordinary.extend(self.play(World()).mixtures)
        return self._ordinary


def _difference(
    a: list[Mixture], b: list[Mixture], *, order: tuple[int, ...] = (), tolerance: float = 0.0, first: int = 0
) -> str:
    """Where two runs part, in words; empty where they do not.

    order: positions of b's domains in a. tolerance: relative. first: how many updates came before the first mixtures.
    """
    picked = list(order) or slice(None)
    for update, (left, right) in enumerate(zip(a, b, strict=True), start=first):
        where = f"after update {update}" if update else "from start()"
        for what in ("weights", "loss_weights"):
            x, y = getattr(left, what), getattr(right, what)
            if x is None and y is None:
                continue
            if x is None or y is None:
                return f"one mixture {where} has {what} and the other has none"
            if not np.allclose(x[picked], y, rtol=tolerance, atol=1e-3 * tolerance):
                return f"the {what} {where} differ by up to {np.abs(x[picked] - y).max():.2g}"
    return ""


def simplex(subject: Subject) -> None:
    """An ordinary run goes through."""
    needs = subject.make().needs()
    if not isinstance(needs, Needs):
        raise BrokenError(f"needs() returned {type(needs).__name__}; return Needs(rounds=..., signals=(...,))")
    subject.ordinary()


def determinism(subject: Subject) -> None:
    """Two runs agree, whatever the state of the global generators."""
    runs = []
    for seed in (1, 2):
        np.random.seed(seed)  # noqa: NPY002 - a mixer may draw from it, and should not
        random.seed(seed)
        torch.manual_seed(seed)
        runs.append(subject.play(World()).mixtures)
    if found := _difference(*runs):
        raise BrokenError(
            f"two runs with one seed differ: {found}; draw from np.random.default_rng(problem.seed), "
            "made in start(), and from no global generator, clock or set"
        )


def signals(subject: Subject) -> None:
    """The declared signals alone give what all of them give."""
    try:
        run = subject.play(World(everything=False))
    except UndeclaredSignalError as error:
        raise BrokenError(f"it reads what it does not declare: {error}") from error
    if found := _difference(subject.ordinary(), run.mixtures):
        raise BrokenError(
            f"with the declared signals alone {found}: it uses others where they are there; "
            "declare them in needs().signals and read seen.train_losses and seen.domain_gradients"
        )


def permutation(subject: Subject) -> None:
    """The weights follow the domains to other positions."""
    base = subject.ordinary()
    if _difference(base, subject.play(World(seed=1)).mixtures):
        raise NotApplicableError("the mixer draws random numbers, so that the order matters by chance")
    if found := _difference(base, subject.play(World(order=ORDER)).mixtures, order=ORDER, tolerance=TOLERANCE):
        raise BrokenError(
            f"with the domains in another order {found}; let what a domain shows decide, never its position"
        )


def names(subject: Subject) -> None:
    """The weights stay where only names change."""
    if found := _difference(subject.ordinary(), subject.play(World(names=NAMES)).mixtures, tolerance=TOLERANCE):
        raise BrokenError(
            f"with other names for the domains {found}; use names to match domains with targets, and for nothing else"
        )


def search_space(subject: Subject) -> None:
    """Ends and middle of every dimension make a mixer."""
    cls = type(subject.make())
    fields = {field.name for field in dataclasses.fields(cls.Config)}
    for key, dimension in cls.search_space.items():
        if key not in fields:
            raise BrokenError(
                f"search_space has {key!r}, which is no field of Config; its fields are {', '.join(sorted(fields))}"
            )
        for share in (0.0, 0.5, 1.0 - 1e-9):
            value = dimension.at(share)
            try:
                cls(cls.Config(**{key: value}))
            except Exception as error:  # a plugin may raise anything
                raise BrokenError(f"search_space allows {key}={value}, which Config refuses: {error}") from error


def absent(subject: Subject) -> None:
    """Rounds without some of the domains, and one domain that is never served."""
    mixer = subject.play(World(absent=True)).mixer
    for method in ("state_dict", "report"):
        try:
            json.dumps(getattr(mixer, method)(), allow_nan=False, default=str)
        except ValueError as error:
            raise BrokenError(
                f"after rounds without a domain {method}() holds NaN or infinity, which is not JSON; keep None there"
            ) from error


def many_domains(subject: Subject) -> None:
    """Thirty domains, eight examples a step, and few steps a round; more, where such a run is refused in start()."""
    world = World(m=30, batch_size=8, steps=10)
    try:
        run = Run(subject.make(), world)
    except MixtureError:
        raise
    except MixerError:  # fewer steps than domains are too few for probes of each, and are refused before any training
        run = Run(subject.make(), replace(world, steps=400))
    run.to_end()


def single_domain(subject: Subject) -> None:
    """One domain."""
    subject.play(World(m=1))


def targets(subject: Subject) -> None:
    """Three targets that are not among the five domains."""
    mixer, world = subject.make(), World(apart=True)
    try:
        run = Run(mixer, world)
    except MixtureError:
        raise
    except MixerError:
        return  # it says that it cannot, before anything is trained
    run.to_end()


def _as_json(mixer: Mixer) -> tuple[Any, Any]:
    """State and report through JSON and back."""
    found = []
    for method in ("state_dict", "report"):
        try:
            found.append(json.loads(json.dumps(getattr(mixer, method)(), allow_nan=False)))
        except (TypeError, ValueError) as error:
            what = "NaN or infinity" if "Out of range" in str(error) else str(error).lower()
            raise BrokenError(
                f"{method}() is not JSON ({what}); return finite numbers, text, lists and dicts, such as array.tolist()"
            ) from error
    return found[0], found[1]


def state(subject: Subject) -> None:
    """Restored at the start, in the middle and before its last update, it goes on as if it had not been stopped."""
    world = World()
    whole = Run(subject.make(), world)
    states, probed = [_as_json(whole.mixer)[0]], [whole.lab.lowered]
    for round in range(whole.updates):
        whole.update(round)
        states.append(_as_json(whole.mixer)[0])
        probed.append(whole.lab.lowered)
    end = _as_json(whole.mixer)
    mend = "let state_dict() return all that update() and report() remember, and load_state_dict() restore it"
    for done in sorted({0, whole.updates // 2, max(0, whole.updates - 1)}):
        resumed = Run(subject.make(), world).resumed(states[done], done, whole.mixtures[done], probed[done])
        begin = f"restored after {f'update {done}' if done else 'start()'}"
        if found := _difference(whole.mixtures[done:], resumed.mixtures, first=done):
            raise BrokenError(f"{begin} it goes on differently, {found}; {mend}")
        for what, before, after in zip(("state_dict()", "report()"), end, _as_json(resumed.mixer), strict=True):
            if before != after:
                raise BrokenError(f"{begin} its {what} ends differently; {mend}")


def inputs(subject: Subject) -> None:
    """Arrays that refuse to be written to, and are compared with what they held."""
    world = World(read_only=True)
    mend = "copy before changing, as in np.array(seen.train_losses)"
    try:
        run = subject.play(world)
    except ValueError as error:
        if "read-only" not in str(error):
            raise
        raise BrokenError(f"it writes to an array of its inputs; {mend}") from error
    shown: list[tuple[Any, Any]] = [(run.problem, world.problem())]
    for round, seen in enumerate(run.shown):
        begun = run.boundaries[round - 1] if round else 0
        shown.append((seen, world.observation(run.mixer, round, begun, run.boundaries[round])))
    for after, before in shown:
        for name in ("train_shares", "target_shares", "examples", "units", "losses"):
            if not np.array_equal(
                np.asarray(getattr(after, name, None), dtype=float),
                np.asarray(getattr(before, name, None), dtype=float),
                equal_nan=True,
            ):
                raise BrokenError(f"it changed {type(after).__name__}.{name}, though that is read-only; {mend}")


def cost(subject: Subject) -> None:
    """One trial under the referee, which refuses what was not declared."""
    with tempfile.TemporaryDirectory(prefix="harness-check-") as folder:
        root = Path(folder)
        row = run_trial(subject.spec, subject.registry, RunFolder(root / "run"), root, lambda step, steps: None)
    if row["status"] != "ok":
        raise BrokenError(f"a trial on the toy task ends as {row['status']!r}: {row['reason']}")
