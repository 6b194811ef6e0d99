from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.base import SPLITS, TaskError
from tasks.reasoning import Reasoning
from tasks.reasoning_settings import ReasoningConfig, open_source
from tasks.sources import reasoning_problems
from tasks.sources.gsm8k import Gsm8k
from tasks.sources.pairs import Pair
from tasks.sources.reasoning_problems import FINGERPRINTS, PIN, Problems
from tasks.sources.reasoning_skills import SKILLS, Skill
from tasks.sources.traces import Traces

from .conftest import write_jsonl
from .test_reasoning_sources import DATA, needs_gsm8k, write_gsm8k

CPU = torch.device("cpu")
EXCLUDED = {"boxnet", "graph_color", "propositional_logic", "rubiks_cube", "rush_hour"}


def library() -> str:
    try:
        return version("reasoning-gym")
    except PackageNotFoundError:
        return ""


needs_library = pytest.mark.skipif(not library(), reason="reasoning-gym of the demo extra is not installed")
needs_pin = pytest.mark.skipif(library() != PIN, reason=f"needs reasoning-gym {PIN}")

Make = Callable[..., Reasoning]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def made(preset: str = "nano", **settings: object) -> Reasoning:
        chosen = Reasoning.presets[preset]
        return Reasoning(Reasoning.configure(chosen, {"embedder": "tfidf", **settings}), chosen, tmp_path / "cache")

    return made


TINY = {"problems": 1000, "validation_examples": 5, "test_examples": 12, "width": 16, "layers": 1, "heads": 2}


def problems(level: str = "short", count: int = 1000) -> Problems:
    return Problems(problems=count, level=level, validation=10, test=20)


@pytest.fixture(scope="module")
def generated() -> list[Pair]:
    """A thousand problems and their tests; made once."""
    return problems().pairs()


# The skills


def test_shares_are_whole_and_skewed() -> None:
    assert sum(skill.share for skill in SKILLS) == pytest.approx(1)
    assert sum(skill.target for skill in SKILLS) == pytest.approx(1)
    assert len(SKILLS) >= 12
    assert len({skill.category for skill in SKILLS}) >= 5
    assert not EXCLUDED & {skill.generator for skill in SKILLS}
    assert sum(abs(skill.share - skill.target) for skill in SKILLS) > 0.5


@needs_library
def test_every_skill_has_reference_answers_that_its_verifier_takes(generated: list[Pair]) -> None:
    source = problems()
    for skill in SKILLS:
        mine = [pair for pair in generated if pair.domain == skill.domain]
        assert Counter(pair.split for pair in mine)["test"] == 20
        for pair in mine[:5]:
            assert pair.answer not in ("", "None")
            assert source.verify(pair, pair.answer) == 1.0
            assert source.verify(pair, "no idea") < 1.0
            assert source.verify(pair, "") < 1.0


@needs_library
def test_splits_share_no_problem_and_have_the_shares_that_the_skills_say() -> None:
    many = problems(count=1500).pairs()
    prompts = [(pair.domain, pair.prompt) for pair in many]
    assert len(set(prompts)) == len(prompts)
    assert many == problems(count=1500).pairs()
    counts = Counter(pair.domain for pair in many if pair.split == "train")
    assert {skill.domain: counts[skill.domain] / 1500 for skill in SKILLS} == pytest.approx(
        {skill.domain: skill.share for skill in SKILLS}, abs=1e-3
    )


@needs_library
def test_early_problems_of_a_generator_are_no_likelier_to_be_judged(generated: list[Pair]) -> None:
    """Frequent problems of a small space come early: taken in that order, test would be another kind than training."""
    for name in ("circuits", "siblings"):
        places = {
            split: [pair.about["index"] for pair in generated if (pair.domain, pair.split) == (name, split)]
            for split in ("train", "test")
        }
        assert min(places["train"]) < sorted(places["test"])[5]
        assert sorted(places["train"])[-5] < 3 * max(places["test"])


