"""Which inputs are about one text: they must share a split, or what is learnt in one is asked for in another."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

_SENTENCE_END = re.compile(r"[.?!:]+\s|\n")
_WORD = re.compile(r"\w+")
_LONG = 8  # words from which on a sentence that two inputs share says that they are about one text
_NAMING = 6  # words from which on the longest sentence of an input without a long one stands for its text
_SHARE = 0.2  # share of a task's inputs that one text may have; what joins more belongs to the task's form ...
_SMALL = 50  # ... but so many a text may always have, where this is at most half of a task ...
_FEW = 10  # ... and so many in any case


def passages(tasks: Sequence[Sequence[str]]) -> list[list[str]]:
    """For the inputs of each task the name of the text that each is about; inputs about one text have one name.

    Many tasks ask many questions of one passage, and several tasks use the same passages. Inputs of whatever task that
    share a sentence of eight words are about one text, and so are those that a chain of such sentences links. An input
    without such a sentence is named by its longest one, of six words or more, or else by all that it says.

    Form is told from text by what it would join: sentences are met from the rarest to the commonest, and one whose
    inputs, with all that is linked to them, are more than a fifth of a task's inputs is passed over. (In small tasks
    more: 50 inputs, if this is at most half of them, or 10.) The time is about linear in the sentences.
    """
    owners = [index for index, inputs in enumerate(tasks) for _ in inputs]
    most = [max(_SHARE * len(inputs), min(_SMALL, len(inputs) / 2), _FEW) for inputs in tasks]
    texts = [text for inputs in tasks for text in inputs]
    sentences = _Sentences()
    found = [sentences.of(text) for text in texts]
    holders: dict[str, list[int]] = {}
    for index, links in enumerate(found):
        for link in links:
            holders.setdefault(link, []).append(index)
    groups = _Groups(owners, most)
    shared = sorted((item for item in holders.items() if len(item[1]) > 1), key=_rarest_first)
    form = {link for link, among in shared if not groups.join(among)}
    names: dict[int, str] = {}
    for index, (text, links) in enumerate(zip(texts, found, strict=True)):
        root = groups.root(index)
        name = max((link for link in links if link not in form), key=_longest, default=_plain(text))
        names[root] = min(names.get(root, name), name)
    each = iter(names[groups.root(index)] for index in range(len(texts)))
    return [[next(each) for _ in inputs] for inputs in tasks]


def _plain(text: str) -> str:
    return " ".join(_WORD.findall(text.lower()))


def _words(sentence: str) -> int:
    return sentence.count(" ") + 1


def _longest(sentence: str) -> tuple[int, str]:
    return len(sentence), sentence


def _rarest_first(item: tuple[str, Sequence[int]]) -> tuple[int, str]:
    return len(item[1]), item[0]


class _Sentences:
    """Texts to their sentences; a part that comes again, as a passage under the next question, is looked up."""

    def __init__(self) -> None:
        self._seen: dict[str, str] = {}

    def of(self, text: str) -> set[str]:
        """The long sentences of a text; where there is none its longest from six words on, or all of it."""
        parts = set()
        for part in _SENTENCE_END.split(text):
            if part not in self._seen:
                self._seen[part] = _plain(part)
            parts.add(self._seen[part])
        long = {part for part in parts if _words(part) >= _LONG}
        if long:
            return long
        name = max(parts, key=_longest)
        return {name if _words(name) >= _NAMING else _plain(text)}


class _Groups:
    """Inputs joined into groups (union-find), none with more inputs of a task than that task allows."""

    def __init__(self, owners: Sequence[int], most: Sequence[float]) -> None:
        self._parent = list(range(len(owners)))
        self._held = [Counter({owner: 1}) for owner in owners]
        self._most = most

    def root(self, index: int) -> int:
        """The input that stands for this one's group."""
        parent = self._parent
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    def join(self, among: Iterable[int]) -> bool:
        """Make one group of these inputs' groups, unless it would be too large; whether that was done."""
        roots = {self.root(index) for index in among}
        if len(roots) == 1:
            return True
        total: Counter[int] = Counter()
        for root in roots:
            total.update(self._held[root])
        if any(count > self._most[owner] for owner, count in total.items()):
            return False
        first = min(roots)
        for root in roots:
            self._parent[root] = first
            self._held[root] = Counter()
        self._held[first] = total
        return True
