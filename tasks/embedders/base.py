"""What every embedder of texts gives."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from tasks.base import TaskError

Vectors = npt.NDArray[np.float32]


class Embedder(ABC):
    """Texts to unit vectors. ``name`` is the full name with version and size, and goes into a row and a cache key.

    fitted: whether :meth:`fit` must see the training texts first; it returns its FLOPs.
    """

    fitted: ClassVar[bool] = False
    name: str

    def fit(self, texts: Sequence[str]) -> float:
        """Learn from the training texts; returns the FLOPs spent."""
        return 0.0

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> tuple[Vectors, float]:
        """([n, d] float32 vectors of length one, or zero where a text holds nothing known; FLOPs spent)."""


def unit(vectors: npt.NDArray[np.floating]) -> Vectors:
    """Rows scaled to length one; zero rows stay zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(norms > 0, norms, 1.0)).astype(np.float32)


def package_file(package: str, path: str, sha256: str, remedy: str) -> tuple[Path, str]:
    """(location, package version) of a file inside a package, its contents checked against the SHA-256.

    The package is not imported. Raises :class:`TaskError` where it is missing or holds other contents.
    """
    try:
        found = distribution(package)
    except PackageNotFoundError:
        raise TaskError(f"this embedder needs the package {package}: {remedy}") from None
    location = Path(str(found.locate_file(path)))
    try:
        actual = hashlib.sha256(location.read_bytes()).hexdigest()
    except OSError:
        raise TaskError(f"package {package} {found.version} has no file {path}: {remedy}") from None
    if actual != sha256:
        raise TaskError(f"{path} of {package} {found.version} is not the known file (SHA-256 {actual[:12]}…): {remedy}")
    return location, found.version
