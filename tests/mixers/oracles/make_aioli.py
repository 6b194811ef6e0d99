"""Writes aioli.json: the official trainer of Aioli on recorded tapes of loss drops.

    git clone https://github.com/HazyResearch/aioli && git -C aioli checkout a236112
    python tests/mixers/oracles/make_aioli.py aioli

The tapes are drawn here; every expected mixture and matrix comes out of ``AioliTrainer.train``, which runs whole. Its
model, data and evaluator are stubs: the model has no parameters, the evaluator answers from the tape. The modules that
it imports for optimisers and real data are replaced by empty ones.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import itertools
import json
import re
import sys
import types
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import torch

ROUNDS = 6
NOTE = {
    "repository": "https://github.com/HazyResearch/aioli",
    "commit": "a2361123335cb91d68f5ad86a6c85de7a79e6d5e",
    "file": "trainer/aioli_trainer.py",
    "made_by": "tests/mixers/oracles/make_aioli.py",
    "calls": "AioliTrainer(args, ...).train() with args of a case and aioli_normalize_A=True, aioli_diagonal=False, no "
    "prior; probes are the mixtures that it set in LearnParams, expected[r] the mixture that it set for the rest of "
    "round r (both through set_proportions of dataset/slimpj_dataset.py, which divides by the sum), matrices[r] its "
    "normalised A of round r, before any averaging",
    "tapes": "begin[r][i] is the validation loss of domain i before round r; drops[r][s][j][i] by how much the probe "
    "of domain j lowers it in sweep s, whatever the order in which a sweep takes the probes",
}
CASES: tuple[tuple[str, dict[str, Any]], ...] = (
    # what the scripts use, with and without their average
    ("two", {"eta": 0.2, "ema": 0.1, "one_hot_factor": 0.625, "lp_rounds": 4, "lp_steps": 4, "update_steps": 250}),
    ("two", {"eta": 0.2, "ema": None, "one_hot_factor": 0.625, "lp_rounds": 4, "lp_steps": 4, "update_steps": 250}),
    ("three", {"eta": 0.1, "ema": 0.5, "one_hot_factor": 0.5, "lp_rounds": 4, "lp_steps": 6, "update_steps": 250}),
    ("three", {"eta": 2.0, "ema": None, "one_hot_factor": 0.5, "lp_rounds": 4, "lp_steps": 6, "update_steps": 250}),
    ("seven", {"eta": 1.0, "ema": 0.1, "one_hot_factor": 0.75, "lp_rounds": 2, "lp_steps": 10, "update_steps": 200}),
    ("seven", {"eta": 1.0, "ema": None, "one_hot_factor": 0.75, "lp_rounds": 2, "lp_steps": 10, "update_steps": 200}),
)


def official(clone: Path) -> tuple[type, Any]:
    """The trainer's class, and the data set's function that sets the mixture."""
    utils = types.ModuleType("official.utils")
    utils.get_steps = lambda args: (10**9, args.max_steps)
    utils.get_tokenized_val_dataset = lambda args, data: None
    utils.create_optimizer_scheduler = lambda *arguments: (mock.MagicMock(), mock.MagicMock())
    utils.get_tokenized_train_dataset = lambda args, data, n, mapped_train=None: data.about_to_train(mapped_train)
    utils.get_train_dataloader = lambda *arguments: itertools.repeat(mock.MagicMock())
    utils.save_model_and_optimizer = None
    package = types.ModuleType("official")
    package.__path__ = [str(clone / "trainer")]
    replaced = {"official": package, "official.utils": utils, "wandb": mock.MagicMock(), "tqdm": mock.MagicMock()}
    with mock.patch.dict(sys.modules, replaced):
        module = importlib.import_module("official.aioli_trainer")
    tree = ast.parse((clone / "dataset" / "slimpj_dataset.py").read_text())
    named = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "set_proportions"]
    scope: dict[str, Any] = {"np": np}
    exec(compile(ast.Module(body=named, type_ignores=[]), "slimpj_dataset.py", "exec"), scope)
    return module.AioliTrainer, scope["set_proportions"]


class Model:
    """Without parameters; counts its steps."""

    steps = 0

    def __call__(self, **batch: Any) -> Any:
        self.steps += 1
        return types.SimpleNamespace(loss=torch.zeros(1, requires_grad=True))

    def parameters(self) -> list[Any]:
        return []

    def train(self) -> None:
        pass

    def zero_grad(self) -> None:
        pass


class Data:
    """The official function sets its ``proportions``; keeps those of the probes and those of the rounds."""

    sample_rule = "mixture"

    def __init__(self, m: int, set_proportions: Any) -> None:
        self.k, self.skills, self.logger = m, [f"domain {i}" for i in range(m)], mock.MagicMock()
        self.set_proportions = types.MethodType(set_proportions, self)
        self.probes: dict[int, list[float]] = {}
        self.mixtures: list[list[float]] = []

    def about_to_train(self, mapped_train: bool | None) -> None:
        if mapped_train is None:
            self.mixtures.append(self.proportions.tolist())
        else:
            self.probe = int(self.proportions.argmax())
            self.probes[self.probe] = self.proportions.tolist()


class Evaluator:
    """Answers from the tape: a new round's losses, or what the last probe left of them."""

    result_path = "none"

    def __init__(self, tape: dict[str, Any], model: Model, data: Data, lp_steps: int) -> None:
        self.tape, self.model, self.data, self.lp_steps, self.round = tape, model, data, lp_steps, -1

    def evaluate(self, tokenized: Any, counter: int, weights: Any, split: str, do_not_log: bool = False) -> Any:
        if do_not_log:
            assert self.model.steps - self.before == self.lp_steps
            j = self.data.probe
            self.losses = self.losses - np.array(self.tape["drops"][self.round][self.sweep[j]][j])
            self.sweep[j] += 1
        elif self.round + 1 < ROUNDS:
            self.round, self.sweep = self.round + 1, [0] * self.data.k
            self.losses = np.array(self.tape["begin"][self.round])
        self.before = self.model.steps
        return pd.DataFrame({"task_idx": self.data.skills, "task_loss": self.losses})


