"""The referee knows the contract of tasks and mixers, and none of them by name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONTRACTS = {"tasks.base", "mixers.base", "mixers.ensembler", "mixers.regroup.base", "mixers.simplex"}


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_the_harness_imports_contracts_only():
    for path in sorted((ROOT / "harness").rglob("*.py")):
        named = {name for name in _imports(path) if name.split(".")[0] in ("tasks", "mixers")}
        assert named <= CONTRACTS, f"{path.relative_to(ROOT)} imports {', '.join(sorted(named - CONTRACTS))}"


def test_mixers_see_no_name_of_a_task():
    """What a mixer is given holds domains, shares and budgets; the names of tasks occur in none of its code."""
    tasks = {path.stem for path in (ROOT / "tasks").glob("*.py")} & {"text", "reasoning", "multimodal", "instruct"}
    for path in sorted((ROOT / "mixers").rglob("*.py")):
        words = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
        assert not tasks & {word for word in words if isinstance(word, str)}, path.name
