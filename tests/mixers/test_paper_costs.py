"""The overheads that the R&B paper publishes, from its own formulas (Table 4) and the inputs behind Table 1."""

from __future__ import annotations

import pytest

from mixers import paper_costs

TRAIN = 2000 * 16 * 512  # steps x batch x context
DELTA = 1 / 2000
INSTRUCTIONS = 14_256 * 512  # evaluation tokens of Natural-Instructions
DOLLY = 750 * 512

# GPT-Neo 125M: all 73 linear layers (12 blocks of four attention and two MLP products, and the head), of all weights.
LINEAR = 12 * (4 * 768**2 + 2 * 768 * 3072) + 50_257 * 768
GPT_NEO = 125_198_592


@pytest.mark.parametrize(
    ("share", "percent", "digits"),
    [
        (
            paper_costs.skill_it(m=30, rounds=10, train_tokens=TRAIN, eval_tokens=INSTRUCTIONS, delta=DELTA),
            595.5,
            4,
        ),
        (paper_costs.dga(m=30, rounds=10, train_tokens=TRAIN, eval_tokens=INSTRUCTIONS, delta=DELTA), 1.7228, 5),
        (paper_costs.skill_it(m=8, rounds=10, train_tokens=TRAIN, eval_tokens=DOLLY, delta=DELTA), 14.4625, 6),
        (paper_costs.aioli(m=8, rounds=10, train_tokens=TRAIN, eval_tokens=DOLLY), 62.5, 3),
        (paper_costs.dga(m=8, rounds=10, train_tokens=TRAIN, eval_tokens=DOLLY, delta=DELTA), 0.4117, 4),
        (paper_costs.rnb(m=30, rounds=10, train_tokens=TRAIN, tracked_fraction=LINEAR / GPT_NEO), 0.00903, 3),
    ],
)
def test_published_overheads(share: float, percent: float, digits: int) -> None:
    assert float(f"{100 * share:.{digits}g}") == percent
