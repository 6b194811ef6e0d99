"""RegMix: regress the losses of many proxy runs on their mixtures, and take the best of many simulated ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from mixers import optimum, surrogates, swarm
from mixers.base import Array, Choices, Lab, MixerError, Mixture, Problem, Span, space
from mixers.offline import SIMULATION, OfflineMixer
from mixers.offline_config import OfflineConfig
from mixers.surrogates import Surrogate, TreeSettings
from mixers.swarm import Swarm


class RegMix(OfflineMixer):
    """Proxy runs on a swarm of mixtures; a regression for each target; the mean of the best simulated mixtures.

    Source: Liu et al., *RegMix: Data Mixture as Regression for Language Model Pre-training* (arXiv 2407.01492), and the
    code sail-sg/regmix (b004d3a), both known from notes, so settings marked (n) should be checked before they are
    quoted. (1) Draw mixtures, see :mod:`mixers.swarm`. (2) Train a small model on each. (3) Fit one model a validation
    loss: LightGBM, or linear regression, the paper's baseline. (4) Predict 100,000 further mixtures and take the mean
    of the best 128 (code; 100 in the paper by followers' account).

    Choices:

    - proxies: 3 (m + 1) by default, which Olmix found to be where errors level off for its own law; the paper has 512
      for 17 domains. Trees need many: fitted on 18, 54, 128 and 512 of RegMix's own runs, they rank 256 others with
      Spearman 0.80, 0.92, 0.97 and 0.99 on Pile-CC.
    - proxy_size: the main run's own model for a tenth of its steps; the paper's is a far smaller one on few tokens.
    - Fitting each target and adding the predictions up beats fitting their sum by far: on 54 runs 0.95 against 0.75
      for the mean of RegMix's 13 losses.
    - Early stopping looks at an inner fifth of the runs, and the trees are then grown on all; the released notebook
      looks at its test runs, which flatters its correlations. LightGBM's default of 20 runs a leaf leaves no split
      below 40 runs and few below 150: a tenth of the runs here, where that is less.
    - search: ``swarm`` simulates what the proxies were drawn from, ``released`` Dirichlet(1 x prior) without the
      sampler's caps, as the code does, so that trees are asked outside of what they saw, and lines run away.
    - simulations and top are a quarter of the code's, with the same share kept, so that a fit takes seconds.
    - max_epochs applies in the simulation, where Olmix found a cap to belong; the released code has none there.
    - Weighted by target shares; the paper lowers one loss (Pile-CC), as ``target`` does.
    - Scale: losses times a constant give the same mixture, with trees up to rounding.

    ``linear`` has a known failure: it puts most of the mixture on a rare domain whose slope is extrapolated. See the
    report's ``degenerate`` and ``out_of_support``.
    """

    name = "regmix"
    search_space = space(
        model=Choices(values=("lightgbm", "linear")),
        temperature=Span(low=0.0, high=1.0),
        prior_cap=Span(low=2.0, high=30.0, log=True),
    )

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config(OfflineConfig):
        """model: of the losses. simulations, top_k: mixtures predicted, and how many of the best are averaged.

        learning_rate, rounds, patience: of LightGBM, as released (n). inner_share: runs that early stopping looks at.
        min_leaf: runs in a leaf; ``None``: a tenth of them, from 2 to 20. ridge: penalty of ``linear``. search: see
        the class. The others: :class:`mixers.offline_config.OfflineConfig`.
        """

        mixer: ClassVar[str] = "regmix"

        model: Literal["lightgbm", "linear"] = "lightgbm"
        simulations: int = 25_000
        top_k: int = 32
        search: Literal["swarm", "released"] = "swarm"
        learning_rate: float = 0.01
        rounds: int = 1000
        patience: int = 3
        inner_share: float = 0.2
        min_leaf: int | None = None
        ridge: float = 1e-6

        def __post_init__(self) -> None:
            OfflineConfig.__post_init__(self)
            for valid, rule in (
                (self.model in ("lightgbm", "linear"), f"model is lightgbm or linear, not {self.model}"),
                (self.search in ("swarm", "released"), f"search is swarm or released, not {self.search}"),
                (
                    1 <= self.top_k <= self.simulations,
                    f"top_k must be from 1 to simulations = {self.simulations}, not {self.top_k}",
                ),
                (0.0 < self.learning_rate <= 1.0, f"learning_rate must be in (0, 1], not {self.learning_rate}"),
                (self.rounds >= 1 and self.patience >= 1, "rounds and patience must be at least 1"),
                (0.0 < self.inner_share <= 0.5, f"inner_share must be in (0, 0.5], not {self.inner_share}"),
                (self.min_leaf is None or self.min_leaf >= 1, f"min_leaf must be at least 1, not {self.min_leaf}"),
                (0.0 <= self.ridge < float("inf"), f"ridge must be finite and at least 0, not {self.ridge}"),
            ):
                if not valid:
                    raise MixerError(f"regmix: {rule}")

    def start(self, problem: Problem, lab: Lab) -> Mixture:
        """As every offline mixer, once LightGBM is there where it will be needed."""
        if self.config.model == "lightgbm" and problem.m > 1:
            surrogates.lightgbm()
        return super().start(problem, lab)

    def fit(self, mixtures: Array, losses: Array) -> Surrogate:
        """One model a target."""
        c = self.config
        if c.model == "linear":
            return surrogates.fit_linear(mixtures, losses, ridge=c.ridge)
        settings = TreeSettings(
            learning_rate=c.learning_rate,
            rounds=c.rounds,
            patience=c.patience,
            inner_share=c.inner_share,
            min_leaf=c.min_leaf,
        )
        return surrogates.fit_trees(mixtures, losses, settings)

    def recommend(self, home: Problem, surrogate: Surrogate, shares: Array) -> Array:
        """The mean of the best simulated mixtures."""
        c = self.config
        released = Swarm(prior=c.prior, temperature=1.0, strengths=(1.0,), floor=0.0, prior_cap=None, mixer=c.mixer)
        source = c.swarm if c.search == "swarm" else released
        caps = swarm.repetition_caps(home, c.max_epochs)
        drawn = source.draw(home, c.simulations, SIMULATION, caps=caps, new=False)
        return optimum.best_of(surrogate, shares, np.asarray(drawn), c.top_k)
