"""What every task on pairs of prompt and answer shares: the loss falls on the answer, and the answer is judged."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.base import (
    SPLITS,
    Batch,
    Corpus,
    FloatArray,
    IntArray,
    Losses,
    Metric,
    Preset,
    Requirement,
    Scores,
    TaskError,
)
from tasks.language import rows as prepared_rows
from tasks.language.answers_settings import ANSWER_METRICS, AnswerConfig
from tasks.language.rows import Rows
from tasks.language.task import DecoderTask
from tasks.shares import target_shares
from tasks.sources.pairs import PairSource

__all__ = ["ANSWER_METRICS", "AnswerConfig", "AnswerTask", "answer_mask"]

_EVALUATION_TOKENS = 16_384  # tokens in one evaluation batch ...
_EVALUATION_LOGITS = 2**25  # ... and logits, whichever allows fewer examples


class AnswerTask(DecoderTask):
    """One decoder, pairs of prompt and answer; subclasses name the source and whatever else they judge.

    A row of tokens is prompt, line break, answer, end token and padding. Its length is fixed, so that a step costs
    the same whatever the mixture.
    """

    unit: ClassVar[str] = "token"
    metrics: ClassVar[tuple[Metric, ...]] = ANSWER_METRICS

    def __init__(self, config: Any, preset: Preset, cache: Path) -> None:
        super().__init__(config, preset, cache)
        self._rows: prepared_rows.Prepared | None = None

    # What a subclass says

    @abstractmethod
    def open_source(self) -> PairSource:
        """The reader that the config names; quick. Raises :class:`TaskError` for a path that is no data."""

    def data_requirements(self) -> Sequence[Requirement]:
        """What the source needs, and what of it is there."""
        return self.open_source().requirements()

    def published(self) -> str | None:
        """The fingerprint of the published corpus, where the config is that of a published one."""
        return None

    def judge(
        self, model: nn.Module, corpus: Corpus, split: str, *, device: torch.device, dtype: torch.dtype
    ) -> Mapping[str, tuple[FloatArray, FloatArray]]:
        """Sums of the metrics that a subclass adds: name -> ([n] numerators, [n] denominators)."""
        return {}

    # Data

    def load(self) -> Corpus:
        """The corpus; the first time it is read, split and tokenised, afterwards it comes from the cache.

        ``examples`` are :class:`tasks.language.rows.Rows`; an example's units are its tokens without the padding.
        """
        config = self.config
        source = self.open_source()
        identity, make = self.tokenization()
        made = prepared_rows.prepare(
            source,
            tokenizer=identity,
            make_vocabulary=make,
            context=config.context,
            limits={"validation": config.validation_examples, "test": config.test_examples},
            cache=self.cache,
        )
        self._rows = made
        target = self._target(made, config.target or source.target)
        digest = hashlib.sha256(f"{made.fingerprint}{np.round(target, 9).tolist()}".encode())
        return Corpus(
            domains=made.domains,
            labels=made.labels,
            units={split: made.rows[split].ends for split in SPLITS},
            examples=made.rows,
            train_shares=made.train_shares,
            target_shares=target,
            fingerprint=digest.hexdigest()[:32],
            expected_fingerprint=self.published(),
            provenance=self.provenance(made.provenance),
        )

    def _target(self, made: prepared_rows.Prepared, wanted: Mapping[str, float] | None) -> FloatArray:
        """[m] target shares: the wanted ones, or the test shares where the source gives them, or the train shares."""
        shares = target_shares(wanted, made.domains, made.test_shares if made.given else made.train_shares)
        for domain, share, tested in zip(made.domains, shares, made.test_shares, strict=True):
            if share > 0 and tested == 0:
                raise TaskError(
                    f"target domain {domain!r} has no test pairs; give it some, or take it out of the target"
                )
        return shares

    def prepared(self) -> prepared_rows.Prepared:
        """The tokenised source, loaded if it is not yet."""
        if self._rows is None:
            self.load()
        assert self._rows is not None
        return self._rows

    def trained_tokenizer(self) -> Path:
        """Beside the rows in the cache."""
        return self.prepared().tokenizer

    def texts(self, corpus: Corpus, split: str) -> list[str]:
        """Prompt and answer together: skills differ in what they answer as much as in what they are asked."""
        return self.vocabulary().decode(corpus.examples[split].tokens)

    def content(self) -> str:
        """The fingerprint of the rows."""
        return self.prepared().fingerprint

    # Model

    def batch(self, corpus: Corpus, split: str, indices: IntArray) -> Batch:
        """``tokens``: [B, context + 1] int64; ``start``, ``end``: [B] int64, of the answer and its end token."""
        rows: Rows = corpus.examples[split]
        return {
            "tokens": torch.from_numpy(rows.tokens[indices].astype(np.int64)),
            "start": torch.from_numpy(rows.starts[indices]),
            "end": torch.from_numpy(rows.ends[indices]),
        }

    def loss(self, model: nn.Module, batch: Batch) -> Losses:
        """Cross-entropy of the answer's tokens and its end token, in nats; the prompt and the padding do not count.

        Units are the [B, context] next tokens, the mask is 1 on the answer's.
        """
        tokens = batch["tokens"]
        logits, mask = self._logits(model, batch).float(), answer_mask(batch)
        per_unit = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none").view(mask.shape)
        return Losses(per_unit=per_unit, mask=mask, per_example=(per_unit * mask).sum(1) / mask.sum(1))

    def _logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """[B, T, vocabulary] logits of the next tokens of rows [B, T + 1]."""
        inputs = batch["tokens"][:, :-1]
        if not self.config.model:  # padding stands to the right, where causal attention does not look
            logits: Tensor = model(input_ids=inputs).logits
            return logits
        real = torch.arange(inputs.shape[1], device=inputs.device) < batch["end"][:, None]
        masked: Tensor = model(input_ids=inputs, attention_mask=real.long()).logits
        return masked

    # Judgement

    def evaluate(
        self, model: nn.Module, corpus: Corpus, split: str, *, device: torch.device, dtype: torch.dtype
    ) -> Scores:
        """Sums per example over the tokens of its answer, and what the subclass judges besides.

        An answer matches exactly if each of its tokens, the end token included, is the most likely one after the true
        tokens before it: then, and only then, greedy decoding writes this answer. Of an answer that was cut, what is
        left is judged. The baseline of ``exact_match`` always gives the domain's most frequent training answer.
        """
        rows: Rows = corpus.examples[split]
        size = self.vocabulary().size
        order = np.argsort(rows.ends, kind="stable")  # alike lengths together: less padding to compute
        sums = torch.zeros(3, len(order), dtype=torch.float64)
        training = model.training
        model.eval()
        try:
            with torch.no_grad(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                begin = 0
                while begin < len(order):
                    longest = int(rows.ends[order[min(begin + 64, len(order)) - 1]])
                    step = max(1, min(_EVALUATION_TOKENS // longest, _EVALUATION_LOGITS // (longest * size), 64))
                    chosen = order[begin : begin + step]
                    sums[:, chosen] = self._sums(model, corpus, split, chosen, device).cpu()
                    begin += step
        finally:
            model.train(training)
        nats, right, count = sums.numpy()
        ones = np.ones(len(order))
        return Scores(
            domains=corpus.labels[split],
            sums={
                "exact_match": ((right == count).astype(np.float64), ones),
                "accuracy": (right, count),
                "loss": (nats, count),
                **self.judge(model, corpus, split, device=device, dtype=dtype),
            },
            baselines={"exact_match": (rows.constant.astype(np.float64), ones)},
        )

    def _sums(self, model: nn.Module, corpus: Corpus, split: str, chosen: IntArray, device: torch.device) -> Tensor:
        """[3, len(chosen)] float64: nats, right tokens and tokens of the answers."""
        batch = {name: tensor.to(device) for name, tensor in self.batch(corpus, split, chosen).items()}
        batch["tokens"] = batch["tokens"][:, : max(2, int(corpus.examples[split].ends[chosen].max()))]
        mask = answer_mask(batch).bool()
        targets = batch["tokens"][:, 1:][mask]
        logits = self._logits(model, batch)[mask].float()  # [answer tokens, vocabulary]
        each = torch.stack(
            [
                F.cross_entropy(logits, targets, reduction="none").double(),
                (logits.argmax(dim=-1) == targets).double(),
                torch.ones(len(targets), dtype=torch.float64, device=device),
            ]
        )
        example = torch.arange(len(chosen), device=device)[:, None].expand(mask.shape)[mask]
        return torch.zeros(3, len(chosen), dtype=torch.float64, device=device).index_add_(1, example, each)


def answer_mask(batch: Batch) -> Tensor:
    """[B, T] float32, 1 where the next token belongs to the answer or ends it."""
    place = torch.arange(1, batch["tokens"].shape[1], device=batch["tokens"].device)
    return ((place >= batch["start"][:, None]) & (place < batch["end"][:, None])).float()
