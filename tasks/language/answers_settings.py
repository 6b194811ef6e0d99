"""What the tasks on pairs have in common besides their class: settings and metrics."""

from __future__ import annotations

from dataclasses import dataclass, field

from tasks.base import Metric, TaskError
from tasks.language.tokenizer import BYTES

ANSWER_METRICS = (
    Metric(name="exact_match", unit="share of answers", higher_is_better=True, primary=True),
    Metric(name="accuracy", unit="share of answer tokens", higher_is_better=True),
    Metric(name="loss", unit="nats/answer token", higher_is_better=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerConfig:
    """Settings that all tasks on pairs have. Configs that inherit call ``AnswerConfig.__post_init__(self)``.

    target: domain -> target share, summing to one; domains left out get none. Empty: the source's own target, else
    the shares of its test pairs where it says which those are, else the train shares.
    validation_examples, test_examples: most evaluation examples a domain.
    vocabulary: tokens of the BPE; 0: bytes. context: tokens of prompt and answer that an example trains on; longer
    prompts lose their beginning, and an answer that is longer by itself is cut.
    width, layers, heads: of the decoder. model: a pretrained causal language model by name or local path, with its
    own tokenizer; empty: build a decoder. embedder: what ``auto`` means when examples are embedded, as in ``text``.
    """

    target: dict[str, float] = field(default_factory=dict)
    validation_examples: int = 100
    test_examples: int = 200
    vocabulary: int = 0
    context: int = 128
    width: int = 128
    layers: int = 3
    heads: int = 4
    model: str = ""
    embedder: str = "auto"

    def __post_init__(self) -> None:
        for name in ("validation_examples", "test_examples", "width", "layers", "heads"):
            if getattr(self, name) < 1:
                raise TaskError(f"{name}={getattr(self, name)} must be at least 1")
        if self.context < 8:
            raise TaskError(f"context={self.context} must be at least 8 tokens")
        if self.vocabulary and self.vocabulary < BYTES:
            raise TaskError(f"vocabulary={self.vocabulary} must be 0 (bytes) or at least {BYTES}")
