"""Captions as token ids: open_clip's tokenizers, on request with a vocabulary that keeps only what captions hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.base import TaskError
from tasks.hugging_face import quick

Tokens = npt.NDArray[np.integer]
_CHUNK = 4096  # captions tokenised at once
MISSING = 'CLIP models need open_clip_torch: pip install -e ".[clip]" in the checkout'


class Vocabulary:
    """Captions to [n, context] token ids.

    kept: sorted ids of the tokenizer that stay, or ``None``: all. The kept ids are numbered anew in their order, so
    that the end token remains the largest (CLIP's text tower finds the end of a caption by that); any other token
    becomes one token for the unknown, just below the end.
    """

    def __init__(self, encode: Callable[[list[str]], Any], context: int, kept: Tokens | None = None) -> None:
        self._encode, self.context, self.kept = encode, context, kept

    @property
    def size(self) -> int:
        """Token ids of a compact vocabulary."""
        assert self.kept is not None, "only a compact vocabulary has a size of its own"
        return len(self.kept) + 1

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """[n, context] ids, zero behind a caption's end; a longer caption is cut and keeps its end token."""
        return self.renumbered(self.full(texts))

    def full(self, texts: Sequence[str]) -> Tokens:
        """The same in the tokenizer's own ids; a caption that comes again is not tokenised again."""
        distinct = list(dict.fromkeys(texts))
        row = {text: index for index, text in enumerate(distinct)}
        parts = [
            np.asarray(self._encode([text or " " for text in distinct[start : start + _CHUNK]]), dtype=np.int64)
            for start in range(0, len(distinct), _CHUNK)
        ]
        ids = np.concatenate(parts) if parts else np.zeros((0, self.context), dtype=np.int64)
        found: Tokens = ids[[row[text] for text in texts]]
        return found

    def renumbered(self, ids: Tokens) -> Tokens:
        """The tokenizer's own ids in this vocabulary's numbers."""
        if self.kept is None:
            return ids
        position = np.minimum(np.searchsorted(self.kept, ids), len(self.kept) - 1)
        known = self.kept[position] == ids
        end = len(self.kept) - 1
        return np.where(~known, end, np.where(position == end, end + 1, position))

    def compact(self, captions: Tokens) -> Vocabulary:
        """The vocabulary of what captions hold, by their own ids: a small model then has few rows that nothing uses.

        captions: of all splits. As in CLIP's whole vocabulary, a word that only held-out captions hold has a row of its
        own, which stays untrained: captions that differ in such a word are told apart.
        """
        return Vocabulary(self._encode, self.context, np.unique(captions))


def tokenizer(model: str, context: int) -> Vocabulary:
    """The tokenizer of an open_clip model, or CLIP's own for an empty name. Raises :class:`TaskError`."""
    try:
        import open_clip
        from open_clip.tokenizer import SimpleTokenizer
    except ImportError:
        raise TaskError(MISSING) from None
    if not model:
        return Vocabulary(SimpleTokenizer(context_length=context), context)
    try:
        with quick():
            encode = open_clip.get_tokenizer(model, context_length=context)
    except Exception as error:  # many kinds, from missing files to network errors
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise TaskError(f"cannot load the tokenizer of model {model!r}: {reason[0]}") from None
    return Vocabulary(encode, context)
