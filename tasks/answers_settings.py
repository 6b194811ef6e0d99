"""What the tasks on pairs have in common besides their class: settings, metrics, target shares, requirements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tasks.base import FloatArray, Metric, Requirement, TaskError
from tasks.pairs_data import Prepared

BYTES = 257  # the smallest vocabulary: every byte, and the end token

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


def target_shares(wanted: Mapping[str, float] | None, made: Prepared) -> FloatArray:
    """[m] target shares: the wanted ones, checked, or the test shares where the source gives them, or train's."""
    if wanted is None:
        shares = (made.test_shares if made.given else made.train_shares).copy()
    else:
        unknown = sorted(set(wanted) - set(made.domains))
        if unknown:
            raise TaskError(f"target names unknown domain {unknown[0]!r}; the domains are {', '.join(made.domains)}")
        shares = np.array([wanted.get(domain, 0.0) for domain in made.domains], dtype=np.float64)
        if not np.all(np.isfinite(shares)) or shares.min() < 0 or abs(shares.sum() - 1) > 1e-3:
            raise TaskError(f"target shares must be non-negative and sum to 1; they sum to {shares.sum():.6g}")
    for domain, share, tested in zip(made.domains, shares, made.test_shares, strict=True):
        if share > 0 and tested == 0:
            raise TaskError(f"target domain {domain!r} has no test pairs; give it some, or take it out of the target")
    return shares / shares.sum()


def model_requirement(name: str) -> Requirement:
    """Whether a pretrained model lies in a folder or in the local Hugging Face cache; never asks the network."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    found = name if Path(name).expanduser().is_dir() else ""
    if not found:
        try:
            cached = try_to_load_from_cache(name, "config.json")
        except HFValidationError:
            cached = None
        if isinstance(cached, str) and any(Path(cached).parent.glob("*.safetensors*")):
            found = str(Path(cached).parent)
    remedy = f"hf download {name} where there is a network, or model=<folder that holds it>"
    return Requirement(what=f"model {name}", found=found, remedy=remedy)