def skill(domain: str) -> Skill:
    return next(skill for skill in SKILLS if skill.domain == domain)


@needs_pin
@pytest.mark.parametrize(
    ("domain", "prompt", "answer"),
    [
        ("sums", "7-3-9=", "-5"),
        ("divisors", "gcd 81 12", "3"),
        ("equations", "7-4*x=-25", "8"),
        ("backward4", "backward Cris", "sirC"),
        ("backward6", "backward tabule", "elubat"),
        ("spirals", "spiral 15/65", "1 5 5 6"),
        ("mirrors", "mirror / 62/85", "5 2\n8 6"),
        ("pooling", "max 08/79", "9"),
        ("siblings", "59 brothers 42 sisters", "43"),
        ("circuits", "(1'x0)v(1x1')", "0"),
        ("courses", "03 14 10 24 43 31", "False"),
        ("islands", "land 0000/0000/0000/0000", "0"),
        ("sequences", "next -10 -10 -20 -30", "-50"),
    ],
)
def test_first_problem_of_every_skill(domain: str, prompt: str, answer: str) -> None:
    """Also by hand: 81 and 12 share 3; 7 - 4 * 8 = -25; of courses 3 and 4, through 1, none can be the first."""
    entry = reasoning_problems._generator(skill(domain), "short")[0]
    assert (skill(domain).restate(entry), entry["answer"]) == (prompt, answer)


@needs_library
@pytest.mark.parametrize("domain", [skill.domain for skill in SKILLS])
def test_harder_problems_can_be_made_and_verified(domain: str) -> None:
    entries = reasoning_problems._generator(skill(domain), "long")
    for index in range(5):
        assert skill(domain).restate(entries[index])
        assert entries.score_answer(entries[index]["answer"], entries[index]) == 1.0


@needs_library
def test_a_skill_that_runs_out_says_so() -> None:
    settings = {**skill("sums").short, "min_terms": 2, "max_terms": 2}
    few = replace(skill("sums"), short=settings, share=0.3)  # two digits and a sign make 200 problems
    with pytest.raises(TaskError, match="sums knows only 200 different problems, 302 are wanted") as caught:
        list(Problems(problems=1000, level="short", validation=1, test=1)._of(few))
    assert "\n" not in str(caught.value)


def test_a_missing_library_is_told_and_required(monkeypatch: pytest.MonkeyPatch, make: Make) -> None:
    monkeypatch.setattr(reasoning_problems, "_installed", lambda: "")
    with pytest.raises(TaskError, match=r"needs? reasoning-gym.*pip install"):
        problems().pairs()
    with pytest.raises(TaskError, match=r"reasoning-gym.*pip install"):
        problems().identity()
    (asked,) = make().requirements()
    assert (asked.found, asked.what) == ("", f"reasoning-gym {PIN}")
    assert "pip install" in asked.remedy


@needs_library
def test_a_library_of_another_make_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = replace(skill("sums"), generator="no_such")
    with pytest.raises(TaskError, match=r"does not make no_such as") as caught:
        list(problems()._of(changed))
    assert "\n" not in str(caught.value)


@needs_library
def test_verifiers_never_raise_and_leave_random_numbers_alone(generated: list[Pair]) -> None:
    source = problems()
    np.random.seed(0)  # noqa: NPY002
    first = np.random.rand()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    for pair in {pair.domain: pair for pair in generated}.values():
        for text in ("", " ", "\x00", "[[[", "1/0", "9" * 5000, "∞", "nan", "-", "\n\n"):
            assert 0.0 <= source.verify(pair, text) < 1.0
    assert np.random.rand() == first  # noqa: NPY002


# The task


