"""Models that predict as one: CLIP's and decoders'."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tasks.base import Combination, TrainableTask
from tasks.clip import ensemble as clip_ensemble
from tasks.clip import scores as clip_scores
from tasks.clip.ensemble import ClipEnsemble, Encoded
from tasks.language import decoder
from tasks.language.ensemble import DecoderEnsemble
from tasks.language.generation import greedy
from tasks.text import Text

CPU = torch.device("cpu")
BOTH = pytest.mark.parametrize("how", ["logits", "probabilities"])


class Says(nn.Module):
    """A decoder that gives the same distribution everywhere."""

    def __init__(self, *shares: float) -> None:
        super().__init__()
        self.answer = torch.tensor(shares).log()

    def forward(self, input_ids: Tensor) -> Any:
        from types import SimpleNamespace

        return SimpleNamespace(logits=7.0 + self.answer.expand(*input_ids.shape, -1))


@pytest.mark.parametrize(("how", "expected"), [("probabilities", [0.65, 0.35]), ("logits", [2 / 3, 1 / 3])])
def test_two_decoders_by_hand(how: Combination, expected: list[float]) -> None:
    # 3/4 of (.8, .2) and 1/4 of (.2, .8): means, or .8^.75 .2^.25 : .2^.75 .8^.25 = 4^.5 : 1.
    both = DecoderEnsemble([Says(0.8, 0.2), Says(0.2, 0.8)], np.array([0.75, 0.25]), how)
    found = both(input_ids=torch.zeros(1, 2, dtype=torch.int64)).logits.softmax(-1)
    torch.testing.assert_close(found, torch.tensor([[expected, expected]]))


def decoders(count: int, size: int = 12) -> list[nn.Module]:
    build = {"vocabulary": size, "context": 16, "width": 8, "layers": 1, "heads": 2, "end": 0}
    return [decoder.build(**build, seed=seed) for seed in range(count)]


@BOTH
def test_equal_decoders_are_one_and_the_mode_is_passed_on(how: Combination) -> None:
    (model,) = decoders(1)
    tokens = torch.arange(10).view(2, 5)
    twice = DecoderEnsemble([model, model], np.array([0.3, 0.7]), how).eval()
    assert not model.training
    torch.testing.assert_close(
        twice(input_ids=tokens).logits.log_softmax(-1), model(input_ids=tokens).logits.log_softmax(-1)
    )


@BOTH
def test_an_ensemble_writes_what_its_own_next_tokens_say(how: Combination) -> None:
    """The caches of all members are handed on: decoding step by step is the same as reading everything anew."""
    ensemble = DecoderEnsemble(decoders(2), np.array([0.4, 0.6]), how)
    prompts = [np.array([3, 4, 5]), np.array([7])]
    written = greedy(ensemble, prompts, end=0, limit=6, context=16, device=CPU)
    for prompt, answer in zip(prompts, written, strict=True):
        tokens = prompt.tolist()
        for expected in answer:
            with torch.no_grad():
                logits = ensemble(input_ids=torch.tensor([tokens])).logits
            tokens.append(int(logits[0, -1].argmax()))
            assert tokens[-1] == expected


@BOTH
def test_text_is_judged_by_the_ensemble(folder: Path, make_text: Callable[..., Text], how: Combination) -> None:
    task = make_text(folder)
    corpus = task.load()
    models = [task.build_model(seed) for seed in (0, 1)]

    def loss(model: nn.Module) -> float:
        top, bottom = task.evaluate(model, corpus, "test", device=CPU, dtype=torch.float32).sums["loss"]
        return float(top.sum() / bottom.sum())

    combined = loss(task.combine(models, np.array([0.5, 0.5]), how))
    # Jensen: the mean of probabilities is at most the mean loss; so is their geometric mean, normalised.
    assert combined <= np.mean([loss(model) for model in models])
    assert loss(task.combine([models[0]] * 2, np.array([0.5, 0.5]), how)) == pytest.approx(loss(models[0]), rel=1e-5)


def encoded(*, seed: int, n: int = 7, d: int = 4, scale: float = 3.0) -> Encoded:
    generator = torch.Generator().manual_seed(seed)

    def unit(*shape: int) -> Tensor:
        return nn.functional.normalize(torch.randn(*shape, generator=generator), dim=-1)

    return Encoded(images=unit(n, d), texts=unit(n, d), prompts=unit(3, 2, d), scale=torch.tensor(scale))


def ensemble(weights: list[float], how: Combination) -> ClipEnsemble:
    return ClipEnsemble([nn.Identity() for _ in weights], np.array(weights), how)


CLASSES, WEIGHT = np.array([0, 1, 2, 0, 1, 2, -1]), np.array([1, 1, 0.5, 0.5, 1, 1, 1])


def test_averaged_logits_are_one_model_with_the_features_side_by_side() -> None:
    first, second = encoded(seed=0, scale=3.0), encoded(seed=1, d=6, scale=8.0)
    found = clip_ensemble.judged(ensemble([0.25, 0.75], "logits"), [first, second], CLASSES, WEIGHT)
    total = 0.25 * 3 + 0.75 * 8
    roots = [(0.25 * 3 / total) ** 0.5, (0.75 * 8 / total) ** 0.5]
    sides = [
        torch.cat([root * getattr(each, side) for root, each in zip(roots, (first, second), strict=True)], dim=1)
        for side in ("images", "texts")
    ]
    torch.testing.assert_close(sides[0].norm(dim=1), torch.ones(7))
    for name, (top, bottom) in clip_scores.retrieval(*sides, torch.tensor(total), WEIGHT).items():
        np.testing.assert_allclose(found[name][0], top, rtol=1e-5)
        np.testing.assert_array_equal(found[name][1], bottom)


def test_averaged_probabilities_by_hand() -> None:
    first, second = encoded(seed=0), encoded(seed=1)
    found = clip_ensemble.judged(ensemble([0.25, 0.75], "probabilities"), [first, second], CLASSES, WEIGHT)

    def shares(each: Encoded, back: bool) -> Tensor:
        logits = each.scale * each.images @ each.texts.t()
        return (logits.t() if back else logits).softmax(1)

    ways = [0.25 * shares(first, back) + 0.75 * shares(second, back) for back in (False, True)]
    losses = [-way.diagonal().log() for way in ways]
    np.testing.assert_allclose(found["loss"][0], (sum(losses) / 2).numpy() * WEIGHT, rtol=1e-5)
    right = (ways[1].argmax(1) == torch.arange(7)).double().numpy()
    np.testing.assert_array_equal(found["t2i_recall_at_1"][0], right * WEIGHT)

    def classes(each: Encoded) -> Tensor:
        centres = nn.functional.normalize(each.prompts.mean(1), dim=-1)
        return (each.scale * each.images @ centres.t()).softmax(1)

    guesses = (0.25 * classes(first) + 0.75 * classes(second)).argmax(1).numpy()
    expected = (guesses == CLASSES) * WEIGHT * (CLASSES >= 0)
    np.testing.assert_array_equal(found["zero_shot_accuracy"][0], expected)


@BOTH
def test_equal_clips_are_one(how: Combination) -> None:
    model = encoded(seed=2)
    found = clip_ensemble.judged(ensemble([0.3, 0.7], how), [model, model], CLASSES, WEIGHT)
    for name, (top, bottom) in clip_ensemble.judged(nn.Identity(), [model], CLASSES, WEIGHT).items():
        np.testing.assert_allclose(found[name][0], top, rtol=1e-5, err_msg=name)
        np.testing.assert_array_equal(found[name][1], bottom)


@BOTH
def test_equal_captions_count_half_in_an_ensemble_too(how: Combination) -> None:
    ones = torch.ones(5, 2) / 2**0.5
    same = Encoded(images=ones, texts=ones, prompts=torch.zeros(0, 0, 0), scale=torch.tensor(4.0))
    found = clip_ensemble.judged(ensemble([0.5, 0.5], how), [same, same], np.full(5, -1), np.ones(5))
    np.testing.assert_allclose(found["mean_reciprocal_rank"][0], 1 / 3)
    assert found["zero_shot_accuracy"][1].sum() == 0


def test_the_hook_is_absent_by_default() -> None:
    assert Text.combine is not TrainableTask.combine
