"""Writes doge.json: the official update of DoGE on recorded tapes of gradients.

    git clone https://github.com/Olivia-fsm/DoGE && git -C DoGE checkout 88400e9
    python tests/mixers/oracles/make_doge.py DoGE

The tapes are drawn here; every expected number comes out of the official method. It sits in a subclass of a trainer
whose module imports the authors' whole environment, so that it and the functions that it calls are cut out of the file
as they stand and run on a model of two parameters whose loss on a domain has a given gradient.
"""

from __future__ import annotations

import ast
import json
import math
import re
import sys
import types
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

STEPS, SHAPES = 14, ((2, 2), (2,))
WIDTH = sum(math.prod(shape) for shape in SHAPES)
METHOD = "update_domain_weights_distributed"
FUNCTIONS = ("get_model_grad_flat", "get_model_grad_dict", "add_model_grad_ls", "add_model_grad")
NOTE = {
    "repository": "https://github.com/Olivia-fsm/DoGE",
    "commit": "88400e9263dfdd69a24b28aec8533fcb1bf9363d",
    "file": "src/trainer.py",
    "made_by": "tests/mixers/oracles/make_doge.py",
    "calls": f"every step: DoGETrainer.{METHOD}(losses) on a stub that holds what __init__ and the data loader set "
    "(train_dw 1 / number of domains, avg_dw and flat_grad_mat zeros); losses[d] is 1 + <vectors[t][d], parameters>, "
    "and 0 where the batch lacks domain d. weights[t] = train_dw[train_ids] after step t, average = avg_dw / steps, "
    "step[t] = the gradient that the optimiser then gets",
    "tapes": "vectors[t][d] is the gradient of domain d in step t, null where the batch lacks it; train and targets "
    "are positions in it; rates[t] is the learning rate",
}


def official(clone: str) -> dict[str, Any]:
    """The method and the functions that it calls."""
    tree = ast.parse((Path(clone) / "src" / "trainer.py").read_text())
    (trainer,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "DoGETrainer")
    wanted = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in FUNCTIONS]
    wanted += [node for node in trainer.body if isinstance(node, ast.FunctionDef) and node.name == METHOD]
    assert len(wanted) == len(FUNCTIONS) + 1
    namespace: dict[str, Any] = {"torch": torch, "wandb": mock.MagicMock()}
    exec(compile(ast.Module(body=wanted, type_ignores=[]), "official", "exec"), namespace)
    return namespace


