"""The counter at which a mixer buys what it does not see for free. Every purchase is billed to its trial."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from harness.flops import PassFlops
from harness.ledger import Ledger
from harness.prepare import Prepared
from harness.trainer import Trainer
from mixers.base import MixerError, Purchases


class PaidLab:
    """The :class:`mixers.base.Lab` of one trial's main run; refuses more than the mixer declared."""

    def __init__(
        self, prepared: Prepared, trainer: Trainer, ledger: Ledger, flops: PassFlops, declared: Purchases
    ) -> None:
        self._prepared, self._trainer, self._ledger, self._flops = prepared, trainer, ledger, flops
        self._declared = declared

    def validation_losses(self) -> npt.NDArray[np.float64]:
        """[n] mean validation loss per target domain of the partition, NaN where a domain has no example."""
        bought = int(self._ledger.purchases.get("validation losses", {}).get("calls", 0))
        if bought >= self._declared.validation_losses:
            raise MixerError(
                f"a validation pass beyond the {bought} that were declared; "
                "raise needs().purchases.validation_losses to an upper bound"
            )
        prepared = self._prepared
        scores = prepared.task.evaluate(
            self._trainer.model, prepared.corpus, "validation", device=prepared.device, dtype=prepared.dtype
        )
        losses, counts = scores.sums["loss"]
        m = len(prepared.problem.targets)
        groups = prepared.partition.validation
        top = np.bincount(groups, weights=losses, minlength=m)
        bottom = np.bincount(groups, weights=counts, minlength=m)
        batches = len(groups) / prepared.recipe.batch_size
        self._ledger.charge("mixing", flops=self._flops.forward * batches, what="validation losses")
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.where(bottom > 0, top / bottom, np.nan), dtype=np.float64)
