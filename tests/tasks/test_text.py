from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tasks.base import SPLITS, TaskError
from tasks.language import tokenizer
from tasks.language.windows import cut
from tasks.sources.folder import Folder
from tasks.sources.split import split_origins
from tasks.text import Text

from .conftest import sentences, write_jsonl

Make = Callable[..., Text]
CPU = torch.device("cpu")


def test_cut_makes_every_token_a_target_once() -> None:
    documents = [np.arange(10, 17), np.arange(20, 23), np.arange(30, 41)]
    stream = [0, *documents[0], 0, *documents[1], 0, *documents[2], 0]
    windows = cut(documents, end=0, context=4)
    assert windows.shape == (6, 5)
    assert windows[:, 1:].ravel().tolist() == stream[1:25]
    assert windows[:, :-1].ravel().tolist() == stream[:24]


def test_cut_of_too_short_a_text_is_empty() -> None:
    assert cut([np.arange(3)], end=0, context=8).shape == (0, 9)


def test_corpus_agrees_with_its_own_shapes(folder: Path, make_text: Make) -> None:
    corpus = make_text(folder, validation_windows=5).load()
    assert corpus.domains == ("law", "sea")
    for split in SPLITS:
        count = len(corpus.labels[split])
        assert corpus.examples[split].shape == (count, 17)
        assert corpus.units[split].tolist() == [16] * count
    assert np.bincount(corpus.labels["validation"]).tolist() == [5, 5]
    assert np.bincount(corpus.labels["test"]).tolist() == [20, 20]
    shares = np.bincount(corpus.labels["train"]) / len(corpus.labels["train"])
    assert corpus.train_shares == pytest.approx(shares)
    assert corpus.target_shares == pytest.approx(shares)
    assert corpus.expected_fingerprint is None


def test_windows_decode_to_text_of_their_own_split_and_domain(folder: Path, make_text: Make) -> None:
    task = make_text(folder)
    corpus = task.load()
    documents = Folder(folder).documents()
    splits = split_origins(documents)
    for split in SPLITS:
        texts = task.vocabulary().decode(corpus.examples[split])
        for index, domain in enumerate(corpus.domains):
            whole = "".join(d.text for d in documents if d.domain == domain and splits[d.origin] == split)
            for text in np.array(texts, dtype=object)[corpus.labels[split] == index]:
                assert text in whole


def test_tokenizer_learns_from_training_text_only(folder: Path, make_text: Make) -> None:
    splits = split_origins(Folder(folder).documents())
    for origin, split in splits.items():
        word = "zyxwvut" if split == "test" else "qponmlk" if split == "validation" else "jihgfed"
        path = folder / origin
        path.write_text(path.read_text().replace(".", f" {word}."))
    assert split_origins(Folder(folder).documents()).keys() == splits.keys()
    task = make_text(folder, vocabulary=600)
    task.load()
    lengths = {}
    for word in ("jihgfed", "qponmlk", "zyxwvut"):
        (ids,) = task.vocabulary().encode([f" {word}"])
        lengths[word] = len(ids)
    assert lengths["jihgfed"] == 1
    assert min(lengths["qponmlk"], lengths["zyxwvut"]) >= 7


def test_bpe_is_deterministic_and_counts_bytes() -> None:
    texts = [sentences("sea", number, 40) + " Größe\t✓" for number in range(20)]
    first, second = tokenizer.train(texts, 400), tokenizer.train(texts, 400)
    assert first._tokenizer.to_str() == second._tokenizer.to_str()
    for text in ["Größe\t✓ wave\n\n  tide", "<|end|> is text here", "\U0001f30a"]:
        (ids,) = first.encode([text])
        assert first.byte_lengths[ids].sum() == len(text.encode())
        assert first.end not in ids
    assert first.byte_lengths[first.end] == 0
    with pytest.raises(TaskError, match="at least 257"):
        tokenizer.train(texts, 100)


def test_sentencepiece_style_tokens_count_their_bytes() -> None:
    from tokenizers import Tokenizer, models

    pieces = {"<unk>": 0, "<s>": 1, "<0x0A>": 2, "\u2581sea": 3, "ö": 4}
    raw = Tokenizer(models.BPE(vocab=pieces, merges=[], unk_token="<unk>"))
    raw.add_special_tokens(["<unk>", "<s>"])
    assert tokenizer.Vocabulary(raw, 1, 5).byte_lengths.tolist() == [0, 0, 1, 4, 2]


