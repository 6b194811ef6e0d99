"""The bill of a trial: FLOPs and seconds, split by what they were spent on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

Account = Literal["training", "mixing", "regrouping", "embedding", "evaluation"]
ACCOUNTS: tuple[Account, ...] = ("training", "mixing", "regrouping", "embedding", "evaluation")


class Ledger:
    """Accumulates FLOPs and seconds per account, and a line per kind of purchase.

    Training covers the main run; mixing covers the mixer's host work, its signals and its purchases; regrouping and
    embedding come before training; evaluation belongs to the referee and is nobody's overhead.
    """

    def __init__(self) -> None:
        self.flops: dict[str, float] = dict.fromkeys(ACCOUNTS, 0.0)
        self.seconds: dict[str, float] = dict.fromkeys(ACCOUNTS, 0.0)
        self.purchases: dict[str, dict[str, float]] = {}
        self.made_elsewhere = 0.0  # seconds of runs that a cache answered: what the trial would have waited
        self.reused = 0  # how many runs those are; each is billed in full

    def charge(
        self, account: Account, *, flops: float = 0.0, seconds: float = 0.0, what: str = "", calls: int = 1
    ) -> None:
        """Add to an account; ``what`` also counts the purchase by kind."""
        self.flops[account] += flops
        self.seconds[account] += seconds
        if what:
            line = self.purchases.setdefault(what, {"calls": 0, "flops": 0.0})
            line["calls"] += calls
            line["flops"] += flops

    @contextmanager
    def clock(self, account: Account) -> Iterator[None]:
        """Add the block's wall-clock seconds to an account."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[account] += time.perf_counter() - begin

    def share(self, account: Account) -> float:
        """FLOPs of an account as a share of the training FLOPs."""
        return self.flops[account] / self.flops["training"] if self.flops["training"] else 0.0

    def state(self) -> dict[str, Any]:
        """JSON-able contents."""
        return {
            "flops": self.flops,
            "seconds": self.seconds,
            "purchases": self.purchases,
            "made_elsewhere": self.made_elsewhere,
            "reused": self.reused,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state`."""
        self.flops = dict(state["flops"])
        self.seconds = dict(state["seconds"])
        self.purchases = {key: dict(line) for key, line in state["purchases"].items()}
        # Not in what older versions saved.
        self.made_elsewhere = float(state.get("made_elsewhere", self.made_elsewhere))
        self.reused = int(state.get("reused", self.reused))
