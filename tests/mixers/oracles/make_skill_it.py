"""Writes skill_it.json: the official Skill-It trainer on recorded graphs and tapes of validation losses.

    git clone https://github.com/HazyResearch/skill-it && git -C skill-it checkout 807b3bf
    python tests/mixers/oracles/make_skill_it.py skill-it

Graphs and losses are drawn here; every expected mixture comes out of official functions. They are cut out of their
files, as they stand, because the files import a training framework: the whole of ``MWTrainer.train`` runs, with a model
that does nothing and an evaluator that answers with the tape, and ``set_proportions`` turns its weights into shares.
"""

from __future__ import annotations

import ast
import json
import re
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pandas as pd

UPDATES, UPDATE_STEPS = 6, 4
NOTE = {
    "repository": "https://github.com/HazyResearch/skill-it",
    "commit": "807b3bf7b11970f3a6fb6201cb37dcc1a3335f00",
    "functions": "trainer/mw_trainer.py MWTrainer.train; trainer/utils.py get_steps, aggregate_task_category; "
    "dataset/lego_dataset.py LegoDataset.set_proportions; dataset/utils.py get_weights_from_graph",
    "made_by": "tests/mixers/oracles/make_skill_it.py",
    "calls": "train(args with graph_path, eta, mw_window, target_mask or ni_test; the rest off), evaluations evenly "
    "spread over rounds of 4 steps; expected[0] is the first mixture, expected[t] that after round t; offline: "
    "get_weights_from_graph(args), which sets the diagonal to 1, where the graph has that diagonal and no mask",
    "tapes": "graph[i][j]: training on i helps target j; losses[e][j] of evaluation e, the first of a round after its "
    "first step; per_round evaluations a round",
}
CASES = (
    {"name": "window 1", "m": 4, "n": 4, "window": 1, "eta": 0.5},
    {"name": "window 3", "m": 4, "n": 4, "window": 3, "eta": 0.2},
    {"name": "window 3, large eta", "m": 7, "n": 7, "window": 3, "eta": 100.0, "scale": 0.01},
    {"name": "window 3, other targets", "m": 5, "n": 3, "window": 3, "eta": 0.2},
    {"name": "window 1, targets among the domains", "m": 5, "n": 2, "window": 1, "eta": 0.8, "mask": "01010"},
    {"name": "window 1, two evaluations a round", "m": 4, "n": 4, "window": 1, "eta": 0.5, "per_round": 2},
    {"name": "longer than the run", "m": 3, "n": 3, "window": 20, "eta": 0.2},
)


def cut(path: Path, name: str, namespace: dict) -> object:
    """The function of that name in an official file, compiled alone with these globals."""
    found = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]
    (function,) = [node for node in found if node.name == name]
    exec(compile(ast.Module(body=[function], type_ignores=[]), str(path), "exec"), namespace)
    return namespace[name]


class Data:
    """Stands for the training data: its official method keeps the shares that it is told."""

    sample_rule, n_segment, logger = "mixture", 1, mock.MagicMock()

    def __init__(self, m: int, method: object) -> None:
        self.n_var, self.method, self.shares = m, method, []

    def set_proportions(self, args: SimpleNamespace, weights: np.ndarray) -> None:
        self.method(self, args, weights)
        self.shares.append(self.proportions[0].tolist())


class Evaluator:
    """Answers each evaluation with two examples a target, half a unit above and below its loss, names in disorder."""

    def __init__(self, tape: list[list[float]], m: int, mask: str | None) -> None:
        self.tape, self.skills = iter(tape), list(range(len(tape[0])))
        if mask:
            self.skills = [i for i in range(m) if mask[i] == "1"]
        self.others = sorted(set(range(m)) - set(self.skills)) if mask else []

    def evaluate(self, *_: object) -> dict:
        losses = dict(zip(self.skills, next(self.tape), strict=True)) | dict.fromkeys(self.others, 99.0)
        values = {i: [SimpleNamespace(numpy=lambda x=x + d: x) for d in (0.5, -0.5)] for i, x in losses.items()}
        return dict(reversed(values.items()))


