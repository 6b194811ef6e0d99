"""The counter at which a mixer buys what it does not see for free. Every purchase is billed to its trial."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from harness.flops import PassFlops
from harness.gradients.estimate import adam_scales, estimate
from harness.influence import check_declared, measure
from harness.ledger import Ledger
from harness.orders import ErrandDone, OrdersPending
from harness.prepared import Prepared
from harness.process import reseed
from harness.proxies.children import missing
from harness.proxies.prices import price
from harness.sampler import DomainStreams
from harness.seeds import derive_seed
from harness.trainer import Trainer
from harness.validation import subset, validation_losses
from harness.vectors import embedded
from mixers.base import (
    Against,
    Checkpoint,
    ExampleVectors,
    GradientEstimate,
    Influence,
    InfluenceEstimate,
    IntArray,
    MixerError,
    Mixture,
    Purchases,
    Run,
    RunResult,
    Scaling,
)

VALIDATION, GRADIENTS, PROBES, RUNS = "validation losses", "domain gradients", "probe steps", "runs"
EMBEDDINGS, INFLUENCE = "embeddings", "influence"


class PaidLab:
    """The :class:`mixers.base.Lab` of one training run; refuses more than the mixer declared.

    The bill stands in ``ledger``; what was bought so far is read off it, so that a resumed run goes on counting.
    after_step: called after every step of a probe, which is a step of the run like any other.
    """

    after_step: Callable[[], None]

    def __init__(
        self, prepared: Prepared, trainer: Trainer, ledger: Ledger, flops: PassFlops, declared: Purchases
    ) -> None:
        self._prepared, self._trainer, self._ledger, self._flops = prepared, trainer, ledger, flops
        self._declared = declared
        self.after_step = lambda: None
        seed = derive_seed(prepared.seed, "lab")
        partition = prepared.partition
        self._streams = {
            "train": DomainStreams(partition.train, partition.domains, derive_seed(seed, "train")),
            "validation": DomainStreams(
                partition.validation, partition.target_domains, derive_seed(seed, "validation")
            ),
        }

    def validation_losses(self, examples: int = 0) -> npt.NDArray[np.float64]:
        """[n] mean validation loss per target domain of the partition, NaN where a domain has no example."""
        bound = self._declared.validation_examples
        if bound and not 0 < examples <= bound:
            raise MixerError(
                f"validation losses on {examples or 'all'} examples a target, {bound} were declared; "
                "raise purchases().validation_examples"
            )
        self._claim(VALIDATION, 1, self._declared.validation_losses, "validation_losses")
        prepared = self._prepared
        chosen = subset(prepared, examples)
        self._ledger.charge(
            "mixing", flops=self._flops.forward * len(chosen) / prepared.recipe.batch_size, what=VALIDATION
        )
        return validation_losses(prepared, self._trainer.model, chosen)

    def domain_gradients(
        self, examples: int, *, parts: int = 1, scaling: Scaling = "none", against: Against = "each"
    ) -> GradientEstimate:
        """Inner products of domain and target gradients of the live model on fresh examples."""
        if not 0 < examples <= self._declared.gradient_examples:
            raise MixerError(
                f"domain gradients on {examples} examples a domain, {self._declared.gradient_examples} were declared; "
                "raise purchases().gradient_examples"
            )
        if against != "mean" and self._declared.gradients_against == "mean":
            raise MixerError(
                "domain gradients against each target, against their mean were declared; "
                "set purchases().gradients_against to each, or buy with against='mean'"
            )
        self._claim(GRADIENTS, 1, self._declared.domain_gradients, "domain_gradients")
        trainer, prepared = self._trainer, self._prepared
        parameters = [p for p in trainer.model.parameters() if p.requires_grad]
        reseed(derive_seed(prepared.seed, "lab gradients", trainer.done))
        trainer.model.train()
        made = estimate(
            self._loss,
            parameters,
            [self._streams["train"].take(i, examples) for i in range(len(prepared.problem.domains))],
            [self._streams["validation"].take(j, examples) for j in range(len(prepared.problem.targets))],
            parts=parts,
            scales=adam_scales(trainer.optimizer, parameters) if scaling == "adam" else None,
            against=against,
            shares=prepared.problem.target_shares,
        )
        flops = self._flops.training * made.examples / prepared.recipe.batch_size
        self._ledger.charge("mixing", flops=flops, what=GRADIENTS)
        return made.estimate

    def _loss(self, split: str, indices: IntArray) -> Tensor:
        trainer = self._trainer
        batch = trainer.task.batch(trainer.corpus, split, indices)
        with trainer.autocast():
            losses = trainer.task.loss(trainer.model, {k: v.to(trainer.device) for k, v in batch.items()})
        return losses.per_example.mean()

    def probe(self, mixture: Mixture, steps: int) -> None:
        """Steps of the main run on a mixture; they are counted in its budget and cost nothing beside it."""
        trainer = self._trainer
        left = self._prepared.recipe.steps - trainer.done
        if not 0 < steps <= left:
            raise MixerError(f"a probe of {steps} steps, of the main run's {left} that are left; probe fewer steps")
        self._claim(PROBES, steps, self._declared.probe_steps, "probe_steps")
        checked = mixture.checked(self._prepared.problem.domains)
        reseed(derive_seed(self._prepared.seed, "probe", trainer.done))
        trainer.model.train()
        for _ in range(steps):
            trainer.step(checked)
            self.after_step()
        self._ledger.charge("mixing", what=PROBES, calls=steps)

    @property
    def probed(self) -> int:
        """Steps spent in probes so far."""
        return int(self._ledger.purchases.get(PROBES, {}).get("calls", 0))

    def train(self, runs: Sequence[Run]) -> list[RunResult]:
        """Proxy and reference runs, from the cache where equal ones were made; billed in full either way."""
        spent = self._ledger.purchases.get(RUNS, {}).get("flops", 0.0)
        allowed = sum(price(self._prepared, run) for run in self._declared.runs)
        wanted = sum(price(self._prepared, run) for run in runs)
        if spent + wanted > allowed * (1 + 1e-9):
            raise MixerError(
                f"runs of {spent + wanted:.3g} FLOPs, {allowed:.3g} were declared; add them to purchases().runs"
            )
        self._meet_orders(runs)
        all_made = self._prepared.make_runs(self._prepared, runs)
        for made in all_made:
            self._ledger.charge("mixing", flops=made.result.flops, what=RUNS)
            self._ledger.made_elsewhere += made.elsewhere
            self._ledger.reused += made.cached
        return [made.result for made in all_made]

    def influence(
        self, checkpoint: Checkpoint, how: Influence, targets: Sequence[int] | None = None
    ) -> InfluenceEstimate:
        """Influence of a fixed sample of training examples on targets, at a model that a run kept."""
        check_declared(self._prepared, checkpoint, how, self._declared)
        self._claim(INFLUENCE, 1, self._declared.influence, "influence")
        made = measure(self._prepared, checkpoint, how, targets)
        self._ledger.charge("mixing", flops=made.flops, what=INFLUENCE)
        return made.estimate

    def _meet_orders(self, runs: Sequence[Run]) -> None:
        """Where other workers are to make the runs, leave what is missing to them; see :mod:`harness.orders`."""
        policy = self._prepared.orders
        if not (policy.errand or policy.delegate):
            return
        waiting = missing(self._prepared, runs)
        if policy.errand and waiting:
            if policy.errand in waiting:
                self._prepared.make_runs(self._prepared, [waiting[policy.errand]])
            raise ErrandDone
        # In mid-run all steps since the last checkpoint would be done twice.
        if policy.delegate and len(waiting) > 1 and self._trainer.done == 0:
            raise OrdersPending(tuple(waiting))

    def embeddings(self, examples: int, embedder: str = "auto") -> ExampleVectors:
        """Vectors of examples of each domain and target, billed in full also where a cache answered."""
        declared = self._declared
        if not 0 < examples <= declared.embedding_examples:
            raise MixerError(
                f"embeddings of {examples} examples a domain, {declared.embedding_examples} were declared; "
                "raise purchases().embedding_examples"
            )
        if embedder != declared.embedder:
            raise MixerError(
                f"embeddings by {embedder}, those by {declared.embedder} were declared; set purchases().embedder"
            )
        if EMBEDDINGS in self._ledger.purchases:
            raise MixerError("embeddings are sold once a run; keep those of the first call")
        made = embedded(self._prepared, examples, embedder)
        self._ledger.charge("mixing", flops=made.flops, what=EMBEDDINGS)
        self._ledger.made_elsewhere += made.seconds_elsewhere
        return made.vectors

    def _claim(self, what: str, calls: int, declared: int, field: str) -> None:
        bought = int(self._ledger.purchases.get(what, {}).get("calls", 0))
        if bought + calls > declared:
            raise MixerError(
                f"{what}: {bought + calls} bought, {declared} declared; raise purchases().{field} to an upper bound"
            )

    def state(self) -> dict[str, Any]:
        """JSON-able: how far the lab's own streams are."""
        return {split: stream.state() for split, stream in self._streams.items()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`."""
        for split, stream in self._streams.items():
            stream.load_state(state[split])
