"""Tables for tests: a world whose losses are known, written as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

DOMAINS = ("code", "prose", "maths")
TARGETS = ("prose", "exams")


def truth(mixtures: np.ndarray, size: str = "10m") -> np.ndarray:
    """[k, 2] losses of [k, 3] mixtures: each falls with its own domain; smaller models lose more."""
    scale = {"1m": 1.3, "10m": 1.0}.get(size, 1.0)
    prose = 1.0 + np.exp(0.5 - 2.0 * mixtures[:, 1])
    exams = 2.0 + np.exp(0.3 - 1.0 * mixtures[:, 0] - 3.0 * mixtures[:, 2])
    return scale * np.stack([prose, exams], axis=1)


def mixtures_of(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(3), rows).round(4)


def write_csv(path: Path, sizes: dict[str, int], *, noise: float = 0.0, header: str = "") -> Path:
    """A plain CSV with so many runs of each size."""
    rng = np.random.default_rng(1)
    text = [header or "run,size,w_code,w_prose,w_maths,loss_prose,loss_exams"]
    for place, (size, rows) in enumerate(sizes.items()):
        mixtures = mixtures_of(rows, seed=place)
        losses = truth(mixtures, size) + noise * rng.standard_normal((rows, 2))
        for i, (mixture, loss) in enumerate(zip(mixtures, losses, strict=True)):
            cells = [f"{size}-{i}", size, *(f"{x:.4f}" for x in mixture), *(f"{x:.6f}" for x in loss)]
            text.append(",".join(cells))
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
    return path


def write_regmix(folder: Path, sizes: dict[str, int], *, splits: tuple[str, ...] = ("train", "test")) -> Path:
    """RegMix's layout with four domains, two of which have a loss."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ("web", "law", "code", "irc")
    for place, (size, rows) in enumerate(sizes.items()):
        for half, split in enumerate(splits):
            mixtures = np.random.default_rng(10 * place + half).dirichlet(np.ones(4), rows).round(3)
            losses = np.stack([3 - mixtures[:, 0], 2 - mixtures[:, 1]], axis=1)
            shares = ["index," + ",".join(f"train_the_pile_{name}" for name in names)]
            results = ["index," + ",".join(f"metric/the_pile_{name}_val_loss" for name in ("law", "web"))]
            for i in range(rows):
                shares.append(f"{i}," + ",".join(map(str, mixtures[i])))
                results.append(f"{i},{losses[i, 1]:.5f},{losses[i, 0]:.5f}")
            (folder / f"{split}_mixture_{size}.csv").write_text("\n".join(shares) + "\n", encoding="utf-8")
            (folder / f"{split}_pile_loss_{size}.csv").write_text("\n".join(results), encoding="utf-8")
    return folder