class Model(torch.nn.Module):
    """Parameters at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = torch.nn.ParameterList(torch.nn.Parameter(torch.zeros(shape)) for shape in SHAPES)

    def loss(self, vector: list[float] | None) -> torch.Tensor:
        if vector is None:
            return torch.tensor(0.0)
        return 1.0 + torch.tensor(vector) @ torch.cat([part.flatten() for part in self.parts])


def run(source: dict[str, Any], tape: dict[str, Any], arguments: dict[str, float]) -> dict[str, Any]:
    model, domains = Model(), len(tape["vectors"][0])
    train, targets = torch.tensor(tape["train"]), torch.tensor(tape["targets"])
    everyone = sorted({*tape["train"], *tape["targets"]})
    train_dw = torch.ones(domains) / len(everyone)
    train_dw[[d for d in everyone if d not in tape["train"]]] = 0.0
    stub = types.SimpleNamespace(
        model=model,
        args=types.SimpleNamespace(max_grad_norm=arguments["max_grad_norm"]),
        **{name: arguments[name] for name in ("mu", "dw_min", "dw_max", "reweight_eps")},
        domain_list=[f"domain {d}" for d in range(domains)],
        idx2domain={d: f"domain {d}" for d in range(domains)},
        train_ids=train,
        tgt_ids=targets,
        train_dw=train_dw,
        avg_dw=torch.zeros(domains),
        dw_update_steps=0,
        flat_grad_mat=torch.zeros(domains, WIDTH),
        iter_domain_losses=torch.zeros(domains),
        domain_update_counter={},
        selected_modules=None,
        use_apex=False,
        accelerator=types.SimpleNamespace(backward=lambda loss: loss.backward()),
        write_weights=lambda cur_weights, avg_weights: None,
    )
    weights, step = [], []
    for vectors, rate in zip(tape["vectors"], tape["rates"], strict=True):
        stub.lr_scheduler = types.SimpleNamespace(get_last_lr=lambda rate=rate: [rate])
        source[METHOD](stub, [model.loss(vector) for vector in vectors])
        weights.append(rounded(stub.train_dw[train]))
        step.append(rounded(torch.cat([part.grad.flatten() for part in model.parts])))
    average = rounded(stub.avg_dw[train] / stub.dw_update_steps)
    return {"weights": weights, "average": average, "step": step}


def rounded(values: torch.Tensor) -> list[float]:
    return [round(float(value), 12) for value in values]


def tape(seed: int, m: int, targets: list[int], peak: float, *, present: float = 1.0, never: int = -1) -> dict:
    """Domains that share a direction, each by another amount, some of them against it; the last rows are targets."""
    rng = np.random.default_rng(seed)
    rows = max(m, max(targets) + 1)
    shared, own = rng.normal(size=WIDTH), rng.normal(size=(rows, WIDTH))
    amount = rng.uniform(-0.6, 1.5, (rows, 1))
    amount[targets] = np.abs(amount[targets]) + 0.3
    vectors: list[list[list[float] | None]] = []
    for _ in range(STEPS):
        gradients = amount * shared + 0.7 * own + 0.4 * rng.normal(size=(rows, WIDTH))
        there = rng.random(rows) < present
        there[never] &= never < 0
        there[targets[0]] = True
        vectors.append(
            [np.round(g, 3).tolist() if is_there else None for g, is_there in zip(gradients, there, strict=True)]
        )
    warmup = np.minimum(1.0, np.arange(STEPS) / 4)
    rates = peak * warmup * (0.6 + 0.4 * np.cos(np.pi * np.arange(STEPS) / STEPS))
    return {
        "train": list(range(m)),
        "targets": targets,
        "rates": [round(float(rate), 9) for rate in rates],
        "vectors": vectors,
    }


def main() -> None:
    torch.set_default_dtype(torch.float64)
    source = official(sys.argv[1])
    tapes = {
        "universal": tape(1, 5, [5], 1e-2),
        "out of domain": tape(2, 6, [6], 1e-2),
        "targets are the training domains": tape(3, 4, [0, 1, 2, 3], 1e-2),
        "a domain without data": tape(4, 5, [5], 1e-2, never=2),
        "batches that lack domains": tape(5, 6, [6], 1e-2, present=0.5),
    }
    defaults = {"mu": 0.05, "dw_min": 0.0, "dw_max": 5.0, "reweight_eps": 0.0, "max_grad_norm": 1.0}
    cases = [
        {"tape": name, "arguments": defaults | changed, **run(source, tapes[name], defaults | changed)}
        for name, changed in (
            ("universal", {"mu": 0.01, "max_grad_norm": 5.0}),
            ("universal", {"max_grad_norm": 0.0, "dw_max": 0.8, "reweight_eps": 0.1}),
            ("out of domain", {}),
            ("out of domain", {"dw_min": -5.0}),
            ("targets are the training domains", {"max_grad_norm": 0.0, "dw_max": 40.0}),
            ("a domain without data", {"mu": 0.02}),
            ("batches that lack domains", {"mu": 0.02}),
        )
    ]
    text = json.dumps({"note": NOTE, "tapes": tapes, "cases": cases}, indent=1)
    text = re.sub(r"\[[^\[\]]*\]", lambda row: re.sub(r"\s+", " ", row[0]), text)
    Path(__file__).with_name("doge.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
