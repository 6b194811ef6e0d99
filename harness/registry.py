"""Finding mixers, regroupers and tasks: in the tree, in installed packages, in files named on the command line.

Later finds win: tree < package (entry points ``mixoff.mixers``, ``mixoff.regroupers``, ``mixoff.tasks``) < file. A
plugin that cannot be imported stays listed, with its error.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from harness.errors import UserError, nearest

Kind = Literal["mixers", "regroupers", "tasks"]
KINDS: tuple[Kind, ...] = ("mixers", "regroupers", "tasks")
_PACKAGES: dict[Kind, str] = {"mixers": "mixers", "regroupers": "mixers.regroup", "tasks": "tasks"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """One discovered plugin. ``cls`` is None where importing it failed; then ``error`` says why.

    origin: ``tree``, ``package NAME VERSION`` or ``file PATH``. source: what goes into a trial's identity: empty for
    the tree, name and version for a package, a hash of the contents for a file.
    """

    kind: Kind
    name: str
    cls: Any
    origin: str
    source: str = ""
    error: str = ""

    @property
    def summary(self) -> str:
        """First line of the class's docstring, or the error."""
        if self.cls is None:
            return f"does not import: {self.error}"
        role = "(reference) " if getattr(self.cls, "reference", False) else ""
        return role + (inspect.getdoc(self.cls) or "").partition("\n")[0]


def _base(kind: Kind) -> type:
    if kind == "mixers":
        from mixers.base import Mixer

        return Mixer
    if kind == "regroupers":
        from mixers.regroup.base import Regrouper

        return Regrouper
    from tasks.base import Task

    return Task


def _classes(module: ModuleType, kind: Kind) -> Iterator[type]:
    """Concrete plugin classes that a module itself defines."""
    base = _base(kind)
    for value in vars(module).values():
        if (
            inspect.isclass(value)
            and issubclass(value, base)
            and not inspect.isabstract(value)
            and value.__module__ == module.__name__
            and isinstance(vars(value).get("name"), str)  # an inherited name would replace its owner
        ):
            yield value


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _from_tree(kind: Kind) -> Iterator[Plugin]:
    package = importlib.import_module(_PACKAGES[kind])
    for info in pkgutil.iter_modules(package.__path__):
        if info.ispkg or info.name.startswith("_") or info.name == "base":
            continue
        try:
            module = importlib.import_module(f"{_PACKAGES[kind]}.{info.name}")
        except (Exception, SystemExit) as error:  # a broken plugin must not hide the others
            yield Plugin(kind=kind, name=info.name, cls=None, origin="tree", error=_one_line(error))
            continue
        for cls in _classes(module, kind):
            yield Plugin(kind=kind, name=cls.name, cls=cls, origin="tree")  # type: ignore[attr-defined]


def _from_packages(kind: Kind) -> Iterator[Plugin]:
    for point in entry_points(group=f"mixoff.{kind}"):
        dist = f"{point.dist.name} {point.dist.version}" if point.dist else "unknown"
        origin = f"package {dist}"
        try:
            loaded = point.load()
        except (Exception, SystemExit) as error:
            yield Plugin(kind=kind, name=point.name, cls=None, origin=origin, error=_one_line(error))
            continue
        found = list(_classes(loaded, kind)) if inspect.ismodule(loaded) else [loaded]
        for cls in found:
            if not (inspect.isclass(cls) and issubclass(cls, _base(kind))):
                why = f"entry point {point.value} is no {_base(kind).__name__} class"
                yield Plugin(kind=kind, name=point.name, cls=None, origin=origin, error=why)
                continue
            yield Plugin(kind=kind, name=getattr(cls, "name", point.name), cls=cls, origin=origin, source=dist)


def load_file(path: Path) -> ModuleType:
    """Import a plugin file under a name made from its contents; raises :class:`UserError`."""
    if not path.is_file():
        raise UserError(f"--plugin {path}: {'is a folder; name its files' if path.is_dir() else 'no such file'}")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    name = f"mixoff_plugin_{path.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"--plugin {path}: not a Python file (expected a name ending in .py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _from_files(kind: Kind, files: Sequence[Path]) -> Iterator[Plugin]:
    for path in files:
        origin = f"file {path}"
        try:
            module = load_file(path)
        except UserError:
            raise
        except (Exception, SystemExit) as error:
            yield Plugin(kind=kind, name=path.stem, cls=None, origin=origin, error=_one_line(error))
            continue
        source = f"{path.name} sha256:{module.__name__.rpartition('_')[2]}"
        for cls in _classes(module, kind):
            yield Plugin(kind=kind, name=cls.name, cls=cls, origin=origin, source=source)  # type: ignore[attr-defined]


class Registry:
    """All plugins of a process, read lazily kind by kind: listing mixers never imports a task."""

    def __init__(self, files: Sequence[Path] = ()) -> None:
        self.files = tuple(Path(file) for file in files)
        self._found: dict[Kind, dict[str, Plugin]] = {}

    def all(self, kind: Kind) -> dict[str, Plugin]:
        """Name -> plugin, sorted by name; failed ones included unless an earlier one has the same name."""
        if kind not in self._found:
            found: dict[str, Plugin] = {}
            for finder in (_from_tree(kind), _from_packages(kind), _from_files(kind, self.files)):
                for plugin in finder:
                    if plugin.cls is not None or plugin.name not in found:
                        found[plugin.name] = plugin
            self._found[kind] = dict(sorted(found.items()))
        return self._found[kind]

    def get(self, kind: Kind, name: str) -> Plugin:
        """The plugin, or a :class:`UserError` that names the nearest one or repeats its import error."""
        found = self.all(kind)
        if name not in found:
            broken = [p for p in found.values() if p.cls is None and p.origin.startswith("file")]
            why = f"; {broken[0].origin} {broken[0].summary}" if broken else ""
            raise UserError(f"no {kind[:-1]} named {name!r}{nearest(name, found)}{why}")
        plugin = found[name]
        if plugin.cls is None:
            raise UserError(f"{kind[:-1]} {name!r} ({plugin.origin}) {plugin.summary}")
        return plugin
