from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tasks.base import SPLITS, Preset, Recipe, Requirement, TaskError
from tasks.language import rows as pairs_rows
from tasks.language.answers import AnswerConfig, AnswerTask, answer_mask
from tasks.language.generation import greedy
from tasks.language.rows import assign, favourites, layout, separate
from tasks.sources.pairs import Pair, PairSource

CPU = torch.device("cpu")
PRESET = Preset(name="tiny", recipe=Recipe(steps=10, batch_size=8, learning_rate=1e-3))


class Given(PairSource):
    """Pairs written down."""

    def __init__(self, pairs: Sequence[Pair], target: dict[str, float] | None = None) -> None:
        self._pairs, self.target = list(pairs), target

    def identity(self) -> str:
        return pairs_rows.content_key([pairs_rows._plain(pair) for pair in self._pairs])

    def pairs(self) -> list[Pair]:
        return self._pairs

    def provenance(self) -> dict[str, Any]:
        return {"source": "given"}


class Tiny(AnswerTask):
    """A task on given pairs."""

    name = "tiny"
    Config = AnswerConfig
    presets = {"tiny": PRESET}  # noqa: RUF012
    source: PairSource

    def open_source(self) -> PairSource:
        return self.source


Make = Callable[..., Tiny]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def made(pairs: Sequence[Pair], *, target: dict[str, float] | None = None, **settings: object) -> Tiny:
        small = {"context": 24, "width": 16, "layers": 1, "heads": 2, "embedder": "tfidf"}
        task = Tiny(Tiny.configure(PRESET, {**small, **settings}), PRESET, tmp_path / "cache")
        task.source = Given(pairs, target)
        return task

    return made


def pair(domain: str, prompt: str, answer: str, split: str = "", origin: str = "") -> Pair:
    return Pair(domain=domain, origin=origin or f"{domain} {prompt}", prompt=prompt, answer=answer, split=split)


