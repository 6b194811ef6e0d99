"""The domain that a model wrote: what is trained on, what is kept, what it costs, and what it leaves alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.experiment import plain
from tasks.base import TaskError
from tasks.language import decoder, synthetic
from tasks.language.synthetic import Synthetic, Writer
from tasks.sources.folder import Folder
from tasks.text import Text
from tasks.text_settings import TextConfig

from .conftest import sentences

Make = Callable[..., Text]
SMALL = {
    "steps": 30,
    "parallel": 8,
    "vocabulary": 300,
    "width": 16,
    "layers": 1,
    "heads": 2,
    "pieces": 2,
    "context": 64,
}


@pytest.fixture
def small_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text task's writer, small enough for tests; steps and temperature stay the task's to set."""
    shape = {name: value for name, value in SMALL.items() if name != "steps"}
    monkeypatch.setattr("tasks.text.Writer", partial(Writer, **shape))


def source(folder: Path, cache: Path, share: float = 0.25, **changes: object) -> Synthetic:
    return Synthetic(Folder(folder), share, Writer(**{**SMALL, **changes}), cache)  # type: ignore[arg-type]


def test_natural_text_comes_first_and_as_it_was(folder: Path, tmp_path: Path) -> None:
    natural, both = Folder(folder).documents(), source(folder, tmp_path)
    documents = both.documents()
    assert documents[: len(natural)] == natural
    written = documents[len(natural) :]
    assert {document.domain for document in written} == {"synthetic"}
    splits = both.split(documents)
    assert {origin: split for origin, split in splits.items() if not origin.startswith("synthetic/")} == Folder(
        folder
    ).split(natural)
    own = [splits[document.origin] for document in written]
    assert own.count("validation") == -(-len(written) // 10)
    assert own.count("train") == len(written) - own.count("validation")


def test_as_much_as_was_asked_for_is_written(folder: Path, tmp_path: Path) -> None:
    natural = Folder(folder)
    splits = natural.split(natural.documents())
    size = sum(len(d.text.encode()) for d in natural.documents() if splits[d.origin] == "train")
    for share in (0.1, 0.3):
        made = source(folder, tmp_path, share)
        written = [d.text for d in made.documents() if d.domain == "synthetic"]
        total = sum(len(text.encode()) for text in written)
        assert share * size <= total < share * size + len(written[-1].encode()) + 1
        assert made.provenance()["synthetic"]["bytes"] == total


def test_the_writer_learns_from_training_text_only(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def listen(texts: list[str], size: float, writer: Writer) -> tuple[list[str], float]:
        seen.extend(texts)
        return ["one", "two"], 1.0

    monkeypatch.setattr(synthetic, "write", listen)
    natural = Folder(folder)
    splits = natural.split(natural.documents())
    source(folder, tmp_path).documents()
    assert sorted(seen) == sorted(d.text for d in natural.documents() if splits[d.origin] == "train")


def test_writing_repeats_itself_and_follows_its_settings(folder: Path) -> None:
    texts = [document.text for document in Folder(folder).documents()]
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = synthetic.write(texts, 2000, Writer(**SMALL))  # type: ignore[arg-type]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert synthetic.write(texts, 2000, Writer(**SMALL)) == first  # type: ignore[arg-type]
    for changes in ({"temperature": 0.5}, {"seed": 1}, {"steps": 31}):
        assert synthetic.write(texts, 2000, Writer(**{**SMALL, **changes})) != first  # type: ignore[arg-type]


def test_training_makes_the_text_likelier() -> None:
    texts = [sentences("sea", number, 40) for number in range(30)]
    words = {word.strip(".") for text in texts for word in text.split()}

    def known(steps: int) -> float:
        written, _ = synthetic.write(texts, 3000, Writer(**{**SMALL, "steps": steps}))  # type: ignore[arg-type]
        found = [word.strip(".") for text in written for word in text.split()]
        return float(np.mean([word in words for word in found]))

    assert known(150) > known(1) + 0.2


def test_flops_by_the_rule(folder: Path) -> None:
    texts = [document.text for document in Folder(folder).documents()]
    writer = Writer(**SMALL)  # type: ignore[arg-type]
    _, flops = synthetic.write(texts, 1.0, writer)
    # 4 squares of attention, 3 matrices of 16 x 64 (8/3 of 16, in steps of 32) and the output layer.
    weights = 4 * 16 * 16 + 3 * 16 * 64 + 16 * 300
    assert flops == weights * (6 * 30 * 8 * 64 + 2 * 2 * 8 * 64)


def test_sampling_leaves_prompts_out_and_never_exceeds_the_context() -> None:
    model = decoder.build(vocabulary=300, context=64, width=16, layers=1, heads=2, end=0, seed=0).eval()
    prompts = torch.full((3, 16), 7)
    writer = Writer(**SMALL)  # type: ignore[arg-type]
    tokens = synthetic.sample(model, prompts, writer, torch.Generator().manual_seed(0))
    assert tokens.shape == (3, 2 * (64 - 16))
    with torch.no_grad():
        logits = model(input_ids=torch.cat([prompts, torch.from_numpy(tokens[:, :48])], dim=1)).logits
    cold = synthetic.sample(model, prompts, Writer(**{**SMALL, "temperature": 1e-4}), torch.Generator())  # type: ignore[arg-type]
    assert np.array_equal(cold[:, 0], logits[:, 15].argmax(-1).numpy()), "nearly greedy"


@pytest.mark.usefixtures("small_writer")
def test_the_text_task_has_the_domain_in_training_and_validation(folder: Path, make_text: Make) -> None:
    settings = {"synthetic": 0.5, "synthetic_steps": 5}
    plainly, corpus = make_text(folder).load(), make_text(folder, **settings).load()
    assert corpus.domains == ("law", "sea", "synthetic")
    counts = {split: np.bincount(corpus.labels[split], minlength=3) for split in corpus.labels}
    assert counts["train"][2] > 0
    assert counts["validation"][2] > 0
    assert counts["test"][2] == 0
    assert corpus.target_shares[2] == 0.0
    natural = counts["train"][:2] / counts["train"][:2].sum()
    assert corpus.target_shares[:2] == pytest.approx(natural)
    about = corpus.provenance["synthetic"]
    assert about["flops_per_example"] == about["flops"] / counts["train"][2]
    assert corpus.expected_fingerprint is None
    assert corpus.fingerprint != plainly.fingerprint
    assert make_text(folder, **settings, target={"sea": 1.0}).load().target_shares.tolist() == [0.0, 1.0, 0.0]


@pytest.mark.usefixtures("small_writer")
def test_what_was_written_is_kept(folder: Path, make_text: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_text(folder, synthetic=0.5, synthetic_steps=5)
    first = task.load()

    def again(*_: object) -> None:
        raise AssertionError("written twice")

    monkeypatch.setattr(synthetic, "write", again)
    # Another tokenizer makes other windows of the same text.
    other = make_text(folder, synthetic=0.5, synthetic_steps=5, vocabulary=280).load()
    assert other.provenance["synthetic"]["bytes"] == first.provenance["synthetic"]["bytes"]
    with pytest.raises(AssertionError, match="written twice"):
        make_text(folder, synthetic=0.5, synthetic_steps=6).load()


def test_without_it_a_trial_and_its_data_are_what_they_were(folder: Path, make_text: Make, tmp_path: Path) -> None:
    stored = plain(TextConfig())
    assert not [name for name in stored if name.startswith("synthetic")]
    assert plain(TextConfig(synthetic=0.1))["synthetic"] == 0.1
    for preset in Text.presets.values():
        config = Text.configure(preset, {})
        assert not [name for name in plain(config) if name.startswith("synthetic")]
    corpus = make_text(folder).load()
    assert "synthetic" not in corpus.provenance
    assert not list((tmp_path / "cache" / "text").glob("*.written.npz"))
    json.dumps(dict(corpus.provenance))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"synthetic": -0.1}, "synthetic=-0.1 must be finite and at least 0"),
        ({"synthetic": 0.1, "synthetic_steps": 0}, "synthetic_steps=0 must be at least 1"),
        ({"synthetic_temperature": 0.0}, "synthetic_temperature=0.0 must be finite and at least 0.001"),
        ({"synthetic_temperature": 1e-40}, "synthetic_temperature=1e-40 must be finite and at least 0.001"),
        ({"synthetic": 0.1, "target": {"synthetic": 1.0}}, "target names 'synthetic', which has no text for testing"),
    ],
)
def test_bad_settings_are_one_line(folder: Path, make_text: Make, settings: dict[str, object], message: str) -> None:
    def attempt() -> None:
        make_text(folder, **settings).load()

    with pytest.raises(TaskError, match=message) as caught:
        attempt()
    assert "\n" not in str(caught.value)


def test_a_corpus_with_a_domain_of_that_name_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "sea").rename(folder / "synthetic")
    with pytest.raises(TaskError, match="have a domain 'synthetic' of their own"):
        source(folder, tmp_path).documents()


def test_a_model_that_samples_blanks_ends_in_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its text never adds up to what was asked for: the trial would wait for ever."""
    asked: list[int] = []

    def blanks(model: object, prompts: torch.Tensor, *_: object) -> np.ndarray:
        asked.append(len(prompts))
        assert len(asked) < 5, "it goes on and on"
        return np.zeros((len(prompts), 96), dtype=np.int64)  # the end token

    monkeypatch.setattr(synthetic, "sample", blanks)
    texts = [document.text for document in Folder(folder).documents()]
    with pytest.raises(TaskError, match="nothing but blanks; raise synthetic_temperature"):
        synthetic.write(texts, 100.0, Writer(**{**SMALL, "steps": 1}))  # type: ignore[arg-type]
