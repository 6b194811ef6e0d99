"""The overhead formulas that the R&B paper (arXiv 2505.00358, Table 4) uses to compare methods.

All are (FLOPs of the method - FLOPs of plain training) / FLOPs of plain training, with 2 N D for a forward and 4 N D
for a backward pass over D tokens of a model with N parameters. They are what the paper *counts*, printed beside what
is measured here; they leave out accumulators, embeddings and clustering. With m domains, T rounds, D_t training
tokens, D_e evaluation tokens, and delta the share of the training set that one extra pass per domain takes, they
reproduce the percentages of its Table 1, but for two cells that are swapped in print.
"""

from __future__ import annotations


def skill_it(*, m: int, rounds: int, train_tokens: float, eval_tokens: float, delta: float) -> float:
    """Skill-It: one short run per domain, and an evaluation per domain and per round."""
    return m * delta + (rounds + m) * eval_tokens / (3 * train_tokens)


def aioli(*, m: int, rounds: int, train_tokens: float, eval_tokens: float) -> float:
    """Aioli: an evaluation per domain in every round."""
    return rounds * m * eval_tokens / (3 * train_tokens)


def dga(*, m: int, rounds: int, train_tokens: float, eval_tokens: float, delta: float) -> float:
    """DGA: a batch per domain, and a share delta of the evaluation set's gradients in every round."""
    return m * delta + rounds * delta * eval_tokens / train_tokens


def rnb(*, m: int, rounds: int, train_tokens: float, tracked_fraction: float = 1.0) -> float:
    """R&B: m^2 inner products a round, N FLOPs each, over the tracked fraction of the parameters."""
    return rounds * m**2 * tracked_fraction / (6 * train_tokens)
