"""What a mixer promises: the checks by name, in the order in which they are run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.conformance import checks
from harness.conformance.checks import Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """what: the promise, in one line. mend: advice where the mixer raises. after: checks that must pass first."""

    name: str
    what: str
    mend: str
    run: Callable[[Subject], None]
    after: tuple[str, ...] = ()


_PLAYS = ("simplex",)
_REPEATS = ("simplex", "determinism")

CHECKS: dict[str, Check] = {
    check.name: check
    for check in (
        Check(
            name="simplex",
            what="every mixture is finite, non-negative, sums to 1 and is over Problem.domains",
            mend="an ordinary run must go through, with every signal there",
            run=checks.simplex,
        ),
        Check(
            name="determinism",
            what="the same problem, seed and signals give the same mixtures",
            mend="the second of two equal runs failed, so it depends on something global",
            run=checks.determinism,
            after=_PLAYS,
        ),
        Check(
            name="signals",
            what="it reads only the signals that needs() declares",
            mend="declare in needs().signals what update() reads",
            run=checks.signals,
            after=_REPEATS,
        ),
        Check(
            name="permutation",
            what="domains in another order get the same weights",
            mend="it fails only where the domains stand in another order: use no fixed position",
            run=checks.permutation,
            after=_REPEATS,
        ),
        Check(
            name="names",
            what="other names for the domains change nothing",
            mend="it fails only where the domains have other names: any text is a name, also an empty one",
            run=checks.names,
            after=_REPEATS,
        ),
        Check(
            name="absent",
            what="rounds that leave domains out are survived",
            mend="absent domains have count 0 and loss NaN: choose by seen.present, as in np.where(seen.present, a, b)",
            run=checks.absent,
            after=_PLAYS,
        ),
        Check(
            name="many_domains",
            what="more domains than a batch has examples are survived",
            mend="there are 30 domains and 8 examples a step here: assume nothing about the two",
            run=checks.many_domains,
            after=("simplex", "absent"),
        ),
        Check(
            name="single_domain",
            what="a single domain gets everything",
            mend="there is one domain here: log(m), m - 1 and spreads over domains are zero",
            run=checks.single_domain,
            after=_PLAYS,
        ),
        Check(
            name="targets",
            what="targets that are not trained on are used by name, or refused in start()",
            mend="there are 5 domains and 3 other targets here: validation losses and target_shares are one a target; "
            "match them by name (problem.target_on_domains()), or raise MixerError in start()",
            run=checks.targets,
            after=_PLAYS,
        ),
        Check(
            name="state",
            what="state and report are JSON, and a run that is restored midway goes on identically",
            mend="load_state_dict(state) is called after start(), with state_dict() after JSON: keys are text",
            run=checks.state,
            after=_REPEATS,
        ),
        Check(
            name="inputs",
            what="what the mixer is shown is not changed",
            mend="it fails only where its inputs are read-only: copy before changing",
            run=checks.inputs,
            after=_PLAYS,
        ),
        Check(
            name="search_space",
            what="what harness tune may try is accepted",
            mend="it maps fields of Config to Span or Choices, as in space(eta=Span(low=0.1, high=10, log=True))",
            run=checks.search_space,
            after=_PLAYS,
        ),
        Check(
            name="cost",
            what="a real trial on a toy task ends well, with no purchase beyond those declared",
            mend="see the reason",
            run=checks.cost,
            after=(
                *("simplex", "determinism", "signals", "permutation", "names", "absent", "many_domains"),
                *("single_domain", "targets", "state", "inputs", "search_space"),
            ),
        ),
    )
}
