"""Where derived data is kept between runs: corpora, tokenizers, embeddings, partitions. Deleting it loses only time."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from harness.errors import UserError

VARIABLE = "MIXOFF_CACHE"
_MARK = "CACHEDIR.TAG"
_SIGNATURE = "Signature: 8a477f597d28d172789f06886806bc55\n# Made by mixoff; `harness cache --clear` empties it.\n"


def cache_root() -> Path:
    """``$MIXOFF_CACHE``, else ``$XDG_CACHE_HOME/mixoff``, else ``~/.cache/mixoff``; made if needed."""
    named = os.environ.get(VARIABLE)
    root = Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mixoff"
    try:
        root.mkdir(parents=True, exist_ok=True)
        if not any(root.iterdir()):  # only a folder that we begin is marked as ours to clear
            (root / _MARK).write_text(_SIGNATURE, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot make the cache folder {root} ({error.strerror}); set {VARIABLE}") from None
    return root


def sizes(root: Path) -> dict[str, int]:
    """Bytes a first-level folder of the cache holds."""
    return {
        folder.name: sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        for folder in sorted(root.iterdir())
        if folder.is_dir()
    }


def clear(root: Path) -> int:
    """Empty the cache; returns the bytes freed. Refuses a folder that was not begun as a cache."""
    if not (root / _MARK).exists():
        raise UserError(f"{root} does not look like a Mixoff cache (no {_MARK}); nothing was deleted")
    freed = sum(sizes(root).values())
    for folder in root.iterdir():
        if folder.is_dir():
            shutil.rmtree(folder)
    return freed


def report(root: Path) -> str:
    """Where the cache is and what it holds, a line a folder."""
    lines = [f"{root} (set {VARIABLE} for another place)"]
    return "\n".join([*lines, *(f"  {name:<14}{size / 1e6:>10.1f} MB" for name, size in sizes(root).items())])
