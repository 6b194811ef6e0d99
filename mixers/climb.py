"""CLIMB: a swarm of proxy runs in rounds, each around what a regression of all runs so far promises most of."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np
from threadpoolctl import threadpool_limits

from mixers import optimum, proxies, surrogates, swarm
from mixers.base import Array, Choices, IntArray, Lab, MixerError, Mixture, Problem, Span, space
from mixers.evidence import Evidence
from mixers.offline import SIMULATION, OfflineMixer
from mixers.offline_config import OfflineConfig
from mixers.surrogates import Surrogate, TreeSettings

PROPOSALS, PICKS = 1000, 3  # seeds of what is drawn, the first plus the number of runs before it
APART = 0.01  # total variation from every run, and from each other, at which candidates count as untried


class Climb(OfflineMixer):
    """Rounds of proxy runs: fit trees on all of them, rank new mixtures, run a random few of the best; then the best.

    Source: Diao et al., *Nemotron-CLIMB: Clustering-based Iterative Data Mixture Bootstrapping for Language Model
    Pre-training* (arXiv 2504.13161v2), known from an independent reproduction (liujin99/climbmix) and from summaries;
    the search has no official code. Its clusters are the regroupers' part. (1) Run a swarm. (2) Twice: fit a predictor
    on all runs, score many untried mixtures, run M at random of the top N. (3) The arg-max of the last predictor.

    From the paper: runs in the ratio 4 : 2 : 1 (64, 32 and 16), LightGBM of depth 4 with at least 5 runs a leaf, L1 and
    L2 penalties, and early stopping after 20 rounds on a part of its own. **Not in the paper**, and so our own: N, the
    pool of candidates, the sizes of the penalties, learning rate and number of trees.

    Choices:

    - proxies: 3 (m + 1) in all by default, like the other offline mixers; the paper's is ``climb[proxies=112]``. The
      first round's runs are the first that ``regmix`` makes under the same settings.
    - exploration: N = 3 M, as in the reproduction.
    - Few runs: a leaf needs no more than a fifth of them, or depth 4 and 5 a leaf would leave 9 runs without a split.
      Trees that do not split rank all alike; a round then is drawn at random, and the answer is the swarm's mean.
    - Candidates come from RegMix's sampler, in every round anew. One counts as untried where it is more than 0.01 from
      all runs, in total variation, and the top N are as far from each other: where the best is in a corner, the best
      draws are all but one and the same, and so would the round be. Early stopping looks at every fifth run, then trees
      grow on all.
    - final: ``predicted`` is the paper's. The reproduction found that the arg-max, which nobody ran, lost to the best
      measured mixtures. ``measured`` is the best run; ``guarded`` the best run too, unless the predicted loss is below
      what it measured by more than ``margin`` times the predictor's mean error on left-out runs. Trees shrink towards
      the mean, so that seldom happens: the report says by how much.
    - Among equal predictions the mean counts, which lies in the same leaves: trees give one value to many mixtures.
    - One model a target, weighted by target shares; the paper fits one score, the mean accuracy on three benchmarks.
    - max_epochs holds for the answer and from the second round on, as what is proposed there is meant to be the answer.
      A best run out of the first round may break it: so a measured answer is the best run that keeps to it.
    - The paper's proxies are smaller models than the main run's and go on from one trained before; here they are the
      main run's model (``proxy_size=1``) and start anew.

    Scale: losses times a constant leave the mixture as it is, up to rounding, where l1 is multiplied, too.
    """

    name = "climb"
    search_space = space(
        final=Choices(values=("predicted", "measured", "guarded")),
        exploration=Span(low=1, high=10, log=True, whole=True),
        l2=Span(low=0.01, high=10.0, log=True),
        temperature=Span(low=0.0, high=1.0),
    )

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config(OfflineConfig):
        """rounds: how the runs are shared out. exploration: N / M. candidates: scored in a round, and for the answer.

        final, margin: see the class. depth, min_leaf, patience: of LightGBM (paper). learning_rate, trees, l1, l2,
        inner_share: its others. The rest: :class:`mixers.offline_config.OfflineConfig`.
        """

        mixer: ClassVar[str] = "climb"

        rounds: tuple[float, ...] = (4, 2, 1)
        exploration: int = 3
        candidates: int = 25_000
        final: Literal["predicted", "measured", "guarded"] = "predicted"
        margin: float = 1.0
        depth: int = 4
        min_leaf: int = 5
        patience: int = 20
        learning_rate: float = 0.05
        trees: int = 1000
        l1: float = 0.01
        l2: float = 0.1
        inner_share: float = 0.2

        def __post_init__(self) -> None:
            OfflineConfig.__post_init__(self)
            for valid, rule in (
                (
                    len(self.rounds) > 0 and all(0.0 < r < float("inf") for r in self.rounds),
                    f"rounds must be one or more positive numbers, such as 4, 2, 1, not {list(self.rounds)}",
                ),
                (self.exploration >= 1, f"exploration must be at least 1, not {self.exploration}"),
                (self.candidates >= 1, f"candidates must be at least 1, not {self.candidates}"),
                (
                    self.final in ("predicted", "measured", "guarded"),
                    f"final is predicted, measured or guarded, not {self.final}",
                ),
                (0.0 <= self.margin < float("inf"), f"margin must be finite and at least 0, not {self.margin}"),
                (
                    min(self.depth, self.min_leaf, self.patience, self.trees) >= 1,
                    "depth, min_leaf, patience and trees must be at least 1",
                ),
                (0.0 < self.learning_rate <= 1.0, f"learning_rate must be in (0, 1], not {self.learning_rate}"),
                (all(0.0 <= p < float("inf") for p in (self.l1, self.l2)), "l1 and l2 must be finite and at least 0"),
                (0.0 < self.inner_share <= 0.5, f"inner_share must be in (0, 0.5], not {self.inner_share}"),
            ):
                if not valid:
                    raise MixerError(f"climb: {rule}")

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        """As every offline mixer, once LightGBM is there."""
        if problem.m > 1:
            surrogates.lightgbm()
        return super().start(problem, lab)

    def ends(self, total: int) -> IntArray:
        """How many runs there are after each round; :class:`MixerError` where one is left without any."""
        ratio = np.cumsum(self.config.rounds)
        ends = np.round(total * ratio / ratio[-1]).astype(np.int64)
        if ends[0] < 3 or np.any(np.diff(ends) < 1):
            counts = np.diff(ends, prepend=0).tolist()
            raise MixerError(f"climb: {total} proxies make rounds of {counts}; 3 in the first and 1 in each are needed")
        return ends

    def explore(self, problem: Problem, lab: Lab) -> tuple[Array, Array]:
        """The rounds, one call to the lab each. What was declared for the later ones were other mixtures, as dear."""
        fidelity = self.config.fidelity
        swarmed = [mixture for mixture, _ in self._schedule(problem)]
        ends, rounds = self.ends(len(swarmed)), []
        mixtures = np.stack(swarmed[: ends[0]])
        losses = proxies.measure(problem, lab, [(mixture, fidelity) for mixture in mixtures])
        for begin, end in pairwise(ends.tolist()):
            with threadpool_limits(1, user_api="blas"):
                runs = self.evidence(problem, mixtures, losses)
                fresh = self._proposed(runs, mixtures[:, swarm.columns(problem, runs.home)], end - begin)
            rounds.append({"runs": begin, "best": float(runs.values.min())})
            fresh = fresh[:, swarm.columns(runs.home, problem)]
            found = proxies.measure(problem, lab, [(mixture, fidelity) for mixture in fresh])
            mixtures, losses = np.concatenate((mixtures, fresh)), np.concatenate((losses, found))
        self._remarks = {"before": rounds}
        return mixtures, losses

    def _proposed(self, runs: Evidence, tried: Array, count: int) -> Array:
        """[count, m] at random of the best untried candidates, for the round after the runs ``tried``, [k, m]."""
        c, home = self.config, runs.home
        pool = swarm.untried(self.pool(home, c.candidates, PROPOSALS + len(tried)), tried, APART)
        surrogate = self.fit(runs.inputs, runs.losses)
        ranked = pool[optimum.lowest(surrogate, runs.shares, pool, len(pool))]
        top = swarm.spaced(ranked, c.exploration * count, APART)
        top = top if len(top) >= count else ranked[: c.exploration * count]
        rng = np.random.default_rng([home.seed, PICKS, len(tried)])
        picked = rng.choice(len(top), count, replace=len(top) < count)
        return np.asarray(top[np.sort(picked)])

    def fit(self, mixtures: Array, losses: Array) -> Surrogate:
        """Shallow trees, one booster a target."""
        c = self.config
        settings = TreeSettings(
            learning_rate=c.learning_rate,
            rounds=c.trees,
            patience=c.patience,
            inner_share=c.inner_share,
            min_leaf=min(c.min_leaf, max(2, len(mixtures) // 5)),
            depth=c.depth,
            l1=c.l1,
            l2=c.l2,
        )
        return surrogates.fit_trees(mixtures, losses, settings)

    def recommend(self, home: Problem, surrogate: Surrogate, shares: Array) -> Array:
        """The candidate with the least predicted loss."""
        return optimum.argmin(surrogate, shares, self.pool(home, self.config.candidates, SIMULATION))

    def settle(self, runs: Evidence, surrogate: Surrogate, best: Array, error: float) -> Array:
        """That candidate, or the best run."""
        c = self.config
        kept = (runs.mixtures <= swarm.repetition_caps(runs.home, c.max_epochs) + 1e-9).all(axis=1)
        if c.final == "predicted" or not kept.any():
            return best
        first = int(np.where(kept, runs.values, np.inf).argmin())
        gain = float(runs.values[first] - (surrogate.predict(best[None]) @ runs.shares)[0])
        trusted = c.final == "guarded" and gain > c.margin * error
        self._remarks["final"] = {"gain": gain, "error": error, "took": "predicted" if trusted else "measured"}
        return best if trusted else runs.mixtures[first]