@needs_library
def test_corpus(make: Make) -> None:
    task = make(**TINY)
    corpus = task.load()
    assert corpus.domains == tuple(sorted(skill.domain for skill in SKILLS))
    assert dict(zip(corpus.domains, corpus.train_shares, strict=True)) == pytest.approx(
        {skill.domain: skill.share for skill in SKILLS}, abs=2e-3
    )
    assert dict(zip(corpus.domains, corpus.target_shares, strict=True)) == pytest.approx(
        {skill.domain: skill.target for skill in SKILLS}
    )
    assert corpus.provenance["prompts_shortened"] == corpus.provenance["answers_cut"] == 0
    assert corpus.provenance["duplicates_removed"] == {"train": 0, "validation": 0}
    assert corpus.expected_fingerprint is None
    for split in SPLITS:
        assert corpus.examples[split].tokens.shape[1] == 30


@needs_library
def test_verified_agrees_with_the_library_on_a_sample_that_is_fixed(make: Make) -> None:
    task = make(**TINY, verified_examples=3)
    corpus = task.load()
    model = task.build_model(0)
    scores = task.evaluate(model, corpus, "test", device=CPU, dtype=torch.float32)
    top, bottom = scores.sums["verified"]
    assert np.bincount(corpus.labels["test"], weights=bottom).tolist() == [3.0] * len(SKILLS)
    assert np.flatnonzero(bottom).tolist() == task.sample(corpus.labels["test"], len(SKILLS)).tolist()
    assert top[bottom == 0].max() == 0
    assert np.isfinite(scores.by_domain("verified", len(SKILLS))).all()
    assert not scores.sums["exact_match"][0].any()  # untrained
    on_validation = task.evaluate(model, corpus, "validation", device=CPU, dtype=torch.float32)
    assert on_validation.sums["verified"][1].sum() == 0
    baseline = scores.by_domain("exact_match", len(SKILLS), baseline=True)
    rows, pairs = corpus.examples["test"], task.open_source().pairs()
    for index, domain in enumerate(corpus.domains):
        train = [pair for pair in pairs if (pair.split, pair.domain) == ("train", domain)]
        best = Counter(pair.answer for pair in train).most_common(1)[0][1]
        common = {a for a, c in Counter(pair.answer for pair in train).items() if c == best}
        mine = [pair.answer for pair in rows.pairs if pair.domain == domain]
        assert baseline[index] == pytest.approx(mine.count(min(common)) / len(mine))


@needs_library
def test_an_answer_that_matches_is_verified(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    task = make(**TINY)
    corpus = task.load()
    rows = corpus.examples["test"]
    sample = task.sample(corpus.labels["test"], len(SKILLS))
    written = [rows.tokens[index, rows.starts[index] : rows.ends[index] - 1].astype(np.int64) for index in sample]
    monkeypatch.setattr("tasks.reasoning.greedy", lambda *args, **more: written)
    scores = task.evaluate(task.build_model(0), corpus, "test", device=CPU, dtype=torch.float32)
    assert scores.by_domain("verified", len(SKILLS)).tolist() == [1.0] * len(SKILLS)


@needs_pin
@pytest.mark.slow
@pytest.mark.parametrize("preset", ["demo", "nano", "small"])
def test_published_fingerprints(make: Make, preset: str) -> None:
    corpus = make(preset).load()
    assert corpus.fingerprint == corpus.expected_fingerprint == FINGERPRINTS[preset]


@needs_library
def test_changed_data_are_not_the_published_ones(make: Make) -> None:
    assert make("nano").published() == FINGERPRINTS.get("nano")
    assert make("nano", width=32, verified_examples=2).published() == FINGERPRINTS.get("nano")
    for changed in ({"problems": 9000}, {"level": "long"}, {"context": 40}, {"target": {"sums": 1.0}}, {"path": "x"}):
        assert make("nano", **changed).published() is None


# Data of one's own


def config(**settings: object) -> ReasoningConfig:
    made = Reasoning.configure(Reasoning.presets["nano"], settings)
    assert isinstance(made, ReasoningConfig)
    return made


def test_the_source_follows_path_and_format(tmp_path: Path) -> None:
    root = write_gsm8k(tmp_path / "gsm8k")
    traces = write_jsonl(tmp_path / "t.jsonl", [{"question": "q", "answer": "a", "domain": "d"}])
    assert isinstance(open_source(config()), Problems)
    assert isinstance(open_source(config(path=str(root))), Gsm8k)
    assert isinstance(open_source(config(path=str(root / "test.jsonl.gz"))), Gsm8k)
    assert isinstance(open_source(config(path=str(traces))), Traces)
    assert isinstance(open_source(config(path=str(traces), format="gsm8k")), Gsm8k)
    assert isinstance(open_source(config(path=str(root / "train.jsonl"), format="traces")), Traces)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": "/nowhere"}, "no such file or folder"),
        ({"path": __file__}, "expected a folder or a file ending in"),
        ({"format": "gsm8k"}, "format=gsm8k needs path"),
        ({"format": "csv"}, "format='csv'"),
        ({"problems": 10}, "problems=10"),
        ({"verified_examples": 0}, "verified_examples=0"),
        ({"context": 0}, "context=0"),
    ],
)
def test_bad_settings_are_errors_of_one_line(settings: dict[str, object], message: str) -> None:
    with pytest.raises(TaskError, match=message) as caught:
        open_source(config(**settings))
    assert "\n" not in str(caught.value)


