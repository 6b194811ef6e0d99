"""Data mixing optimisation for fine-tuning: a law of each domain's own and transferred data, and its minimum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from threadpoolctl import threadpool_limits

from mixers import effective_data, proxies, simplex, swarm
from mixers.base import (
    Array,
    Choices,
    IntArray,
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
)  # fmt: skip
from mixers.proxies import Fidelity
from mixers.surrogates import agreement

LEAST_RUNS = effective_data.PARAMETERS + 1
RESAMPLED = 2  # seed of what is drawn


class SftDmo(Mixer):
    """Change one domain's amount at a time in proxy runs, fit a law a domain, and minimise the sum of the laws.

    Source: Li, Liu, Xing, *Data Mixing Optimization for Supervised Fine-Tuning of Large Language Models* (arXiv
    2508.11953, ICML 2025), known from summaries: the paper's body was not at hand. Base run: n of every domain. Then n
    times each level of one domain, n of the others: with four levels 4 m + 1 runs, of different lengths. Law and fit:
    :mod:`mixers.effective_data`. The answer is the mixture of least sum of losses at the main run's length.

    Cost, in steps of training: proxy_share (1 + K (m - 1) + sum of the K levels) main runs, with the default 0.4 m +
    0.28. same_length=true: proxy_share (K m + 1).

    Choices:

    - levels 1/3, 1/2, 2, 3 are the paper's by summary; BrevityD/Data-Mixing-Optimization, which presents itself as
      accompanying the paper, has 1/4 in place of 1/3. The two-stage fit is that repository's; its ratios are quotients
      of logarithms, which drop all differences that noise turned negative. Here they are plain ratios.
    - A law is fitted on the losses of its own domain in all runs. Own runs alone leave k and alpha open, because the
      other domains' total does not change in them. The repository seems to fit the total loss.
    - The paper keeps the lowest validation loss of three epochs; here it is the loss at a run's end. match_repetition
      lets a run repeat its domains as often as the main run would.
    - Weighted by target shares; ``equal`` is the paper's sum. A target that is no training domain has no data of its
      own in this law: it is skipped and reported, and another takes its weight. Where all are so, the mixer refuses.
    - The convex sum is minimised by :func:`mixers.convex.solve`, in place of SLSQP; max_epochs caps it.
    - count: N in examples, or in units (tokens, pairs) by each domain's mean length; runs have equal amounts by it.
    - same_length, ours: all runs are as long as the base run, so that other domains give up what one gains. On a table,
      whose runs have one length, same_length=true,proxy_share=1 is right, and the default is not.

    Limits. All other data count alike, whatever they are, so that a domain that is no target gets next to nothing. Main
    runs are longer than proxies, so the law extrapolates (``longer``). The parameters
    are hardly identified, as bootstrap intervals show; the mixture often is. Scale: losses times s are fitted as with
    huber / s; constants added to them change little, by the bound e >= 0.
    """

    name = "sft_dmo"
    search_space = space(
        huber=Span(low=0.001, high=0.5, log=True),
        shares=Choices(values=("target", "equal")),
        count=Choices(values=("examples", "units")),
    )

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """proxy_share: the base run's steps as a share of the main run's. proxy_size, match_repetition,
        validation_examples: see :class:`mixers.proxies.Fidelity`. levels: of one domain's amount, as multiples of the
        base run's. same_length, count, shares, max_epochs: see the class. huber: where the fit's misfit turns linear,
        in units of the loss (repository: 0.001). starts: of each fit. bootstrap: fits on resampled residuals; 0: none.
        """

        proxy_share: float = 0.1
        proxy_size: float = 1.0
        match_repetition: bool = False
        validation_examples: int = 0
        levels: tuple[float, ...] = (1 / 3, 1 / 2, 2.0, 3.0)
        same_length: bool = False
        count: Literal["examples", "units"] = "examples"
        shares: Literal["target", "equal"] = "target"
        max_epochs: float | None = None
        huber: float = 0.01
        starts: int = 4
        bootstrap: int = 20

        def __post_init__(self) -> None:
            self.fidelity(self.proxy_share).checked("sft_dmo")
            for valid, rule in (
                (
                    len(set(self.levels)) >= 2 and all(0.0 < x < float("inf") and x != 1.0 for x in self.levels),
                    f"levels must be two or more different positive numbers, none of them 1: not {list(self.levels)}",
                ),
                (self.count in ("examples", "units"), f"count is examples or units, not {self.count}"),
                (self.shares in ("target", "equal"), f"shares is target or equal, not {self.shares}"),
                (
                    self.max_epochs is None or 0.0 < self.max_epochs < float("inf"),
                    f"max_epochs must be positive and finite, or none, not {self.max_epochs}",
                ),
                (0.0 < self.huber < float("inf"), f"huber must be positive and finite, not {self.huber}"),
                (self.starts >= 1, f"starts must be at least 1, not {self.starts}"),
                (self.bootstrap >= 0, f"bootstrap must be at least 0, not {self.bootstrap}"),
            ):
                if not valid:
                    raise MixerError(f"sft_dmo: {rule}")

        def fidelity(self, share: float) -> Fidelity:
            """A run of this share of the main run's steps."""
            return Fidelity(
                share=share,
                size=self.proxy_size,
                match_repetition=self.match_repetition,
                validation_examples=self.validation_examples,
            )

    def needs(self) -> Needs:
        """One round: the mixture is static."""
        return Needs(rounds=1)

    def _lengths(self, problem: Problem) -> Array:
        """[m] what an example of each domain counts for in N; ones for examples."""
        if self.config.count == "examples":
            return np.ones(problem.m)
        known = (problem.examples > 0) & (problem.units > 0)
        mean = float(problem.units.sum() / max(1, problem.examples.sum())) or 1.0
        return np.where(known, problem.units / np.maximum(problem.examples, 1), mean)

    def _design(self, home: Problem) -> tuple[list[tuple[Array, Fidelity]], IntArray]:
        """Mixture and fidelity of every run, and the domain that it moved; nothing for a single domain."""
        c = self.config
        if home.m == 1:
            return [], np.zeros(0, dtype=np.int64)
        mixtures, lengths, moved = effective_data.moves(
            1.0 / self._lengths(home), c.levels, same_length=c.same_length
        )  # fmt: skip
        shares = (c.proxy_share * lengths).tolist()
        return [(mixture, c.fidelity(share)) for mixture, share in zip(mixtures, shares, strict=True)], moved

    def _orders(self, problem: Problem) -> tuple[Run, ...]:
        """The design's runs, the same ones whatever the order of the domains."""
        home = swarm.canonical(problem)
        back = swarm.columns(home, problem)
        return proxies.orders(problem, [(mixture[back], fidelity) for mixture, fidelity in self._design(home)[0]])

    def purchases(self, problem: Problem) -> Purchases:
        """The proxy runs, exactly."""
        return Purchases(runs=self._orders(problem))

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        """Buy the runs, fit the laws, and solve."""
        if problem.m == 1:
            self._report: dict[str, Any] = {"runs": 0}
            return problem.mixture([1.0])
        equal, shares = self.config.shares == "equal", problem.target_on_domains()
        if not (set(problem.targets) & set(problem.domains) if equal else shares.any()):
            raise MixerError(
                "sft_dmo: no training domain is a target, and its law is of a domain's own data; use regmix"
            )
        runs = self._orders(problem)
        if len(runs) < LEAST_RUNS:
            raise MixerError(f"sft_dmo: levels make {len(runs)} runs, {LEAST_RUNS} are needed; add levels")
        losses = np.stack([made.final for made in lab.train(runs)])
        with threadpool_limits(1, user_api="blas"):
            return self._learn(problem, losses)

    def _learn(self, problem: Problem, losses: Array) -> Mixture:
        """The mixture from the runs' losses, [r, n] by target, NaN where missing."""
        c, home = self.config, swarm.canonical(problem)
        (schedule, moved), lengths = self._design(home), self._lengths(home)
        steps = np.array([run.steps for run in proxies.orders(home, schedule)])
        amounts = np.stack([mixture for mixture, _ in schedule]) * steps[:, None] * home.batch_size * lengths
        place = [problem.targets.index(name) if name in problem.targets else -1 for name in home.domains]
        own = np.flatnonzero(np.array(place) >= 0)  # the laws, in the order of the domains
        found = losses[:, [place[i] for i in own]]
        wanted = problem.target_shares[[place[i] for i in own]] if c.shares == "target" else np.ones(own.size)
        used = np.isfinite(found).any(axis=0) & (wanted > 0.0)
        if not used.any():
            raise MixerError("sft_dmo: no training domain has a share of the target and a finite loss; use regmix")
        own, y, weights = own[used], found[:, used], simplex.normalise(wanted[used])
        rows = np.flatnonzero(np.isfinite(y).all(axis=1))
        if rows.size < LEAST_RUNS:
            raise MixerError(
                f"sft_dmo: {rows.size} of {len(y)} runs have finite losses, {LEAST_RUNS} are needed; add levels"
            )
        x, y, moved = amounts[rows], y[rows], moved[rows]
        laws = effective_data.fit(x, y, own, moved, huber=c.huber, starts=c.starts)
        whole = float(home.steps * home.batch_size) * lengths  # what a share of 1 of each domain amounts to
        caps = swarm.repetition_caps(home, c.max_epochs)
        best = effective_data.minimum(laws, weights, whole, home.train_shares, caps)
        if best is None:
            raise MixerError("sft_dmo: the laws have no minimum that can be found; make runs longer (proxy_share)")
        again = effective_data.resampled(
            laws, x, y, moved, huber=c.huber, count=c.bootstrap, seed=[home.seed, RESAMPLED]
        )  # fmt: skip
        tried = [effective_data.minimum(a, weights, whole, home.train_shares, caps, rough=True) for a in again]
        spread = [mixture for mixture in tried if mixture is not None]
        names = [home.domains[i] for i in own]
        skipped = [name for name in problem.targets if name not in names]
        promised = laws.predict(np.stack([best, home.train_shares]) * whole) @ weights
        self._report = {
            "runs": len(rows),
            "in_sample": agreement(y @ weights, laws.predict(x) @ weights),
            "laws": effective_data.summary(laws, again, names),
            "longer": float((best * whole).sum() / x.sum(axis=1).max()),
            "predicted": float(promised[0]),
            "predicted_natural": float(promised[1]),
            "best_run": float((y @ weights).min()),
            "recommended": dict(zip(home.domains, best.tolist(), strict=True)),
            **({"bootstrap": _spread(home, best, np.stack(spread))} if spread else {}),
            **({"skipped_targets": skipped} if skipped else {}),
            **({"runs_without_losses": len(losses) - len(rows)} if len(rows) < len(losses) else {}),
        }
        return problem.mixture(best[swarm.columns(home, problem)])

    def report(self) -> dict[str, Any]:
        """The laws with bootstrap intervals (5 to 95 %), how well they fit, and what they promise of the mixture.

        longer: the main run's data as a multiple of the longest proxy run's. predicted, predicted_natural: the weighted
        loss of the main run by the laws. bootstrap: interval of each share, and mean total variation to the answer.
        """
        return self._report


def _spread(home: Problem, best: Array, mixtures: Array) -> dict[str, Any]:
    """Of the bootstrap's mixtures, [b, m]."""
    shares = np.quantile(mixtures, [0.05, 0.95], axis=0).T.tolist()
    moved = float(np.mean([simplex.total_variation(mixture, best) for mixture in mixtures]))
    return {"fits": len(mixtures), "shares": dict(zip(home.domains, shares, strict=True)), "moved": moved}
