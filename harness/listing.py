"""What ``harness list`` and ``harness info`` print."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from harness.builtin import experiments, summary
from harness.errors import UserError, nearest
from harness.registry import KINDS, Plugin, Registry


def listing(what: str | None, files: Sequence[Path]) -> str:
    """Tables of plugins or presets; everything where ``what`` is None."""
    registry = Registry(files)
    blocks = []
    for kind in KINDS:
        if what in (None, kind):
            table = [[p.name, p.origin, p.summary] for p in registry.all(kind).values()]
            blocks.append(f"{kind}\n" + tabulate(table, headers=["name", "from", "what"], tablefmt="simple"))
    if what in (None, "presets"):
        blocks.append("presets\n" + _presets(registry))
    if what in (None, "experiments"):
        table = [[name, summary(path)] for name, path in experiments().items()]
        blocks.append("experiments\n" + tabulate(table, headers=["name", "what"], tablefmt="simple"))
    return "\n\n".join(blocks)


def _presets(registry: Registry) -> str:
    table = []
    for plugin in registry.all("tasks").values():
        for preset in getattr(plugin.cls, "presets", {}).values():
            recipe = preset.recipe
            table.append(
                [plugin.name, preset.name, recipe.steps, recipe.batch_size, recipe.learning_rate, preset.summary]
            )
    return tabulate(table, headers=["task", "preset", "steps", "batch", "learning rate", "what"], tablefmt="simple")


def description(name: str, files: Sequence[Path]) -> str:
    """Docstring, parameters and defaults of a plugin by name."""
    registry = Registry(files)
    found = [registry.all(kind)[name] for kind in KINDS if name in registry.all(kind)]
    if not found:
        names = [known for kind in KINDS for known in registry.all(kind)]
        raise UserError(f"nothing is named {name!r}{nearest(name, names)}")
    return "\n\n".join(_describe(plugin) for plugin in found)


def rows_text(rows: Sequence[dict[str, Any]], form: str) -> str:
    """Rows as ``table``, ``csv`` or ``jsonl``, ending in a line break."""
    if form == "table":
        return rows_table(rows) + "\n"
    if form == "csv":
        from harness.leaderboard.rows import as_csv  # which imports pandas

        return as_csv(rows)
    return "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows)


def rows_table(rows: Sequence[dict[str, Any]]) -> str:
    """One line a row: what it is, how it ended, its primary metric or the reason."""
    table = []
    for row in rows:
        spec = row["spec"]
        result = row["reason"]
        if row["status"] == "ok":
            name, metric = next((name, metric) for name, metric in row["metrics"].items() if metric["primary"])
            result = f"{name} {metric['target']:.4f}"
        labels = [spec.get(f"{role}_label", spec[role]) for role in ("task", "partition", "mixer")]
        table.append([*labels, spec["preset"], spec["seed"], row["status"], result])
    return tabulate(table, headers=["task", "partition", "mixer", "preset", "seed", "status", "result"])


def _describe(plugin: Plugin) -> str:
    kind = "a reference and no method" if getattr(plugin.cls, "reference", False) else plugin.kind[:-1]
    head = f"{plugin.name} ({kind}, from {plugin.origin})"
    if plugin.cls is None:
        return f"{head}\n{plugin.summary}"
    parts = [head, ""]
    module = inspect.getmodule(plugin.cls)
    parts += [inspect.cleandoc(module.__doc__), ""] if module and module.__doc__ else []
    parts += [inspect.getdoc(plugin.cls) or "", ""]
    config = plugin.cls.Config
    if not dataclasses.is_dataclass(config):
        raise UserError(f"{plugin.name}: its Config must be a frozen dataclass ({plugin.origin})")
    fields = dataclasses.fields(config)
    if fields:
        parts += ["parameters", _described(config), ""]
        parts.append(tabulate([[f.name, _type(f.type), _default(f)] for f in fields],
                              headers=["name", "type", "default"], tablefmt="simple"))  # fmt: skip
    else:
        parts.append("no parameters")
    return "\n".join(parts)


def _described(config: Any) -> str:
    """What a config says of its fields, and then what those say that it inherits them from."""
    made = [cls for cls in config.__mro__ if dataclasses.is_dataclass(cls)]
    said = [inspect.cleandoc(cls.__doc__ or "") for cls in made]
    # A dataclass without a docstring gets its signature for one.
    texts = [
        text
        for cls, text in zip(made, said, strict=True)
        if text and not text.startswith(f"{getattr(cls, '__name__', '')}(")
    ]
    return "\n\n".join(texts)


def _type(annotation: object) -> str:
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))


def _default(field: dataclasses.Field[object]) -> str:
    if field.default is not dataclasses.MISSING:
        return repr(field.default)
    if field.default_factory is not dataclasses.MISSING:
        return repr(field.default_factory())
    return "required"
