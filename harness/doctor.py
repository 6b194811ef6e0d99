"""What ``harness doctor`` prints: what is installed, what is missing, and what to do about it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement
from tabulate import tabulate

from harness.caches import cache_root, sizes
from harness.provenance import hardware, source_state, versions


def report() -> str:
    """Versions, hardware, source state, extras and caches."""
    lines = ["versions"]
    lines += [f"  {name:<16}{value}" for name, value in versions().items()]
    lines += ["hardware"]
    lines += [f"  {name:<16}{value}" for name, value in hardware().items()]
    state = source_state()
    lines += [f"source\n  commit          {state['commit'] or 'unknown'}{' (changed)' if state['dirty'] else ''}"]
    lines += ["optional packages", *_extras()]
    root = cache_root()
    lines += [f"caches in {root} (`harness cache --clear` empties them)"]
    lines += [f"  {name:<16}{size / 1e6:.1f} MB" for name, size in sizes(root).items()]
    return "\n".join(lines)


def _extras() -> list[str]:
    table = []
    for text in requires("mixoff") or []:
        requirement = Requirement(text)
        marker = str(requirement.marker or "")
        if "extra ==" not in marker:
            continue
        extra = marker.partition("extra ==")[2].strip().strip("\"'")
        if extra == "test":
            continue
        try:
            have = version(requirement.name)
            state = "ok" if requirement.specifier.contains(have, prereleases=True) else f"has {have}"
        except PackageNotFoundError:
            have, state = "", f'missing: pip install -e ".[{extra}]"'
        table.append([f"  {extra}", str(requirement.name), str(requirement.specifier), state])
    return tabulate(table, tablefmt="plain").splitlines()
