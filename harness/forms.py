"""A mixture in the forms that trainers take.

A mixture holds shares of the *examples drawn*. What the other forms mean by a weight was read in their code:

- ``datasets.interleave_datasets`` (datasets 5.2): ``probabilities[i]`` is the chance that the next example comes from
  source i. With ``all_exhausted`` it refuses a probability of zero (earlier versions never end).
- open_clip (3.3, ``ResampledShards2``): a *shard* is drawn with replacement with a chance in proportion to its source's
  factor, and all of its samples are read. A source of n samples so gives a share in proportion to factor x n, however
  they are spread over shards, and the factor that gives share w is w / (share of n), up to scale.
- MosaicML Streaming (``Stream(proportion=...)``): samples of a stream an epoch, relative to all streams' proportions.

Domains of weight zero are left out of all three.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml

from harness.errors import UserError
from mixers.base import Array

UNIT = "weights are shares of the examples drawn, not of tokens or bytes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A mixture: weights [m] and, where the mixer sets them, loss weights [m]."""

    weights: Array
    loss_weights: Array | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What is to be written. points: (first step, mixture), one of them unless ``which`` is ``schedule``.

    train_shares: [m] share of each domain in the training examples. meaning, notes: sentences for the reader.
    """

    which: str
    domains: tuple[str, ...]
    points: tuple[tuple[int, Point], ...]
    train_shares: list[float]
    meaning: str
    notes: tuple[str, ...]
    provenance: dict[str, Any]


def _as_json(chosen: Chosen) -> str:
    single = chosen.points[0][1]
    data: dict[str, Any] = {"which": chosen.which, "meaning": chosen.meaning, "unit": UNIT}
    data["domains"] = list(chosen.domains)
    if chosen.which == "schedule":
        data["schedule"] = [[step, point.weights.tolist()] for step, point in chosen.points]
        if any(point.loss_weights is not None for _, point in chosen.points):
            ones = np.ones(len(chosen.domains))
            data["loss_weight_schedule"] = [
                [step, (ones if point.loss_weights is None else point.loss_weights).tolist()]
                for step, point in chosen.points
            ]
    else:
        data["weights"] = single.weights.tolist()
        if single.loss_weights is not None:
            data["loss_weights"] = single.loss_weights.tolist()
    data |= {"train_shares": chosen.train_shares, "notes": list(chosen.notes), "provenance": chosen.provenance}
    return _laid_out(data) + "\n"


def _laid_out(value: Any, depth: int = 1) -> str:
    """JSON with a line a key and a line an entry of a list of lists; other lists are in one line."""
    pad, end = "\n" + " " * depth, "\n" + " " * (depth - 1)
    if isinstance(value, dict) and value:
        return "{" + ",".join(f"{pad}{_in_line(k)}: {_laid_out(v, depth + 1)}" for k, v in value.items()) + end + "}"
    if isinstance(value, list) and any(isinstance(item, list) for item in value):
        return "[" + ",".join(pad + _in_line(item) for item in value) + end + "]"
    return _in_line(value)


def _in_line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _as_interleave(chosen: Chosen) -> str:
    drawn = _drawn(chosen)
    names = ", ".join(json.dumps(chosen.domains[i], ensure_ascii=False) for i in drawn)
    shares = ", ".join(repr(float(chosen.points[0][1].weights[i])) for i in drawn)
    return f'''{_header(chosen, "interleave_datasets")}
# With all_exhausted small domains repeat and the shares hold to the end; with first_exhausted they hold until the first
# domain ends; all_exhausted_without_replacement does not keep them.
from datasets import interleave_datasets

names = [{names}]
probabilities = [{shares}]


def mixed(sources, seed=0, stopping_strategy="all_exhausted"):
    """One data set drawn by the probabilities from sources, a dict of name -> Dataset (or of IterableDataset)."""
    return interleave_datasets(
        [sources[name] for name in names], probabilities=probabilities, seed=seed, stopping_strategy=stopping_strategy
    )
'''


def _as_open_clip(chosen: Chosen) -> str:
    drawn, weights, shares = _drawn(chosen), chosen.points[0][1].weights, chosen.train_shares
    if len(shares) != len(chosen.domains) or any(shares[i] <= 0 for i in drawn):
        raise UserError("--format open_clip needs the size of every domain, and the row lacks them (train_shares)")
    factors = [f"{weights[i] / shares[i]:.10g}" for i in drawn]
    table = "\n".join(
        f"# {_line(chosen.domains[i])}: weight {weights[i]:.6g} / train share {shares[i]:.6g} = factor {factor}"
        for i, factor in zip(drawn, factors, strict=True)
    )
    sources = "::".join(f"{name}.tar" for name in _file_names([chosen.domains[i] for i in drawn]))
    return f"""{_header(chosen, "open_clip")}
