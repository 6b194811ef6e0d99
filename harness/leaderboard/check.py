"""Do the committed tables follow from the committed rows?"""

from __future__ import annotations

import gzip
from itertools import zip_longest
from pathlib import Path

from harness.leaderboard.pictures import fault
from harness.leaderboard.publish import FIGURES, ROWS, generate, packed, read_notes, read_title
from harness.leaderboard.rows import RowsError, read_rows


def check(root: Path) -> list[str]:
    """Make every ``root/*/`` again from its rows and compare; one line a problem, each naming the file.

    Text and CSV must be equal. A picture must carry the digest of the data that the rows give, and its own pixels.
    """
    if not root.is_dir():
        return [f"{root}: no such folder"]
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    return [problem for folder in folders for problem in _check_folder(folder)]


def _check_folder(folder: Path) -> list[str]:
    try:
        rows = read_rows([folder])
        texts, pictures = generate(rows, read_title(folder) or "", read_notes(folder))
    except RowsError as error:
        return [str(error)]
    problems = [line for file, text in texts.items() if (line := _text_fault(folder / file, text))]
    for file, picture in pictures.items():
        path = folder / FIGURES / file
        what = fault(path, picture) if path.is_file() else "is missing"
        problems += [f"{path}: {what}"] if what else []
    for stray in sorted(set((folder / FIGURES).glob("*")) - {folder / FIGURES / file for file in pictures}):
        problems.append(f"{stray}: does not follow from the rows")
    compact = folder / ROWS
    # Compressed bytes depend on the version of zlib; what they hold does not.
    if compact.is_file() and gzip.decompress(compact.read_bytes()) != gzip.decompress(packed(rows)):
        problems.append(f"{compact}: rows are not in canonical form (sorted by id, one each)")
    return problems


def _text_fault(path: Path, expected: str) -> str:
    """Where a text file differs from what the rows give, in one line; empty if it does not."""
    if not path.is_file():
        return f"{path}: is missing"
    found = path.read_text(encoding="utf-8")
    if found == expected:
        return ""
    pairs = enumerate(zip_longest(found.splitlines(), expected.splitlines()), start=1)
    line = next((number for number, (a, b) in pairs if a != b), 1)
    return f"{path}: differs from what its rows give, first in line {line}"