def test_gsm8k_is_a_corpus_of_steps(tmp_path: Path, make: Make) -> None:
    root = write_gsm8k(tmp_path / "gsm8k")
    task = make(path=str(root), context=96, width=16, layers=1, heads=2, verified_examples=2)
    corpus = task.load()
    assert corpus.domains == ("2 steps", "3 steps", "4 steps", "5 steps", "6 steps")
    assert corpus.target_shares.tolist() == [0, 1, 0, 0, 0]  # the test file holds nothing else
    assert set(corpus.labels["validation"]) == set(range(5))
    scores = task.evaluate(task.build_model(0), corpus, "test", device=CPU, dtype=torch.float32)
    assert scores.sums["verified"][1].sum() == 2


def trial(arguments: list[str], out: Path) -> dict[str, object]:
    """The row of one trial that the harness ran."""
    from click.testing import CliRunner

    from harness.cli import main

    done = CliRunner().invoke(main, ["run", *arguments, "--no-timing", "--workers", "1", "--out", str(out)])
    assert done.exit_code == 0, done.output
    (row,) = [json.loads(path.read_text()) for path in (out / "rows").glob("*.json")]
    return dict(row)


@pytest.mark.slow
@needs_gsm8k
def test_gsm8k_fits_the_context_that_it_gets(make: Make) -> None:
    corpus = make(path=str(DATA), width=16, layers=1, heads=2).load()
    pairs = sum(corpus.provenance["pairs"].values())
    assert corpus.provenance["answers_cut"] < 0.02 * pairs
    assert corpus.provenance["prompts_shortened"] < 0.05 * pairs


@pytest.mark.slow
@needs_gsm8k
def test_a_trial_on_real_gsm8k(tmp_path: Path) -> None:
    settings = "vocabulary=1024,context=256,width=32,layers=1,heads=2,test_examples=8,verified_examples=2"
    task = f"reasoning[path={DATA},{settings}]"
    row = trial(["--tasks", task, "--preset", "demo", "--mixers", "natural", "--seeds", "1"], tmp_path / "out")
    assert row["status"] == "ok", row
    metrics = row["metrics"]
    assert isinstance(metrics, dict)
    assert sorted(metrics["loss"]["by_domain"]) == ["2 steps", "3 steps", "4 steps", "5 steps", "6 steps"]
    assert 0 <= metrics["verified"]["target"] <= 1
    assert metrics["loss"]["target"] < np.log(1024)