# Put each domain's shards in the place of its .tar, in this order ({{000..009}}.tar is one source of ten shards). The
# factors hold for sources of the trial's relative sizes; for others divide the weight by the source's share of samples.
# --train-num-samples sets the length of an epoch, unless sizes.json beside the first source names the shards of all.
{table}
python -m open_clip_train.main \\
  --dataset-type webdataset --dataset-resampled \\
  --train-data {shlex.quote(sources)} \\
  --train-data-upsampling-factors {"::".join(factors)}
"""


def _as_mosaicml(chosen: Chosen) -> str:
    drawn = _drawn(chosen)
    names = [chosen.domains[i] for i in drawn]
    weights = [float(chosen.points[0][1].weights[i]) for i in drawn]
    parts = zip(names, _file_names(names), weights, strict=True)
    streams = {"streams": {name: {"local": file, "proportion": weight} for name, file, weight in parts}}
    text = yaml.safe_dump(streams, sort_keys=False, allow_unicode=True, width=1000)
    return f"""{_header(chosen, "MosaicML Streaming")}
# Put the folder of each domain's shards in the place of `local` (and `remote`). Every entry holds the arguments of one
# streaming.Stream; LLM Foundry takes them under train_loader.dataset.
{text}"""


FORMS: dict[str, Callable[[Chosen], str]] = {
    "json": _as_json,
    "interleave": _as_interleave,
    "open_clip": _as_open_clip,
    "mosaicml": _as_mosaicml,
}


def _drawn(chosen: Chosen) -> list[int]:
    """Indices of the domains that are drawn from at all."""
    return np.flatnonzero(chosen.points[0][1].weights > 0).tolist()


def _header(chosen: Chosen, trainer: str) -> str:
    """Comments above a trainer's form: what this is, and what of it the form cannot carry."""
    made, point = chosen.provenance, chosen.points[0][1]
    changed = " with uncommitted changes" if made["uncommitted_changes"] else ""
    metric, seeds = made["metric"], ", ".join(map(str, made["seeds"]))
    lines = [
        f"{made['mixer_label']} on {made['task']} ({made['preset']}), {made['partition_label']}, seed {seeds}: "
        f"{metric['name']} {metric['test']:.4f} on test",
        *(f"row {name}" for name in made["rows"]),
        f"commit {made['commit']}{changed}, data {made['fingerprint']}",
        f"{chosen.meaning}; {UNIT}",
        *(f"NOTE: {note}" for note in chosen.notes),
    ]
    left_out = [name for name, weight in zip(chosen.domains, point.weights, strict=True) if weight <= 0]
    lines += [f"left out, weight 0: {name}" for name in left_out]
    if point.loss_weights is not None:
        lines.append(
            f"WARNING: {trainer} cannot carry this mixture's loss weights. Without them this is another mixture: "
            "multiply the loss of each example by its domain's"
        )
        pairs = zip(chosen.domains, point.loss_weights.tolist(), strict=True)
        lines += [f"  loss weight {weight!r}: {name}" for name, weight in pairs if name not in left_out]
    return "\n".join(f"# {_line(line)}" for line in lines)


def _line(text: str) -> str:
    """The text without line breaks and other control characters, which would end a comment or are not allowed there."""
    return "".join(character if character.isprintable() else " " for character in text)


def _file_names(domains: Sequence[str]) -> list[str]:
    """A distinct name of plain characters for every domain."""
    names = [re.sub(r"[^\w.\-]+", "_", domain) for domain in domains]
    return names if len(set(names)) == len(names) else [f"{i}-{name}" for i, name in enumerate(names)]
