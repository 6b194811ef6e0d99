"""Synthetic rows for the leaderboard's tests: the shape of a real row, with scores that a test chooses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

DOMAINS = ("code", "speeches", "quotations")


def row(
    mixer: str = "uniform",
    seed: int = 0,
    score: float = 2.0,
    *,
    partition: str = "original",
    label: str | None = None,
    domains: tuple[str, ...] = DOMAINS,
    train: tuple[str, ...] | None = None,
    requested: list[Any] | None = None,
    fingerprint: str = "sha256:aaaabbbbcccc",
    protocol: int = 1,
    timing: dict[str, Any] | None = None,
    counted: float = 0.0,
    regrouping: float = 0.0,
    paper: float | None = None,
    **spec: Any,
) -> dict[str, Any]:
    """A finished trial. ``score`` is the primary metric under the target shares."""
    label = label or mixer
    train = train or (domains if partition == "original" else tuple(f"cluster-{i}" for i in range(4)))
    m = len(train)
    by_domain = {name: score + 0.1 * (i - 1) for i, name in enumerate(domains)}
    last = list(by_domain)[-1]
    weights = [1 / m] * m
    return {
        "row_version": 1,
        "protocol": protocol,
        "id": f"{spec.get('task', 'text')}-nano-{partition}-{label}-s{seed}",
        "cell": f"{spec.get('task', 'text')}-nano-{partition}-{label}",
        "status": "ok",
        "reason": "",
        "spec": {
            "task": "text", "task_config": {}, "preset": "nano", "partition": partition.split("[")[0],
            "partition_config": {}, "partition_label": partition, "mixer": mixer, "mixer_config": {"label": label},
            "mixer_label": label, "seed": seed, "steps": 1000, "batch_size": 8, "device": "cpu", "dtype": "float32",
            "compile": False, "threads": 1, "recipe": {"learning_rate": 0.002},
        } | spec,
        "fingerprint": fingerprint,
        "fingerprint_expected": fingerprint,
        "domains": {
            "original": list(domains), "train": list(train), "targets": list(train), "train_shares": weights,
            "target_shares": weights, "original_target_shares": [1 / len(domains)] * len(domains),
            "examples": [100] * m,
        },
        "partition_report": {},
        "mixer_report": {},
        "metrics": {
            "bits_per_byte": {
                "unit": "bits/byte", "higher_is_better": False, "primary": True, "target": score,
                "macro": score + 0.05, "worst": by_domain[last], "worst_domain": last, "by_domain": by_domain,
            },
            "accuracy": {
                "unit": "share", "higher_is_better": True, "primary": False, "target": 0.5 - score / 10,
                "macro": 0.3, "worst": 0.2, "worst_domain": last, "by_domain": dict.fromkeys(domains, 0.3),
            },
        },
        "mixture": {
            "requested": requested or [[0, weights]], "realised": weights, "examples_drawn": [8000 // m] * m,
            "epochs": [1.5] * m, "entropy": [float(np.log(m))], "largest": [1 / m],
        },
        "training": {"examples": 8000, "units": 1024000, "final_train_loss": 3.0},
        "overhead": {
            "training_flops": 7e12, "mixing_flops": 7e12 * counted, "regrouping_flops": 7e12 * regrouping,
            "counted_share": counted, "regrouping_share": regrouping, "paper_share": paper,
        },
        "measured": {
            "seconds": 71.2, "train_seconds": 70.0, "mixer_seconds": 0.02,
            "regroup_seconds": 0.4 if regrouping else 0.0, "embedding_seconds": 0.6 if regrouping else 0.0,
            "eval_seconds": 1.0, "timing": timing,
        },
        "provenance": {
            "time": "2026-01-01T00:00:00Z", "commit": "0123456789abcdef", "dirty": False, "versions": {"torch": "2.11"},
            "hardware": {"cpu": "Some CPU", "cores": 2, "gpu": None},
        },
    }  # fmt: skip


def failed(mixer: str = "rnb", seed: int = 0, status: str = "timeout", reason: str = "ran past 60 s", **kw: Any) -> Any:
    """A trial that ended without a score."""
    made = row(mixer, seed, **kw)
    empty = dict.fromkeys(("metrics", "mixture", "training", "overhead", "domains", "fingerprint"))
    return made | empty | {"status": status, "reason": reason}


def series(mixer: str, scores: list[float], **kw: Any) -> list[dict[str, Any]]:
    """One row a seed."""
    return [row(mixer, seed, score, **kw) for seed, score in enumerate(scores)]


def write_run(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """A run folder with one file a row."""
    (folder / "rows").mkdir(parents=True, exist_ok=True)
    for one in rows:
        (folder / "rows" / f"{one['id']}.json").write_text(json.dumps(one))
    return folder


def grid(seeds: int = 5, m: int = 7) -> list[dict[str, Any]]:
    """A board as it comes out of a real run: three partitions, five mixers, one of them dynamic."""
    rng = np.random.default_rng(0)
    names = ("docstrings", "source", "tests", "headers", "speeches", "scripture", "quotations", *map(str, range(9)))[:m]
    effect = {"uniform": 0.0, "natural": 0.06, "target": -0.045, "unimax": 0.012, "rnb": -0.02, "rnb[lam=10]": -0.018}
    rows = []
    for partition, k in (("original", m), ("kmeans[k=8]", 8), ("random[k=8]", 8)):
        train = tuple(names) if partition == "original" else tuple(f"cluster-{i}" for i in range(k))
        for label, shift in effect.items():
            for seed in range(seeds):
                noise = np.random.default_rng(seed).normal(0, 0.01) + rng.normal(0, 0.004)
                dynamic = label.startswith("rnb")
                walk = np.cumsum(rng.normal(0, 0.25, (10 if dynamic else 1, k)), axis=0)
                weights = np.exp(walk) / np.exp(walk).sum(1, keepdims=True)
                timing = {"step_overhead": 0.011, "low": 0.006, "high": 0.016, "memory_overhead": 0.004}
                one = row(
                    label.split("[")[0], seed, 2.0 + shift + noise + (0.01 if partition != "original" else 0),
                    partition=partition, label=label, domains=tuple(names), train=train,
                    requested=[[100 * i, w.tolist()] for i, w in enumerate(weights)],
                    counted=0.0053 if dynamic else 0.0, paper=9e-5 if dynamic else None,
                    regrouping=0.0 if partition == "original" else 0.0004, timing=timing if dynamic else None,
                )  # fmt: skip
                if partition != "original":
                    cut = np.random.default_rng([seed, len(partition)])
                    one["domains"]["train_shares"] = cut.dirichlet([5] * k).tolist()
                rows.append(one)
    return rows
