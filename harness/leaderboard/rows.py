"""Reading rows: one JSON object per trial, from run folders, published folders or single files."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from harness import ROW_VERSION
from harness.errors import UserError

Row = dict[str, Any]

STATUSES = ("ok", "failed", "timeout", "oom", "crashed", "bad_mixture")
PUBLISHED = ("rows.jsonl", "rows.jsonl.gz")

# What every row holds, and what a row with status ok holds besides; dots go into nested objects.
_ALWAYS: dict[str, type | tuple[type, ...]] = {
    "protocol": int,
    "id": str,
    "status": str,
    "spec.task": str,
    "spec.preset": str,
    "spec.partition": str,
    "spec.partition_label": str,
    "spec.mixer": str,
    "spec.mixer_label": str,
    "spec.seed": int,
    "spec.steps": int,
    "spec.batch_size": int,
}
_WHEN_OK: dict[str, type | tuple[type, ...]] = {
    "fingerprint": str,
    "domains.original": list,
    "domains.train": list,
    "metrics": dict,
    "mixture.requested": list,
    "mixture.realised": list,
    "training.units": (int, float),
    "overhead.counted_share": (int, float),
    "measured": dict,
}


class RowsError(UserError):
    """Rows cannot be read or put together; the message is one line that names the file and what is wrong."""


def read_rows(paths: Iterable[str | Path]) -> list[Row]:
    """Rows of run folders (``DIR/rows/*.json``), published folders (``rows.jsonl[.gz]``) and single files.

    Sorted by id. A row found twice is read once if both copies agree, whatever seconds and provenance they carry.
    """
    found: dict[str, Row] = {}
    for path in paths:
        for row in _rows_at(Path(path)):
            known = found.get(row["id"])
            found[row["id"]] = row if known is None else merge(known, row)
    return [found[key] for key in sorted(found)]


def merge(known: Row, new: Row) -> Row:
    """One of two rows of the same id: a finished one before a failed one, then the newer.

    Two finished rows must agree in everything that is not measured, else :class:`RowsError` says where they do not.
    A timing is kept where only the older row has one.
    """
    if known["status"] == "ok" and new["status"] == "ok":
        where = _first_difference(deterministic(known), deterministic(new))
        if where:
            raise RowsError(
                f"row {known['id']} exists with another result ({where}); rows of one trial must agree: "
                "publish under another name, or remove the one that is wrong"
            )
    elif "ok" in (known["status"], new["status"]):
        return known if known["status"] == "ok" else new
    newer, older = (new, known) if _time(new) >= _time(known) else (known, new)
    timing = _timing(newer) or _timing(older)
    return newer | {"measured": newer["measured"] | {"timing": timing}} if timing else newer


def deterministic(row: Row) -> Row:
    """The part of a row that the same spec gives again: all but seconds, memory, time, commit, hardware, spelling."""
    kept = {key: value for key, value in row.items() if key not in ("measured", "provenance")}
    spec = {key: value for key, value in row["spec"].items() if not key.endswith("_label")}
    if isinstance(spec.get("recipe"), dict):
        spec["recipe"] = {key: value for key, value in spec["recipe"].items() if key != "time_limit"}
    return kept | {"spec": spec}


def _timing(row: Row) -> Row | None:
    return (row.get("measured") or {}).get("timing")


def _time(row: Row) -> str:
    return str((row.get("provenance") or {}).get("time") or "")


def _first_difference(a: Any, b: Any, path: str = "") -> str:
    """Dotted path and both values of the first difference, or an empty string."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted(set(a) | set(b)):
            where = _first_difference(a.get(key), b.get(key), f"{path}.{key}" if path else str(key))
            if where:
                return where
        return ""
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        pairs = enumerate(zip(a, b, strict=True))
        return next((w for i, (x, y) in pairs if (w := _first_difference(x, y, f"{path}[{i}]"))), "")
    if a == b or (a != a and b != b):
        return ""
    return f"{path}: {_short(a)} and {_short(b)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _rows_at(path: Path) -> list[Row]:
    """Rows of one folder or file, each checked."""
    if path.is_file():
        return _parse_file(path)
    if not path.is_dir():
        raise RowsError(f"{path}: no such file or folder")
    for name in PUBLISHED:
        if (path / name).is_file():
            return _parse_file(path / name)
    if (path / "rows").is_dir():
        rows = [row for file in sorted((path / "rows").glob("*.json")) for row in _parse_file(file)]
        return [_with_timing(row, path / "timing") for row in rows]
    raise RowsError(f"{path}: holds no rows (neither a rows/ folder nor {' nor '.join(PUBLISHED)})")


def _with_timing(row: Row, folder: Path) -> Row:
    """The row with its cell's timing, which a run folder keeps in a file of its own."""
    file = folder / f"{row.get('cell')}.json"
    if row["status"] != "ok" or _timing(row) or not file.is_file():
        return row
    try:
        timing = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RowsError(f"{file}: is not a readable timing ({error}); delete it to measure again") from error
    return row | {"measured": row["measured"] | {"timing": timing}}


def _parse_file(path: Path) -> list[Row]:
    """One row of a ``.json`` file, or one a line of a ``.jsonl`` or ``.jsonl.gz`` file."""
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise RowsError(f"{path}: cannot be read ({error})") from error
    parts = [(str(path), text)]
    if path.suffix != ".json":
        # Not splitlines: JSON strings may hold U+2028, U+2029 and U+0085 as they are.
        lines = enumerate(text.split("\n"), start=1)
        parts = [(f"{path}, line {number}", line) for number, line in lines if line.strip()]
    return [_parse(part, where) for where, part in parts]


def _parse(text: str, where: str) -> Row:
    try:
        row = json.loads(text)
    except json.JSONDecodeError as error:
        raise RowsError(f"{where}: is not JSON ({error.msg} at character {error.pos})") from error
    return checked(row, where)


def checked(row: Any, where: str) -> Row:
    """The row itself if it has what the tables need, else :class:`RowsError` in one line beginning with ``where``."""
    if not isinstance(row, dict):
        raise RowsError(f"{where}: is not a JSON object")
    version = row.get("row_version")
    if version != ROW_VERSION:
        raise RowsError(f"{where}: row_version is {version!r}, this harness reads {ROW_VERSION}")
    _require(row, _ALWAYS, where)
    if row["status"] not in STATUSES:
        raise RowsError(f"{where}: status {row['status']!r} is none of {', '.join(STATUSES)}")
    if row["status"] == "ok":
        _require(row, _WHEN_OK, where)
        primaries = [name for name, metric in row["metrics"].items() if metric.get("primary")]
        if len(primaries) != 1:
            raise RowsError(f"{where}: metrics has {len(primaries)} primary metrics, expected one")
        for key in ("target", "macro", "by_domain", "higher_is_better"):
            if key not in row["metrics"][primaries[0]]:
                raise RowsError(f"{where}: metrics.{primaries[0]} lacks {key!r}")
    return row


def _require(row: Row, fields: Mapping[str, type | tuple[type, ...]], where: str) -> None:
    for path, kind in fields.items():
        value: Any = row
        for key in path.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            what = "is missing" if value is None else f"is {_short(value)}, which is not of the right type"
            raise RowsError(f"{where}: field {path} {what}")


def primary_name(row: Row) -> str:
    """Name of a finished row's primary metric."""
    return next(name for name, metric in row["metrics"].items() if metric.get("primary"))


def cut_of(row: Row) -> tuple[Any, ...]:
    """What tells one cut of the data from another: names and sizes of the domains of a finished row.

    Clusters of different seeds are different domains even if they have one name.
    """
    domains = row["domains"]
    return tuple(domains["train"]), tuple(round(share, 9) for share in domains.get("train_shares") or ())


def is_scored(row: Row) -> bool:
    """Whether the row ended well and its primary metric is a finite number."""
    if row["status"] != "ok":
        return False
    value = row["metrics"][primary_name(row)]["target"]
    return isinstance(value, int | float) and math.isfinite(value)


def frame(rows: Sequence[Row]) -> pd.DataFrame:
    """One line a trial, sorted by id, with flat columns: spec, status, metrics (``<metric>.target``), overheads."""
    return pd.DataFrame([_flat(row) for row in sorted(rows, key=lambda r: r["id"])])


def as_csv(rows: Sequence[Row]) -> str:
    """:func:`frame` as CSV text."""
    return frame(rows).to_csv(index=False, lineterminator="\n")


def _flat(row: Row) -> Row:
    spec = row["spec"]
    flat: Row = {"id": row["id"], "status": row["status"], "reason": row.get("reason", "")}
    for key in ("task", "preset", "seed", "steps", "batch_size", "device", "dtype", "compile", "threads"):
        flat[key] = spec.get(key)
    flat["budget_rule"] = spec.get("budget_rule", "main")
    flat |= {"partition": spec["partition_label"], "mixer": spec["mixer_label"]}
    flat |= {"protocol": row["protocol"], "fingerprint": row.get("fingerprint")}
    for name, metric in (row.get("metrics") or {}).items():
        flat |= {f"{name}.{key}": metric.get(key) for key in ("target", "macro", "worst", "worst_domain")}
        flat |= {f"{name}.{domain}": value for domain, value in (metric.get("by_domain") or {}).items()}
    for section in ("training", "overhead", "measured"):
        values = row.get(section) or {}
        flat |= {f"{section}.{key}": v for key, v in values.items() if not isinstance(v, dict | list)}
    timing = (row.get("measured") or {}).get("timing") or {}
    flat |= {f"timing.{key}": value for key, value in timing.items() if not isinstance(value, dict | list)}
    provenance = row.get("provenance") or {}
    flat |= {key: provenance.get(key) for key in ("time", "commit", "dirty")}
    return flat