def case(checkout: Path, seed: int, *, name, m, n, window, eta, scale=1.0, mask=None, per_round=1) -> dict:
    rng = np.random.default_rng(seed)
    graph = np.round(scale * rng.uniform(0.0, 0.9, (m, n)), 4)
    graph[rng.random((m, n)) < 0.25] = 0.0
    if m == n:
        np.fill_diagonal(graph, 1.0 if scale == 1.0 else scale)
    fall = np.arange(1, (UPDATES + 1) * per_round + 1)[:, None] ** -rng.uniform(0.0, 0.5, n)
    losses = np.round(rng.uniform(1.5, 3.5, n) * fall + rng.normal(0.0, 0.05, fall.shape), 3)
    whole = graph
    if mask:  # the file holds all skills; the official code picks the targets' columns
        whole = np.round(rng.uniform(0.0, 0.9, (m, m)), 4)
        whole[:, [i for i in range(m) if mask[i] == "1"]] = graph
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "graph.npy", whole)
        args = SimpleNamespace(
            graph=None, graph_path=str(Path(folder) / "graph.npy"), k=m, eta=eta, mw_window=window, target_mask=mask,
            ni_test=m != n and not mask, mw=True, mw_prior=None, mw_init=None, initialize_loss=False,
            ignore_lone_nodes=False, normalize_loss=False, eta_schedule=False, dynamic_lambda=False,
            update_steps=UPDATE_STEPS, max_steps=(UPDATES + 1) * UPDATE_STEPS, num_ckpts=(UPDATES + 1) * per_round,
            batch_size=1, lr=0.0, task_name="tape", slicer=None, segment_proportions=None,
        )  # fmt: skip
        offline = None
        if m == n and scale == 1.0:
            method = cut(checkout / "dataset/utils.py", "get_weights_from_graph", {"np": np})
            offline = method(args).tolist()
        data = Data(m, cut(checkout / "dataset/lego_dataset.py", "set_proportions", {"np": np}))
        utils = checkout / "trainer/utils.py"
        train = cut(
            checkout / "trainer/mw_trainer.py",
            "train",
            {
                "np": np, "pd": pd, "tqdm": mock.MagicMock(), "wandb": mock.MagicMock(), "torch": mock.MagicMock(),
                "clip_grad_norm_": mock.MagicMock(), "create_optimizer_scheduler": lambda *_: [mock.MagicMock()] * 2,
                "get_train_dataset": lambda *_: data, "get_tokenized_train_dataset": mock.MagicMock(),
                "get_train_dataloader": lambda *_: [{}] * UPDATE_STEPS, "log_val_loss_per_skill": mock.MagicMock(),
                "get_steps": cut(utils, "get_steps", {}),
                "aggregate_task_category": cut(utils, "aggregate_task_category", {"pd": pd}),
            },
        )  # fmt: skip
        validation = SimpleNamespace(get_tokenized_dataset=lambda: (None, None))
        tape = [*losses.tolist(), losses[-1].tolist()]  # the last evaluation, after training, is only logged
        train(None, args, mock.MagicMock(), None, mock.MagicMock(), validation, Evaluator(tape, m, mask))
    return {
        "name": name, "eta": eta, "window": window, "per_round": per_round, "graph": graph.tolist(),
        "losses": losses.tolist(), "expected": data.shares, "offline": offline,
    }  # fmt: skip


def main() -> None:
    cases = [case(Path(sys.argv[1]), seed, **each) for seed, each in enumerate(CASES)]
    text = json.dumps({"note": NOTE, "cases": cases}, indent=1)
    text = re.sub(r"\[[^\[\]]*\]", lambda row: re.sub(r"\s+", " ", row[0]), text)  # one line a round
    Path(__file__).with_name("skill_it.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
