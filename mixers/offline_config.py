"""The fields that all offline mixers have."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from mixers.base import ADDED, MixerError
from mixers.proxies import Fidelity
from mixers.swarm import STRENGTHS, Prior, Swarm


@dataclass(frozen=True, slots=True, kw_only=True)
class OfflineConfig:
    """Fields of every offline mixer.

    proxies: number of proxy runs; ``None``: 3 (m + 1) (Olmix). proxy_share, proxy_size: their steps and parameters as
    shares of the main run's. match_repetition: see :class:`mixers.proxies.Fidelity`. validation_examples: of each
    target, 0: all. target: the one whose loss is lowered; ``None``: all, by the problem's target shares. prior,
    temperature, strengths, floor, prior_cap: see :class:`mixers.swarm.Swarm`. max_epochs: the recommendation repeats no
    domain more often in the main run; ``None``: no limit.

    The papers train smaller models than the main run's. ``proxy_size=1`` is our choice: the main run's own model for a
    tenth of its steps, so that mixtures are ranked across lengths and not across sizes too; smaller ones cost less.
    """

    proxies: int | None = None
    proxy_share: float = 0.1
    proxy_size: float = 1.0
    match_repetition: bool = False
    validation_examples: int = 0
    target: str | None = None
    temperature: float = 0.5
    strengths: tuple[float, ...] = STRENGTHS
    floor: float = 2e-4
    prior_cap: float | None = 15.0
    max_epochs: float | None = None
    prior: Prior = field(default="train", metadata=ADDED)

    mixer: ClassVar[str] = "offline"  # begins every message

    def __post_init__(self) -> None:
        self.fidelity.checked(self.mixer)
        self.swarm.checked()
        if self.proxies is not None and self.proxies < 3:
            raise MixerError(f"{self.mixer}: proxies must be at least 3, or none for 3 (m + 1), not {self.proxies}")
        if self.max_epochs is not None and not 0.0 < self.max_epochs < float("inf"):
            raise MixerError(f"{self.mixer}: max_epochs must be positive and finite, or none, not {self.max_epochs}")

    @property
    def fidelity(self) -> Fidelity:
        """What a proxy run is."""
        return Fidelity(
            share=self.proxy_share,
            size=self.proxy_size,
            match_repetition=self.match_repetition,
            validation_examples=self.validation_examples,
        )

    @property
    def swarm(self) -> Swarm:
        """How its mixture is drawn."""
        return Swarm(
            prior=self.prior,
            temperature=self.temperature,
            strengths=self.strengths,
            floor=self.floor,
            prior_cap=self.prior_cap,
            mixer=self.mixer,
        )