def test_fingerprint_is_stable_and_follows_any_change(folder: Path, make_text: Make, tmp_path: Path) -> None:
    first = make_text(folder).load()
    again = Text(make_text(folder).config, Text.presets["nano"], tmp_path / "other-cache").load()
    assert first.fingerprint == again.fingerprint
    assert make_text(folder).load().fingerprint == first.fingerprint  # from the cache
    prints = {first.fingerprint, make_text(folder, target={"sea": 1.0}).load().fingerprint}
    prints.add(make_text(folder, context=8).load().fingerprint)
    changed = folder / "sea" / "03.txt"
    changed.write_text(changed.read_text() + " x")
    prints.add(make_text(folder).load().fingerprint)
    assert len(prints) == 4


def test_a_damaged_cache_is_made_again(folder: Path, make_text: Make, tmp_path: Path) -> None:
    expected = make_text(folder).load().fingerprint
    (stored,) = (tmp_path / "cache" / "text").glob("*.npz")
    stored.write_bytes(stored.read_bytes()[:100])
    assert make_text(folder).load().fingerprint == expected
    assert [path.name for path in (tmp_path / "cache" / "text").iterdir() if path.name.startswith(".")] == []


def test_initial_weights_follow_the_seed_alone(folder: Path, make_text: Make) -> None:
    task = make_text(folder)
    task.load()
    torch.manual_seed(11)
    state = torch.get_rng_state()
    first = task.build_model(3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(12)
    second, other = task.build_model(3), task.build_model(4)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))
    assert task.tracked(first)[-1] is first.lm_head


def test_loss_is_cross_entropy_of_the_next_token(folder: Path, make_text: Make) -> None:
    task = make_text(folder)
    corpus = task.load()
    model = task.build_model(0)
    batch = task.batch(corpus, "train", np.array([0, 5, 2]))
    assert batch["tokens"].dtype == torch.int64
    losses = task.loss(model, batch)
    assert losses.per_unit.shape == losses.mask.shape == (3, 16)
    logits = model(input_ids=batch["tokens"][:, :-1]).logits
    picked = torch.log_softmax(logits, -1).gather(-1, batch["tokens"][:, 1:, None])[..., 0]
    assert torch.allclose(losses.per_unit, -picked, atol=1e-5)
    assert torch.allclose(losses.per_example, losses.per_unit.mean(1))


