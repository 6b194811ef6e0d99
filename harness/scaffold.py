"""``harness new``: the skeleton of a plugin with its test, which runs and passes as it stands."""

from __future__ import annotations

import importlib.util
import keyword
import re
from pathlib import Path

import mixers.base
from harness.errors import UserError
from harness.registry import Registry
from harness.store import write_text

TEMPLATES = Path(__file__).parent / "templates"
_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_LONGEST = 60


def new_mixer(name: str, folder: Path) -> tuple[Path, Path]:
    """Write NAME.py and test_NAME.py into the folder, making it where needed; raises :class:`UserError`.

    Nothing is written where either file exists or the name will not do.
    """
    if not _NAME.fullmatch(name) or keyword.iskeyword(name) or len(name) > _LONGEST:
        raise UserError(
            f"{name!r} is no name for a mixer; use up to {_LONGEST} lower-case letters, digits and _, as in skill_it"
        )
    class_name = "".join(part.capitalize() for part in name.split("_"))
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder}: not a folder")
    files = folder / f"{name}.py", folder / f"test_{name}.py"
    for file in files:
        if file.exists():
            raise UserError(f"{file} exists; choose another name or --out, or remove it")
    if name in Registry().all("mixers"):
        raise UserError(f"a mixer named {name!r} exists ({Registry().get('mixers', name).origin}); choose another name")
    if _is_taken(name, class_name):
        raise UserError(f"{name!r} is the name of a Python module or of a part of mixers.base; choose another name")
    try:
        for file, template in zip(files, ("mixer.py.txt", "test_mixer.py.txt"), strict=True):
            text = (TEMPLATES / template).read_text(encoding="utf-8")
            write_text(file, text.replace("@name@", name).replace("@Class@", class_name))
    except OSError as error:
        raise UserError(f"--out {folder}: cannot write there ({error.strerror})") from None
    return files


def _is_taken(name: str, class_name: str) -> bool:
    """Whether the test's ``import NAME`` or the file's own imports would find something else."""
    return hasattr(mixers.base, class_name) or importlib.util.find_spec(name) is not None