def tape(seed: int, m: int, sweeps: int) -> dict[str, Any]:
    """In the first two rounds all domains help each other; then there is more noise than help, and some do harm."""
    rng = np.random.default_rng(seed)
    helped = rng.uniform(0.1, 0.3, (m, m)) + np.diag(rng.uniform(0.0, 0.5, m))
    mixed = (0.25 * np.eye(m) + 0.75 / m) @ helped
    fade = 1.0 / (1.0 + np.arange(ROUNDS))[:, None, None, None]
    noise = np.where(np.arange(ROUNDS) < 2, 0.002, 0.05)[:, None, None, None]
    drops = fade * mixed + noise * rng.normal(size=(ROUNDS, sweeps, m, m))
    begin = rng.uniform(2.0, 4.0, m) * (1.0 + np.arange(ROUNDS))[:, None] ** -0.2
    return {"begin": np.round(begin, 4).tolist(), "drops": np.round(drops, 4).tolist()}


def play(trainer: type, set_proportions: Any, tape: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
    m = len(tape["begin"][0])
    unused = dict.fromkeys(("graph_path", "aioli_prior", "break_steps", "skillit_eta", "prior_steps", "lr", "end_lr"))
    unused |= dict.fromkeys(("lr_scheduler", "warmup_steps", "selection_seed"))
    args = types.SimpleNamespace(
        k=m,
        batch_size=8,
        slice_list=[],
        max_steps=ROUNDS * arguments["update_steps"],
        aioli_normalize_A=True,
        aioli_diagonal=False,
        **arguments,
        **unused,
    )
    model, data = Model(), Data(m, set_proportions)
    evaluator = Evaluator(tape, model, data, args.lp_steps)
    np.random.seed(0)  # noqa: NPY002 - the official code draws its order from here
    made = trainer(args, mock.MagicMock(), None, model, None, None, data, evaluator)
    with contextlib.redirect_stdout(io.StringIO()):
        made.train()
    assert model.steps == args.max_steps
    assert evaluator.sweep == [args.lp_rounds] * m
    return {
        "probes": [data.probes[j] for j in range(m)],
        "expected": np.round(data.mixtures, 12).tolist(),
        "matrices": np.round(made.all_graphs, 12).tolist(),
    }


def main() -> None:
    trainer, set_proportions = official(Path(sys.argv[1]))
    tapes = {"two": tape(1, 2, 4), "three": tape(2, 3, 4), "seven": tape(3, 7, 2)}
    cases = [
        {"tape": name, "arguments": arguments, **play(trainer, set_proportions, tapes[name], arguments)}
        for name, arguments in CASES
    ]
    text = json.dumps({"note": NOTE, "tapes": tapes, "cases": cases}, indent=1)
    text = re.sub(r"\[[^\[\]]*\]", lambda row: re.sub(r"\s+", " ", row[0]), text)
    Path(__file__).with_name("aioli.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