def words(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return ["".join(rng.choices("abcd", k=rng.randint(2, 6))) for _ in range(count)]


def skills() -> list[Pair]:
    """Two domains: how many times an ``a`` is there, and the word backwards."""
    found = {word: (str(word.count("a")), word[::-1]) for word in words(700)}
    return [
        each
        for word, (count, back) in found.items()
        for each in (pair("count", f"a in {word}", count), pair("reverse", f"turn {word}", back))
    ]


# Rows of tokens

A = np.array([11, 12, 13])


@pytest.mark.parametrize(
    ("prompt", "context", "row", "start", "whole", "uncut"),
    [
        ([1, 2, 3, 9], 12, [1, 2, 3, 9, 11, 12, 13, 0], 4, True, True),
        ([1, 2, 3, 9], 7, [1, 2, 3, 9, 11, 12, 13, 0], 4, True, True),  # the last target needs no room in the input
        ([1, 2, 3, 9], 5, [3, 9, 11, 12, 13, 0], 2, False, True),
        ([1, 2, 3, 9], 4, [9, 11, 12, 13, 0], 1, False, True),
        ([1, 2, 3, 9], 3, [9, 11, 12, 13], 1, False, False),
        ([1, 2, 3, 9], 2, [9, 11, 12], 1, False, False),
        ([9], 12, [9, 11, 12, 13, 0], 1, True, True),
    ],
)
def test_layout(prompt: list[int], context: int, row: list[int], start: int, whole: bool, uncut: bool) -> None:
    made = layout(np.array(prompt), A, 0, context, 1)
    assert (made[0].tolist(), *made[1:]) == (row, start, whole, uncut)


def test_rows_spell_prompt_answer_and_end(make: Make) -> None:
    task = make(skills())
    corpus = task.load()
    assert corpus.domains == ("count", "reverse")
    end = task.vocabulary().end
    for split in SPLITS:
        rows = corpus.examples[split]
        assert rows.tokens.shape == (len(corpus.labels[split]), 25)
        assert corpus.units[split].tolist() == rows.ends.tolist()
        for index in range(0, len(rows.starts), 7):
            line, start, stop = rows.tokens[index], rows.starts[index], rows.ends[index]
            assert (line[stop - 1 :] == end).all()
            prompt, answer = (task.vocabulary().decode(part[None])[0] for part in (line[:start], line[start:stop]))
            word = prompt.split()[-1]
            if corpus.labels[split][index] == 0:
                assert (prompt, answer) == (f"a in {word}\n", str(word.count("a")))
            else:
                assert (prompt, answer) == (f"turn {word}\n", word[::-1])
            if split != "train":
                assert (rows.pairs[index].prompt + "\n", rows.pairs[index].answer) == (prompt, answer)


def test_long_pairs_are_shortened_and_counted(make: Make) -> None:
    pairs = [pair("d", f"{n:02d} {'x' * 30} end", "yes") for n in range(20)]
    pairs += [pair("d", f"{n:02d}", "z" * 40) for n in range(20, 40)]
    task = make(pairs)
    corpus = task.load()
    assert corpus.provenance["prompts_shortened"] == 40
    assert corpus.provenance["answers_cut"] == 20
    texts = set(task.vocabulary().decode(corpus.examples["train"].tokens))
    assert texts == {f"{'x' * 16} end\nyes", "\n" + "z" * 24}
    rows = corpus.examples["train"]
    assert (rows.ends == 25).all()
    ended = rows.tokens[:, -1] == task.vocabulary().end
    assert ended.tolist() == [text.endswith("yes") for text in task.vocabulary().decode(rows.tokens)]


# Splits


def test_open_splits_are_drawn_by_origin_and_never_share_a_prompt(make: Make) -> None:
    corpus = make(skills()).load()
    prompts = {
        split: {pairs_rows.normalised(each.prompt) for each in separate(assign(skills()))[0][split]} for split in SPLITS
    }
    assert not prompts["train"] & prompts["test"]
    assert not prompts["train"] & prompts["validation"]
    assert not prompts["validation"] & prompts["test"]
    sizes = corpus.provenance["pairs"]
    assert sizes["test"] / sum(sizes.values()) == pytest.approx(0.1, abs=0.03)
    assert corpus.target_shares == pytest.approx(corpus.train_shares)


def test_pairs_of_one_origin_share_a_split() -> None:
    pairs = [pair("d", f"{n}", "x", origin=str(n // 4)) for n in range(400)]
    splits = assign(pairs)
    for first in range(0, 400, 4):
        assert len({each.split for each in splits[first : first + 4]}) == 1


def test_given_splits_are_kept_and_a_missing_one_is_carved_from_training() -> None:
    pairs = [pair("d", f"{n}", "x", "train") for n in range(100)] + [pair("d", f"t{n}", "x", "test") for n in range(30)]
    pairs += [pair("far", f"f{n}", "x", "test") for n in range(10)] + [pair("near", "n", "x", "train")]
    splits = assign(pairs)
    count = {
        (domain, split): sum((each.domain, each.split) == (domain, split) for each in splits)
        for domain in ("d", "far", "near")
        for split in SPLITS
    }
    assert (count["d", "train"], count["d", "validation"]) == (90, 10)
    assert count["d", "test"] == 30
    assert (count["far", "validation"], count["far", "test"]) == (5, 5)  # no training pairs: a target only
    assert (count["near", "train"], count["near", "validation"], count["near", "test"]) == (1, 0, 0)
    assert splits == assign(pairs)


def test_prompts_that_are_asked_later_are_not_learnt() -> None:
    pairs = [
        pair("d", "one  two\n", "x", "train"),
        pair("d", "one two", "y", "test"),
        pair("d", "three", "x", "train"),
        pair("e", "three", "x", "validation"),
        pair("d", "one\ttwo", "z", "validation"),
        pair("d", "four", "x", "train"),
        pair("d", "four", "x", "train"),
    ]
    splits, removed = separate(pairs)
    assert [each.prompt for each in splits["train"]] == ["four", "four"]
    assert [each.prompt for each in splits["validation"]] == ["three"]
    assert [each.prompt for each in splits["test"]] == ["one two"]
    assert removed == {"validation": 1, "train": 2}


def three_sides() -> list[Pair]:
    """``both`` in all splits, ``far`` in test only, ``near`` in training only; test is 3 : 1."""
    found = [pair("both", f"b{n}", "x", split) for split in SPLITS for n in range(9) if (n % 3) == SPLITS.index(split)]
    found = [pair(each.domain, f"{each.split} {each.prompt}", "x", each.split) for each in found]
    found += [pair("far", "f", "x", "test"), pair("near", "n", "x", "train")]
    return found


def test_domains_may_be_only_target_or_only_source(make: Make) -> None:
    corpus = make(three_sides()).load()
    assert corpus.domains == ("both", "far", "near")
    assert corpus.train_shares == pytest.approx([0.75, 0, 0.25])
    assert corpus.target_shares == pytest.approx([0.75, 0.25, 0])


def test_caps_do_not_move_the_target(make: Make) -> None:
    corpus = make(three_sides(), test_examples=1).load()
    assert np.bincount(corpus.labels["test"], minlength=3).tolist() == [1, 1, 0]
    assert corpus.target_shares == pytest.approx([0.75, 0.25, 0])


def test_target_is_the_users_then_the_sources(make: Make) -> None:
    assert make(three_sides(), target={"far": 1.0}).load().target_shares.tolist() == [0, 1, 0]
    both = make(three_sides(), target={"far": 1.0}).config
    assert both.target == {}
    task = make(three_sides(), target={"far": 1.0})
    chosen = Tiny(Tiny.configure(PRESET, {"target": {"both": 1.0}, "context": 24}), PRESET, task.cache)
    chosen.source = task.source
    assert chosen.load().target_shares.tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"nowhere": 1.0}, "unknown domain 'nowhere'"),
        ({"near": 1.0}, "'near' has no test pairs"),
        ({"both": 0.5}, "sum to 0.5"),
        ({"both": 1.5, "far": -0.5}, "non-negative"),
    ],
)
def test_bad_targets_are_errors_of_one_line(make: Make, target: dict[str, float], message: str) -> None:
    with pytest.raises(TaskError, match=message) as caught:
        make(three_sides(), target=target).load()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([], "holds no pairs"),
        ([pair("d", "p", "a", "dev")], "unknown split 'dev'"),
        ([pair("d", "p", "a", "test")], "no training pairs"),
        ([pair("d", "p", "a", "train"), pair("d", "p", "a", "test")], "no pairs are left in the validation"),
        ([pair("d", "p", "a"), pair("d", "q", "a")], "at least three"),
    ],
)
def test_bad_sources_are_errors_of_one_line(make: Make, pairs: list[Pair], message: str) -> None:
    with pytest.raises(TaskError, match=message) as caught:
        make(pairs).load()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"context": 4}, "context=4"),
        ({"vocabulary": 100}, "vocabulary=100"),
        ({"test_examples": 0}, "test_examples=0"),
        ({"widht": 3}, "did you mean 'width'"),
    ],
)
def test_bad_settings(settings: dict[str, object], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        Tiny.configure(PRESET, settings)


# Identity


def test_the_cache_answers_and_the_fingerprint_follows_contents(make: Make) -> None:
    pairs = skills()
    first, again = make(pairs).load(), make(pairs)
    again.source.pairs = lambda: pytest.fail("read again")  # type: ignore[method-assign]
    assert again.load().fingerprint == first.fingerprint
    changed = [*pairs[:-1], pair("reverse", pairs[-1].prompt, "other")]
    prints = {
        first.fingerprint,
        make(changed).load().fingerprint,
        make(pairs, context=25).load().fingerprint,
        make(pairs, vocabulary=300).load().fingerprint,
        make(pairs, target={"count": 1.0}).load().fingerprint,
        make(pairs, test_examples=20).load().fingerprint,
    }
    assert len(prints) == 6


def test_a_damaged_tokenizer_is_an_error(make: Make) -> None:
    task = make(skills())
    task.prepared().tokenizer.write_text("{}")
    with pytest.raises(TaskError, match="damaged; delete it"):
        task.vocabulary()


# Loss


def test_mask_covers_the_answer_and_its_end() -> None:
    batch = {
        "tokens": torch.zeros(3, 9, dtype=torch.long),
        "start": torch.tensor([3, 1, 5]),
        "end": torch.tensor([6, 9, 7]),
    }
    assert answer_mask(batch).tolist() == [
        [0, 0, 1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 1, 1, 1, 1],
        [0, 0, 0, 0, 1, 1, 0, 0],
    ]


def test_loss_is_the_mean_over_the_answers_tokens(make: Make) -> None:
    task = make(skills())
    corpus = task.load()
    model = task.build_model(0)
    batch = task.batch(corpus, "train", np.array([0, 300, 5]))
    losses = task.loss(model, batch)
    assert losses.per_unit.shape == losses.mask.shape == (3, 24)
    for row in range(3):
        start, end = int(batch["start"][row]), int(batch["end"][row])
        line = batch["tokens"][row, :end]  # without padding
        logp = F.log_softmax(model(input_ids=line[None, :-1]).logits[0].float(), dim=-1)
        by_hand = [-logp[place - 1, line[place]].item() for place in range(start, end)]
        assert losses.per_example[row].item() == pytest.approx(np.mean(by_hand), rel=1e-4)
        counted = losses.per_unit[row][losses.mask[row] > 0]
        assert counted.tolist() == pytest.approx(by_hand, rel=1e-4)


def test_padding_changes_nothing(make: Make) -> None:
    task = make(skills())
    corpus = task.load()
    model = task.build_model(0)
    batch = task.batch(corpus, "train", np.arange(4))
    before = task.loss(model, batch).per_example
    for row in range(4):
        batch["tokens"][row, batch["end"][row] :] = 70
    assert torch.allclose(task.loss(model, batch).per_example, before, atol=1e-6)


# Judgement


def half_trained(task: Tiny, steps: int = 150) -> nn.Module:
    corpus = task.load()
    model = task.build_model(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    rng = np.random.default_rng(0)
    for _ in range(steps):
        batch = task.batch(corpus, "train", rng.integers(0, len(corpus.labels["train"]), 32))
        task.loss(model, batch).per_example.mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def slow_greedy(model: nn.Module, prompt: Sequence[int], end: int, limit: int) -> list[int]:
    """One prompt, one token at a time, no cache, no padding."""
    line = [int(token) for token in prompt]
    while len(line) - len(prompt) < limit:
        with torch.no_grad():
            best = int(model(input_ids=torch.tensor([line])).logits[0, -1].argmax())
        line.append(best)
        if best == end:
            break
    return line[len(prompt) :]


def test_exact_match_is_what_greedy_decoding_writes(make: Make) -> None:
    task = make(skills(), width=32, layers=2)
    model = half_trained(task)
    corpus = task.load()
    rows = corpus.examples["test"]
    scores = task.evaluate(model, corpus, "test", device=CPU, dtype=torch.float32)
    assert model.training
    matches = scores.sums["exact_match"][0]
    end = task.vocabulary().end
    prompts = [rows.tokens[index, : rows.starts[index]].astype(np.int64) for index in range(len(matches))]
    batched = greedy(model, prompts, end=end, limit=8, context=24, device=CPU)
    model.eval()
    for index, prompt in enumerate(prompts):
        written = slow_greedy(model, prompt.tolist(), end, limit=8)
        expected = rows.tokens[index, rows.starts[index] : rows.ends[index]].tolist()
        assert (written == expected) == bool(matches[index])
        assert batched[index].tolist() == (written[:-1] if written[-1] == end else written)
    assert 10 < matches.sum() < len(matches) - 10  # both verdicts occur
    by_domain = scores.by_domain("exact_match", 2)
    assert 0.5 < by_domain[0] <= 1.0


def test_generation_stops_at_its_limit_and_at_the_context(make: Make) -> None:
    task = make(skills())
    task.load()
    model = task.build_model(0)
    end = task.vocabulary().end
    model.lm_head.register_forward_hook(lambda module, inputs, logits: logits.index_fill(-1, torch.tensor([end]), -1e9))
    prompts = [np.array([5, 6, 7]), np.arange(1, 24)]
    answers = greedy(model, prompts, end=end, limit=6, context=24, device=CPU)
    assert [len(answer) for answer in answers] == [6, 2]
    assert greedy(model, [], end=0, limit=6, context=24, device=CPU) == []


def test_scores_agree_with_the_loss_and_with_a_count_by_hand(make: Make) -> None:
    task = make(skills())
    corpus = task.load()
    model = task.build_model(0)
    scores = task.evaluate(model, corpus, "validation", device=CPU, dtype=torch.float32)
    everything = task.batch(corpus, "validation", np.arange(len(corpus.labels["validation"])))
    losses = task.loss(model, everything)
    nats, count = scores.sums["loss"]
    assert nats == pytest.approx((losses.per_unit * losses.mask).sum(1).tolist(), rel=1e-4)
    assert count.tolist() == (everything["end"] - everything["start"]).tolist()
    best = model(input_ids=everything["tokens"][:, :-1]).logits.argmax(-1)
    right = ((best == everything["tokens"][:, 1:]) * losses.mask).sum(1)
    assert scores.sums["accuracy"][0].tolist() == right.tolist()
    assert scores.domains is corpus.labels["validation"]


def test_scores_do_not_depend_on_how_examples_are_batched(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    task = make(skills())
    corpus = task.load()
    model = task.build_model(0)
    whole = task.evaluate(model, corpus, "test", device=CPU, dtype=torch.float32)
    monkeypatch.setattr("tasks.language.answers._EVALUATION_LOGITS", 3 * 257 * 20)
    small = task.evaluate(model, corpus, "test", device=CPU, dtype=torch.float32)
    for name, (top, _) in whole.sums.items():
        assert small.sums[name][0] == pytest.approx(top, rel=1e-4)


def test_baseline_is_the_most_frequent_training_answer(make: Make) -> None:
    pairs = [pair("d", f"p{n}", "no" if n % 3 else "yes", "train") for n in range(9)]
    pairs += [pair("d", f"v{n}", "no", "validation") for n in range(2)]
    pairs += [pair("d", "t1", "no", "test"), pair("d", "t2", "yes", "test"), pair("far", "t3", "no", "test")]
    task = make(pairs)
    corpus = task.load()
    scores = task.evaluate(task.build_model(0), corpus, "test", device=CPU, dtype=torch.float32)
    assert scores.by_domain("exact_match", 2, baseline=True).tolist() == [0.5, 1.0]
    assert favourites([pair("d", "p", "b"), pair("d", "q", "a"), pair("e", "r", "c")]) == {"d": "a", "e": "c"}


def test_embeddings_are_of_prompt_and_answer(make: Make) -> None:
    task = make(skills())
    corpus = task.load()
    made = task.embed(corpus, "train", "tfidf")
    assert made.vectors.shape[0] == len(corpus.labels["train"])
    assert task.embed(corpus, "train", "auto").cached
    with pytest.raises(TaskError, match="no split"):
        task.embed(corpus, "dev", "tfidf")


# What is needed


def test_requirements_ask_the_source_and_look_for_the_model(make: Make, tmp_path: Path) -> None:
    task = make(skills(), embedder="tfidf")
    assert list(task.requirements()) == []
    wanted = Requirement(what="data", found="", remedy="get it")
    task.source.requirements = lambda: [wanted]  # type: ignore[attr-defined]
    assert list(task.requirements()) == [wanted]

    def model(name: str) -> Requirement:
        return make(skills(), model=name).requirements()[-1]

    bare = model(str(tmp_path))
    assert bare.found == ""
    assert "a folder without weights" in bare.remedy
    (tmp_path / "model.safetensors").write_bytes(b"")
    absent, present = model("nobody/nothing-here"), model(str(tmp_path))
    assert (absent.found, present.found) == ("", str(tmp_path))
    assert "hf download nobody/nothing-here" in absent.remedy


def test_a_pretrained_model_reads_under_an_attention_mask(make: Make, tmp_path: Path) -> None:
    """A GPT-2 made on the spot, with its tokenizer: learnt positions, and the same loss as without padding."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    letters = {token: index for index, token in enumerate(["<end>", *pre_tokenizers.ByteLevel.alphabet()])}
    raw = Tokenizer(models.BPE(vocab=letters, merges=[]))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<end>").save_pretrained(tmp_path / "model")
    torch.manual_seed(0)
    GPT2LMHeadModel(
        GPT2Config(
            vocab_size=257, n_positions=24, n_embd=16, n_layer=1, n_head=2, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0
        )
    ).save_pretrained(tmp_path / "model")
    task = make(skills(), model=str(tmp_path / "model"))
    corpus = task.load()
    model = task.build_model(0)
    batch = task.batch(corpus, "train", np.arange(3))
    losses = task.loss(model, batch)
    start, end = int(batch["start"][0]), int(batch["end"][0])
    alone = model(input_ids=batch["tokens"][:1, : end - 1]).logits[0].float()
    by_hand = F.cross_entropy(alone[start - 1 :], batch["tokens"][0, start:end])
    assert losses.per_example[0].item() == pytest.approx(by_hand.item(), rel=1e-4)
    scores = task.evaluate(model, corpus, "test", device=CPU, dtype=torch.float32)
    assert np.isfinite(scores.sums["loss"][0]).all()
    answers = greedy(model, [np.arange(1, 20)], end=0, limit=9, context=24, device=CPU)
    assert len(answers[0]) <= 6
