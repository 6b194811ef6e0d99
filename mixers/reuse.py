"""Reusing a mixture when the set of domains changes: kept domains move as one, and only the others are searched anew.

Olmix's *full reuse* (arXiv 2602.12237, known from notes): domains that the change does not touch keep their shares
relative to each other and become one virtual domain, so that a search has 1 + (number of the others) dimensions in
place of m. The virtual domain may be drawn on until the first of its members has been repeated as often as allowed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from mixers.base import Array, IntArray, Lab, MixerError, Mixture, Problem, Purchases, Run, RunResult
from mixers.simplex import normalise

VIRTUAL = "reused"  # name of the virtual domain, lengthened where a domain is called so


@dataclass(frozen=True, slots=True, kw_only=True)
class Reuse:
    """problem: over the virtual domain and the free ones. rows: [r, m] mixture of each in the domains of the whole."""

    whole: Problem
    problem: Problem
    rows: Array

    def expand(self, mixture: Mixture) -> Mixture:
        """The mixture of all domains for one over :attr:`problem`."""
        return self.whole.mixture(mixture.weights @ self.rows)

    def orders(self, bought: Purchases) -> Purchases:
        """What was declared over :attr:`problem`, over all domains."""
        return replace(bought, runs=tuple(self._order(run) for run in bought.runs))

    def _order(self, run: Run) -> Run:
        assert run.mixture is not None
        return replace(run, mixture=self.expand(run.mixture))

    def lab(self, lab: Lab) -> Lab:
        """A lab whose runs are on mixtures over :attr:`problem`; it sells nothing else."""
        return _RunsOnly(self, lab)  # type: ignore[return-value]


class _RunsOnly:
    """See :meth:`Reuse.lab`."""

    def __init__(self, reuse: Reuse, lab: Lab) -> None:
        self._reuse, self._lab = reuse, lab

    def train(self, runs: Sequence[Run]) -> list[RunResult]:
        """The results of static runs, in the order given."""
        return self._lab.train([self._reuse._order(run) for run in runs])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Smaller(Problem):
    """virtual: name of the virtual domain. virtual_target: target shares of its members, added up."""

    virtual: str
    virtual_target: float

    def target_on_domains(self) -> Array:
        """As of any problem, with the members' shares on the virtual domain, which no target is called like."""
        shares = np.array(Problem.target_on_domains(self))
        shares[self.domains.index(self.virtual)] = self.virtual_target
        shares.setflags(write=False)
        return shares


def collapse(problem: Problem, kept: Mapping[str, float], mixer: str) -> Reuse:
    """The smaller problem in which the domains of ``kept`` move together, in the proportions of its values.

    Raises :class:`MixerError` in the name of a mixer for a name that is no training domain, or values without a sum.
    """
    unknown = [name for name in kept if name not in problem.domains]
    if unknown:
        raise MixerError(
            f"{mixer}: reuse names {', '.join(unknown)}; the training domains are {', '.join(problem.domains)}"
        )
    weights = np.array([float(kept.get(name, 0.0)) for name in problem.domains])
    if not np.all(np.isfinite(weights)) or np.any(weights < 0.0) or weights.sum() <= 0.0:
        raise MixerError(f"{mixer}: reuse needs shares of at least 0, one of them above, not {dict(kept)}")
    inside = np.array([name in kept for name in problem.domains])
    weights, drawn = normalise(weights), weights > 0.0
    free = np.flatnonzero(~inside)
    name = VIRTUAL
    while name in problem.domains or name in problem.targets:
        name += "_"

    def joined(values: IntArray) -> Array:
        """[r] so many examples that the first member that runs short decides."""
        return np.concatenate(([max(1.0, float((values[drawn] / weights[drawn]).min()))], values[free]))

    shares = np.concatenate(([problem.train_shares[inside].sum()], problem.train_shares[free]))
    rows = np.zeros((1 + free.size, problem.m))
    rows[0], rows[np.arange(1, 1 + free.size), free] = weights, 1.0
    smaller = replace(
        _Smaller(
            **{item.name: getattr(problem, item.name) for item in fields(Problem)},
            virtual=name,
            virtual_target=float(problem.target_on_domains()[inside].sum()),
        ),
        domains=(name, *(problem.domains[i] for i in free)),
        train_shares=shares,
        examples=np.floor(joined(problem.examples)).astype(np.int64),
        units=np.floor(joined(problem.units)).astype(np.int64),
    )
    return Reuse(whole=problem, problem=smaller, rows=rows)
