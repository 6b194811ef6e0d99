"""Tables as the RegMix repository publishes them: mixtures and losses in separate files, joined by index."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from tasks.base import TaskError
from tasks.sources.tables import Entry, Table, lines, named, number, table_of

_PILE = "the_pile_"
_MIXTURES = re.compile(r"^(?P<split>[A-Za-z]+)_mixture_(?P<size>[^_]+)\.csv$")
_LOSSES = re.compile(r"^(?P<split>[A-Za-z]+)_.*loss_(?P<size>[^_]+)\.csv$")
# Of one run, by size. 1M: 1,000 steps of 512 x 2,048 tokens in the released script; the paper calls these runs, and
# those of 60M, runs of 1B tokens, and those of 1B of 25B. That 60M had as many is the least certain.
TOKENS = {"1m": 1000 * 512 * 2048.0, "60m": 1000 * 512 * 2048.0, "1b": 25e9}


def holds(path: Path) -> bool:
    """Whether a folder looks like such tables."""
    return path.is_dir() and any(_MIXTURES.match(file.name) for file in path.iterdir())


def read(
    path: Path, *, parameters: Mapping[str, float] | None = None, tokens: float | Mapping[str, float] | None = None
) -> Table:
    """All sizes and splits of a folder: ``SPLIT_mixture_SIZE.csv`` with ``SPLIT_..._loss_SIZE.csv`` beside it.

    Source: sail-sg/regmix b004d3a, ``data/``. Columns of mixtures are ``index`` and ``train_<domain>``, those of losses
    ``index`` and ``metric/<target>_val_loss``; ``the_pile_`` is dropped from names where all have it, so that domains
    and targets of one name are one. Seventeen domains there, of which thirteen have a loss. Proportions are rounded to
    three digits and are normalised. ``1m`` and ``1B`` are the names of models whose other parameters, embeddings above
    all, are not counted: 25.8 M more in the case of 1M. A file without its other half is left out, with a note.
    """
    mixtures, losses = _files(path, _MIXTURES), _files(path, _LOSSES)
    if not mixtures:
        raise TaskError(f"{path} holds no file such as train_mixture_1m.csv; give RegMix's folder data/, or a CSV file")
    notes = []
    for files, theirs, half in ((mixtures, losses, "..._loss"), (losses, mixtures, "mixture")):
        for (split, size), found in files.items():
            if (split, size) not in theirs:
                notes += [f"left out {file.name}: no file {split}_{half}_{size}.csv beside it" for file in found]
    pairs = [key for key in mixtures if key in losses]
    if not pairs:
        raise TaskError(f"{path} holds no mixtures with their losses ({notes[0]}); add the other half of a pair")
    entries = [entry for key in pairs for entry in _entries(*key, mixtures[key][0], losses[key])]
    known = {size: TOKENS.get(size.lower(), 0.0) for _, size in pairs}
    return table_of(entries, parameters=parameters, tokens=tokens, known_tokens=known, notes=notes)


def _files(path: Path, pattern: re.Pattern[str]) -> dict[tuple[str, str], list[Path]]:
    """(split, size) -> the files whose names say so, in the order of their names."""
    found: dict[tuple[str, str], list[Path]] = {}
    for file in sorted(path.iterdir()):
        if match := pattern.match(file.name):
            found.setdefault((match["split"], match["size"]), []).append(file)
    return found


def _entries(split: str, size: str, file: Path, partners: Sequence[Path]) -> list[Entry]:
    """The runs of one split at one size: its mixtures, and its losses, which stand in one file."""
    if len(partners) > 1:
        raise TaskError(
            f"{file.parent} holds {len(partners)} files {split}_..._loss_{size}.csv beside {file.name}; it takes one"
        )
    mixtures, losses = _by_index(file, "train_", ""), _by_index(partners[0], "metric/", "_val_loss")
    for ours, other, theirs in ((mixtures, partners[0], losses), (losses, file, mixtures)):
        for index, (where, _) in ours.items():
            if index not in theirs:
                raise TaskError(f"{where}: index {index} is not in {other.name}; add it there, or drop it here")
    return [
        Entry(run=f"{split} {index}", where=where, shares=shares, losses=losses[index][1], size=size, split=split)
        for index, (where, shares) in mixtures.items()
    ]


def _by_index(file: Path, prefix: str, suffix: str) -> dict[str, tuple[str, dict[str, float]]]:
    """Index -> (file and line, value by name)."""
    found: dict[str, tuple[str, dict[str, float]]] = {}
    for where, cells in lines(file):
        columns = named(list(cells), prefix, suffix)
        if "index" not in cells or not columns:
            raise TaskError(f"{file}:1: expected the columns 'index' and '{prefix}<name>{suffix}'; mend the first line")
        if all(name.startswith(_PILE) and name != _PILE for name in columns.values()):
            columns = {column: name.removeprefix(_PILE) for column, name in columns.items()}
        index = cells["index"].strip()
        if index in found:
            raise TaskError(f"{where}: index {index} stands twice; drop one of them")
        empty = prefix != "train_"
        found[index] = where, {name: number(cells, column, where, empty=empty) for column, name in columns.items()}
    if not found:
        raise TaskError(f"{file} holds no runs below its first line; add some, or take the file away")
    return found
