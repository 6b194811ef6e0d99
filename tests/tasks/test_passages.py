from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path

import pytest

from tasks.sources.natural_instructions import NaturalInstructions
from tasks.sources.passages import passages

from .test_instruct_sources import phrase

SAMPLE = Path(__file__).parents[2].parent / "shared" / "data" / "natural_instructions_v1"


def test_questions_about_one_passage_belong_together() -> None:
    first, second = (f"Passage: {phrase(seed, 12)}. Question: " for seed in (1, 2))
    (keys,) = passages([[f"{first}why?", f"{first}since when?", f"{second}why?"]])
    assert keys[0] == keys[1] != keys[2]


def test_a_question_longer_than_the_passage_does_not_hide_it() -> None:
    texts = [f"{phrase(1, 9)}. {phrase(seed, 20)}?" for seed in (5, 6, 7)]
    (keys,) = passages([[*texts, f"{phrase(2, 9)}. {phrase(8, 20)}?"]])
    assert len(set(keys[:3])) == 1
    assert keys[3] != keys[0]


def test_passages_are_linked_across_tasks_and_by_chains() -> None:
    one, two, three = (phrase(seed, 10) for seed in (1, 2, 3))
    first, second = passages([[f"{one}. Why?", f"{three}. Why?"], [f"{two}.\n{one}.", f"{two}. When?"]])
    assert first[0] == second[0] == second[1] != first[1]


def test_what_a_tasks_inputs_have_in_common_says_nothing_about_their_passage() -> None:
    form = "Is the sentence above one that you would say to a friend in the street?"
    (keys,) = passages([[f"{phrase(seed, 9)}. {form}" for seed in range(40)]])
    assert len(set(keys)) == 40
    (keys,) = passages([[f"{phrase(seed, 3)} {seed}. {form}" for seed in range(40)]])
    assert len(set(keys)) == 40


@pytest.mark.parametrize("count", [2, 5, 20])
def test_a_passage_with_many_questions_is_no_form_in_a_small_task(count: int) -> None:
    texts = [f"{phrase(passage, 12)}. {phrase(100 + n, 4)}?" for passage in range(count) for n in range(15)]
    (keys,) = passages([texts])
    assert Counter(Counter(keys).values()) == {15: count}


def test_one_chain_does_not_swallow_a_task() -> None:
    texts = [f"{phrase(n, 9)}. {phrase(n + 1, 9)}." for n in range(400)]
    (keys,) = passages([texts])
    assert max(Counter(keys).values()) <= 0.2 * 400


def test_the_order_of_the_inputs_does_not_matter() -> None:
    texts = [f"{phrase(n // 3, 9)}. {phrase(n % 40, 9)}. {phrase(n, 4)}?" for n in range(120)]
    mixed = random.Random(0).sample(texts, k=len(texts))
    (one,), (other,) = passages([texts]), passages([mixed])
    assert dict(zip(texts, one, strict=True)) == dict(zip(mixed, other, strict=True))


def test_short_inputs_are_named_by_what_they_say() -> None:
    (keys,) = passages([["Yes.", "yes", "No.", "", "It rains in the old town. Why?", "It rains in the old town. Now?"]])
    assert keys == ["yes", "yes", "no", "", "it rains in the old town", "it rains in the old town"]


@pytest.mark.slow
@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the sample of Natural Instructions is not there")
def test_no_long_sentence_of_the_sample_stands_in_training_and_test() -> None:
    pairs = NaturalInstructions(SAMPLE, domain="task", definition="none", portions=(0.8, 0.1, 0.1)).pairs()
    in_task = Counter(pair.domain for pair in pairs)
    found: dict[str, set[str]] = {}  # sentence -> splits
    common: Counter[tuple[str, str]] = Counter()  # sentence and task -> pairs
    for pair in pairs:
        text = pair.prompt.removeprefix("Input: ").removesuffix("\n\nOutput:")
        for part in set(re.split(r"[.?!:]+\s|\n", text)):
            words = re.findall(r"\w+", part.lower())
            if len(words) >= 8:
                found.setdefault(" ".join(words), set()).add(pair.split)
                common[" ".join(words), pair.domain] += 1
    form = {sentence for (sentence, task), count in common.items() if count > max(50, 0.2 * in_task[task])}
    assert len(form) < 20
    assert not [sentence for sentence, splits in found.items() if len(splits) > 1 and sentence not in form]
    assert max(Counter(pair.origin for pair in pairs).values()) < 200
    splits = Counter(pair.split for pair in pairs)
    assert splits["test"] == pytest.approx(0.1 * len(pairs), rel=0.05)
