"""Where and with what a row was made: versions, commit, hardware. None of it influences a result."""

from __future__ import annotations

import datetime
import functools
import hashlib
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("mixoff", "torch", "numpy", "scipy", "scikit-learn", "transformers", "tokenizers")


def provenance() -> dict[str, Any]:
    """The ``provenance`` object of a row."""
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "hardware": hardware(),
        **source_state(),
    }


@functools.cache
def versions() -> dict[str, str]:
    """Python and the packages whose version could move a result."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


@functools.cache
def hardware() -> dict[str, Any]:
    """Processor, cores, memory and accelerator, in words."""
    import torch

    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "system": platform.system(),
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def content_hash(path: Path) -> str:
    """Hash of a file's contents."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@functools.cache
def source_state() -> dict[str, Any]:
    """Commit, dirty flag and a hash of the uncommitted changes of the checkout this code runs from."""
    root = Path(__file__).resolve().parent.parent

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, timeout=20, check=True)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout

    commit = git("rev-parse", "HEAD") if (root / ".git").exists() else None
    if commit is None:
        return {"commit": None, "dirty": None, "diff": None}
    houses = ("mixers", "tasks", "harness", "pyproject.toml")
    diff = git("diff", "HEAD", "--", *houses) or ""
    untracked = (git("ls-files", "--others", "--exclude-standard", "--", *houses) or "").splitlines()
    changes = diff + "".join(name + content_hash(root / name) for name in untracked)
    return {
        "commit": commit.strip(),
        "dirty": bool(changes),
        "diff": hashlib.sha256(changes.encode()).hexdigest()[:12] if changes else None,
    }
