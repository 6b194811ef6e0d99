"""The embedded default of the reasoning task: problems that reasoning-gym generates, one skill a domain.

How a problem is cut out of the library is told in :mod:`tasks.sources.reasoning_skills`.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from tasks.base import SPLITS, Requirement, TaskError
from tasks.cache import content_key
from tasks.sources.documents import stable_rank
from tasks.sources.pairs import Pair
from tasks.sources.reasoning_skills import SKILLS, Skill
from tasks.sources.verified import VerifiedSource

LAYOUT = 2  # raise when the way from problems to pairs changes, so that caches of the old way are not used
PACKAGE, PIN = "reasoning-gym", "0.1.25"
INSTALL = 'pip install -e ".[demo]" in the checkout'

# Fingerprints of the corpus under each preset, made with the pinned version and tokenizers 0.23.3.
FINGERPRINTS: dict[str, str] = {
    "demo": "3f56a09d2d16254b80a9c80ce66a1519",
    "nano": "542148dc1f5c936592bc1406f0fe767f",
    "small": "78193068b7fcd014d7c8e6ac3612a9d5",
}

_PATIENCE = 20  # problems generated for each one wanted, before a skill counts as exhausted


class Problems(VerifiedSource):
    """Generated problems, the same on every machine: seeds are fixed, and no problem is in two splits.

    problems: training problems of all skills together, cut by the skills' shares. level: ``short`` or ``long``.
    validation, test: problems a skill. A skill's generator is run until it has made as many different problems as are
    wanted; those whose texts have the smallest hashes are the test, the next ones the validation problems. (By order
    of appearance the frequent problems of a small space would come first and make test another kind than training.)
    """

    def __init__(
        self, *, problems: int, level: str, validation: int, test: int, target: Mapping[str, float] | None = None
    ) -> None:
        self._sizes = {"test": test, "validation": validation}
        self._problems, self._level = problems, level
        self.target = target or {skill.domain: skill.target for skill in SKILLS}
        self._made: dict[str, Any] = {}

    def requirements(self) -> Sequence[Requirement]:
        """The library; any version will do, but only the pinned one makes the published problems."""
        return [Requirement(what=f"{PACKAGE} {PIN}", found=_installed(), remedy=INSTALL)]

    def identity(self) -> str:
        """The library's version and whatever is asked of it."""
        asked = [[skill.domain, skill.generator, skill.settings(self._level), skill.share] for skill in SKILLS]
        return content_key("reasoning-gym", LAYOUT, _required(), self._problems, self._level, self._sizes, asked)

    def pairs(self) -> list[Pair]:
        """The problems of every skill: test, validation, training."""
        with _numpy_state():
            return [pair for skill in SKILLS for pair in self._of(skill)]

    def _of(self, skill: Skill) -> Iterator[Pair]:
        """A skill's problems, split by split."""
        wanted = {**self._sizes, "train": math.ceil(skill.share * self._problems)}
        found = self._different(skill, sum(wanted.values()))
        splits = (split for split in reversed(SPLITS) for _ in range(wanted[split]))
        for prompt in sorted(found, key=stable_rank):
            index, answer = found[prompt]
            yield Pair(
                domain=skill.domain,
                origin=f"{skill.domain} {index}",
                prompt=prompt,
                answer=answer,
                split=next(splits),
                about={"index": index},
            )

    def _different(self, skill: Skill, total: int) -> dict[str, tuple[int, str]]:
        """Prompt -> (index, answer) of so many different problems. Raises :class:`TaskError` where there are fewer."""
        entries = self._entries(skill)
        found: dict[str, tuple[int, str]] = {}
        for index in range(_PATIENCE * total):
            entry = entries[index]
            found.setdefault(skill.restate(entry), (index, str(entry["answer"])))
            if len(found) == total:
                return found
        raise TaskError(
            f"{skill.domain} knows only {len(found)} different problems, {total} are wanted; lower problems, "
            "or the evaluation examples"
        )

    def _entries(self, skill: Skill) -> Any:
        """The skill's data set; kept, because some read a list of words when they are made."""
        if skill.domain not in self._made:
            self._made[skill.domain] = _generator(skill, self._level)
        return self._made[skill.domain]

    def verify(self, pair: Pair, answer: str) -> float:
        """The library's own score of an answer, in [0, 1]; some of its verifiers give parts of a point."""
        skill = next(skill for skill in SKILLS if skill.domain == pair.domain)
        entries = self._entries(skill)
        # A verifier may trip over what a model writes, or warn of it.
        with _numpy_state(), contextlib.suppress(Exception), warnings.catch_warnings(action="ignore"):
            return min(1.0, max(0.0, float(entries.score_answer(answer, entries[pair.about["index"]]))))
        return 0.0

    def provenance(self) -> dict[str, Any]:
        """The library's version, whether it is the pinned one, and what was asked of it."""
        installed = _required()
        return {
            "source": "reasoning-gym",
            "version": installed,
            "published_version": PIN,
            "level": self._level,
            "problems": self._problems,
        }


@contextlib.contextmanager
def _numpy_state() -> Iterator[None]:
    """Some generators seed NumPy's global generator; it is given back as it was found."""
    state = np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def _installed() -> str:
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return ""


def _required() -> str:
    found = _installed()
    if not found:
        raise TaskError(f"the reasoning problems need {PACKAGE}, which is not installed: {INSTALL}")
    return found


def _generator(skill: Skill, level: str) -> Any:
    """The library's data set of a skill: entries by index, each made from the skill's seed and its index."""
    _required()
    import reasoning_gym

    seed = int(hashlib.sha256(skill.domain.encode()).hexdigest()[:7], 16)
    try:
        return reasoning_gym.create_dataset(skill.generator, seed=seed, size=2**31, **skill.settings(level))
    except (TypeError, ValueError, AssertionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TaskError(f"{PACKAGE} {_installed()} does not make {skill.generator} as {PIN} does: {reason}") from None