class Fixed(nn.Module):
    """Predicts the same distribution at every place."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, input_ids: torch.Tensor) -> Fixed:
        return Fixed(self.logits.expand(*input_ids.shape, -1))


def test_metrics_against_a_hand_computation(folder: Path, make_text: Make) -> None:
    task = make_text(folder, test_windows=10_000)
    corpus = task.load()
    vocabulary = task.vocabulary()
    logits = torch.linspace(-2.0, 2.0, vocabulary.size)
    model = Fixed(logits)
    scores = task.evaluate(model, corpus, "test", device=CPU, dtype=torch.float32)
    assert model.training
    log_p = torch.log_softmax(logits.double(), 0).numpy()
    best = vocabulary.size - 1
    ends = (corpus.examples["test"][:, 1:] == vocabulary.end).any(axis=1)
    for row in (0, int(np.argmax(ends)), len(ends) - 1):
        targets = [int(token) for token in corpus.examples["test"][row][1:] if token != vocabulary.end]
        nats = -sum(log_p[token] for token in targets)
        text = vocabulary.decode(np.array([targets]))[0]
        top, bottom = (values[row] for values in scores.sums["bits_per_byte"])
        assert top == pytest.approx(nats / math.log(2), rel=1e-5)
        assert bottom == len(text.encode())
        assert scores.sums["accuracy"][0][row] == targets.count(best)
        assert scores.sums["loss"][1][row] == len(targets)
    assert ends.any(), "a window with the end token among its targets was looked at"


def test_a_uniform_model_needs_the_logarithm_of_the_vocabulary(folder: Path, make_text: Make) -> None:
    task = make_text(folder)
    corpus = task.load()
    size = task.vocabulary().size
    scores = task.evaluate(Fixed(torch.zeros(size)), corpus, "validation", device=CPU, dtype=torch.float32)
    assert scores.by_domain("loss", 2) == pytest.approx([math.log(size)] * 2, rel=1e-6)


def test_training_brings_the_loss_down(folder: Path, make_text: Make) -> None:
    task = make_text(folder)
    corpus = task.load()
    model = task.build_model(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    before = task.evaluate(model, corpus, "test", device=CPU, dtype=torch.float32).by_domain("bits_per_byte", 2)
    for step in range(60):
        indices = np.arange(step * 8, step * 8 + 8) * 7 % len(corpus.labels["train"])
        optimizer.zero_grad()
        task.loss(model, task.batch(corpus, "train", indices)).per_example.mean().backward()
        optimizer.step()
    after = task.evaluate(model, corpus, "test", device=CPU, dtype=torch.float32).by_domain("bits_per_byte", 2)
    assert (after < 0.8 * before).all()


def test_a_pretrained_model_by_local_path(folder: Path, make_text: Make, tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    small = make_text(folder)
    small.load()
    where = tmp_path / "model"
    small.build_model(0).save_pretrained(where)
    PreTrainedTokenizerFast(tokenizer_object=small.vocabulary()._tokenizer, eos_token=tokenizer.END).save_pretrained(
        where
    )
    task = make_text(folder, model=str(where))
    corpus, expected = task.load(), small.load()
    for split in SPLITS:
        assert np.array_equal(corpus.examples[split], expected.examples[split])
    scores = [
        each.evaluate(each.build_model(0), corpus, "test", device=CPU, dtype=torch.float32).sums["bits_per_byte"]
        for each in (task, small)
    ]
    assert np.allclose(scores[0], scores[1])
    with pytest.raises(TaskError, match="no such folder"):
        make_text(folder, model=str(tmp_path / "nothing")).load()


def test_jsonl_corpus_with_a_target(tmp_path: Path, make_text: Make) -> None:
    rows = [
        {"text": sentences(domain, number, 20), "domain": domain, "origin": number // 2}
        for domain in ("law", "sea")
        for number in range(24)
    ]
    path = write_jsonl(tmp_path / "x.jsonl", rows)
    corpus = make_text(path, target={"sea": 0.75, "law": 0.25}).load()
    assert corpus.target_shares.tolist() == [0.25, 0.75]
    assert corpus.provenance["name"] == "x.jsonl"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": {"see": 1.0}}, "target names unknown domain 'see'; the domains are law, sea"),
        ({"target": {"sea": 0.7}}, "sum to 1; they sum to 0.7"),
        ({"target": {"sea": 1.5, "law": -0.5}}, "non-negative"),
        ({"context": 5000}, "less than one window of 5000 tokens"),
        ({"width": 18, "heads": 4}, "must be a multiple of heads"),
    ],
)
def test_bad_settings_are_one_clear_line(folder: Path, make_text: Make, settings: object, message: str) -> None:
    def attempt() -> None:
        make_text(folder, **settings).load()  # type: ignore[arg-type]

    with pytest.raises(TaskError, match=message) as caught:
        attempt()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["/no/such/place", __file__])
def test_a_path_that_is_no_corpus(make_text: Make, path: str) -> None:
    with pytest.raises(TaskError, match="path="):
        make_text(path).load()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"contxt": 3}, "no setting 'contxt'; did you mean 'context'"),
        ({"qqq": 3}, "valid ones are path, "),
        ({"context": "many"}, "setting context='many'"),
        ({"portion": 0}, r"portion=0\.0 must be in"),
        ({"target": {"a": "b"}}, r"setting target\.a='b'"),
    ],
)
def test_configure_refuses_in_one_line(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(TaskError, match=message) as caught:
        Text.configure(Text.presets["demo"], overrides)
    assert "\n" not in str(caught.value)


def test_configure_lets_the_user_win_over_the_preset() -> None:
    preset = Text.presets["demo"]
    config = Text.configure(preset, {"width": "64"})
    assert config.width == 64
    assert config.vocabulary == preset.settings["vocabulary"]
    assert config.heads == Text.Config().heads
