"""Errors that a user can mend: shown as one line, exit code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Bad input of any kind. The message is one line that says what is wrong and what would be right."""


def nearest(word: str, valid: Iterable[str]) -> str:
    """A hint such as `` (did you mean 'rnb'? valid: natural, rnb, uniform)``."""
    names = sorted(valid)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f" ({hint}valid: {', '.join(names) or 'none'})"
