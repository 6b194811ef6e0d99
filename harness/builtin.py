"""The experiments that come with the package: YAML files below ``harness/experiments``, named by their path."""

from __future__ import annotations

from pathlib import Path

from harness.errors import UserError, nearest

FOLDER = Path(__file__).parent / "experiments"


def experiments() -> dict[str, Path]:
    """Name, as in ``paper/dolly``, -> file."""
    return {path.relative_to(FOLDER).with_suffix("").as_posix(): path for path in sorted(FOLDER.rglob("*.yaml"))}


def find_experiment(argument: Path) -> Path:
    """The file that the user names: a file of their own, or else an experiment of the package."""
    if argument.exists() or argument.suffix in (".yaml", ".yml"):
        return argument
    known = experiments()
    try:
        return known[argument.as_posix()]
    except KeyError:
        raise UserError(
            f"{argument}: no such file and no built-in experiment{nearest(argument.as_posix(), known)} "
            "(an experiment is a YAML file; `harness list experiments` names the built-in ones)"
        ) from None


def summary(path: Path) -> str:
    """The first line of an experiment's comment."""
    first = path.read_text(encoding="utf-8").split("\n", 1)[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""
