"""The inline form of a plugin and its parameters: ``rnb[lam=3,rounds=10]``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from harness.errors import UserError

_FORM = re.compile(r"^(?P<name>[\w.\-]+)(?:\[(?P<body>.*)\])?$", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A plugin's name and the parameters that the user set."""

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """``rnb`` or ``rnb[lam=10]``: the name with what differs from the defaults, sorted."""
        if not self.params:
            return self.name
        return f"{self.name}[{','.join(f'{k}={_compact(v)}' for k, v in sorted(self.params.items()))}]"


def _paired(value: Any) -> Any:
    """``{a=1,b=2}``, which YAML reads as keys without values, as ``{a: 1, b: 2}``: parameters are written so, too."""
    if not (isinstance(value, dict) and value and all(v is None and "=" in str(k) for k, v in value.items())):
        return value
    parts = [str(key).rpartition("=") for key in value]
    return {name.strip(): yaml.safe_load(amount) for name, _, amount in parts}


def _compact(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10**9).strip().removesuffix("...").strip()


def split_list(text: str) -> list[str]:
    """Split at commas that stand outside brackets: ``a,b[x=1,y=2]`` -> ``a`` and ``b[x=1,y=2]``."""
    parts, depth, start = [], 0, 0
    for position, char in enumerate(text):
        if char in "[{":
            depth += 1
        elif char in "]}":
            depth -= 1
            if depth < 0:
                raise UserError(f"{text!r}: a closing bracket without an opening one")
        elif char == "," and depth == 0:
            parts.append(text[start:position])
            start = position + 1
    if depth:
        raise UserError(f"{text!r}: a bracket is not closed; write for example rnb[lam=3,rounds=10]")
    parts.append(text[start:])
    return [part.strip() for part in parts if part.strip()]


def parse_choice(item: str | Mapping[str, Any]) -> Choice:
    """Read ``name``, ``name[key=value,...]`` or, from YAML, ``{name: {key: value}}``.

    A value that is a mapping is written ``{a=1,b=2}``, or ``{a: 1, b: 2}`` as in YAML.
    """
    if isinstance(item, Mapping):
        if len(item) != 1:
            raise UserError(f"{dict(item)!r}: write one plugin an item, as `name` or `name: {{key: value}}`")
        name, params = next(iter(item.items()))
        if not isinstance(params, Mapping | None):
            raise UserError(f"{name}: parameters must be a mapping such as {{lam: 3}}, not {params!r}")
        return Choice(name=str(name), params=dict(params or {}))
    found = _FORM.match(item.strip())
    if not found:
        raise UserError(f"{item!r} is not of the form name or name[key=value,...]")
    params = {}
    for part in split_list(found["body"] or ""):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise UserError(f"{item!r}: {part!r} is not of the form key=value")
        try:
            params[key.strip()] = _paired(yaml.safe_load(value))
        except yaml.YAMLError:
            raise UserError(f"{item!r}: cannot read the value of {key.strip()!r}") from None
    return Choice(name=found["name"], params=params)
