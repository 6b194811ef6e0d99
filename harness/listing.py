"""What ``harness list`` and ``harness info`` print."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

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


def _describe(plugin: Plugin) -> str:
    head = f"{plugin.name} ({plugin.kind[:-1]}, from {plugin.origin})"
    if plugin.cls is None:
        return f"{head}\n{plugin.summary}"
    parts = [head, ""]
    module = inspect.getmodule(plugin.cls)
    parts += [inspect.cleandoc(module.__doc__), ""] if module and module.__doc__ else []
    parts += [inspect.getdoc(plugin.cls) or "", ""]
    config = plugin.cls.Config
    fields = dataclasses.fields(config)
    if fields:
        parts += ["parameters", inspect.getdoc(config) or "", ""]
        parts.append(tabulate([[f.name, _type(f.type), _default(f)] for f in fields],
                              headers=["name", "type", "default"], tablefmt="simple"))  # fmt: skip
    else:
        parts.append("no parameters")
    return "\n".join(parts)


def _type(annotation: object) -> str:
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))


def _default(field: dataclasses.Field[object]) -> str:
    if field.default is not dataclasses.MISSING:
        return repr(field.default)
    if field.default_factory is not dataclasses.MISSING:
        return repr(field.default_factory())
    return "required"
