"""Writes doremi.json: the official trainer of DoReMi on recorded tapes of token losses.

    git clone https://github.com/sangmichaelxie/doremi && git -C doremi checkout 7cde52d
    python tests/mixers/oracles/make_doremi.py doremi

The tapes are drawn here. Weights and averages come out of ``DoReMiTrainer.training_step``, which runs whole, in a gloo
group of one process; the buffers that it starts from come out of the statements of ``doremi/train.py`` that register
them. The trainer's base class and its modules of models and real data are replaced by empty ones.
"""

from __future__ import annotations

import ast
import contextlib
import enum
import importlib.util
import json
import re
import sys
import types
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import distributed, nn

STEPS, LENGTH = 12, 4
NOTE = {
    "repository": "https://github.com/sangmichaelxie/doremi",
    "commit": "7cde52d1848737aa967ecbdb9e643cf334de160d",
    "files": "doremi/trainer.py, doremi/train.py (its four register_buffer statements)",
    "made_by": "tests/mixers/oracles/make_doremi.py",
    "calls": "DoReMiTrainer.training_step(model, inputs) for every batch of a tape, in float32, with reweight_eta, "
    "reweight_eps and a tokenizer of so many words from the case, uniform sampling weights, one process and no "
    "accumulation; weights[t] is model.train_domain_weights after batch t, average model.avg_domain_weights after the "
    "last, loss[t] what the step returned, gradient[t][b] the sum over the counted tokens of example b of the gradient "
    "of that loss in the tokens' losses (what the example weighs in it)",
    "tapes": "labels[t][b] is the domain of example b of batch t; losses, reference and mask [t][b] are by token",
}
CASES = (
    ("every domain in every batch", {"reweight_eta": 1.0, "reweight_eps": 1e-3, "words": 50257}),
    ("every domain in every batch", {"reweight_eta": 0.1, "reweight_eps": 0.02, "words": 50257}),
    ("domains absent after the first batch", {"reweight_eta": 1.0, "reweight_eps": 1e-3, "words": 50257}),
    ("more domains than examples", {"reweight_eta": 0.3, "reweight_eps": 1e-3, "words": 50257}),
    ("more domains than examples", {"reweight_eta": 1.0, "reweight_eps": 1e-3, "words": 1}),
    ("examples of several lengths", {"reweight_eta": 0.5, "reweight_eps": 1e-3, "words": 50257}),
)


def official(clone: Path) -> tuple[type, types.CodeType]:
    """The trainer's class, and the statements that register its buffers."""
    names = ("wandb", "tqdm", "datasets", "doremi", "doremi.eval_datasets", "transformers", "transformers.utils")
    names += tuple(f"transformers.{name}" for name in ("optimization", "trainer", "modeling_utils", "trainer_utils"))
    names += ("transformers.models.auto.modeling_auto", "transformers.trainer_pt_utils")
    replaced = {name: mock.MagicMock() for name in names}
    replaced["transformers"].Trainer = type("Trainer", (), {})
    replaced["transformers.utils"].ExplicitEnum = enum.Enum
    replaced["transformers.utils"].is_torch_tpu_available = lambda check_device: False
    replaced["transformers.trainer"].is_sagemaker_mp_enabled = lambda: False
    with mock.patch.dict(sys.modules, replaced):
        spec = importlib.util.spec_from_file_location("official_doremi", clone / "doremi" / "trainer.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    tree = ast.parse((clone / "doremi" / "train.py").read_text())
    kept = [node for node in ast.walk(tree) if isinstance(node, ast.Expr) and "register_buffer" in ast.unparse(node)]
    assert len(kept) == 4
    return module.DoReMiTrainer, compile(ast.Module(body=kept, type_ignores=[]), "train.py", "exec")


class Outputs(types.SimpleNamespace):
    """What the model returns: by name, and its loss by number."""

    def __getitem__(self, index: int) -> torch.Tensor:
        return (self.loss,)[index]


class Model(nn.Module):
    """Answers with the tape's losses."""

    def forward(self, answer: Outputs, domain_ids: torch.Tensor, return_pertoken_losses: bool) -> Outputs:
        return answer


def tape(seed: int, m: int, labels: np.ndarray, lengths: bool = False) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    shape = (*labels.shape, LENGTH)
    level = rng.uniform(-0.3, 0.6, m)[labels][..., None] / (1.0 + 0.1 * np.arange(STEPS))[:, None, None]
    reference = rng.uniform(1.0, 4.0, shape)
    losses = reference + level + rng.normal(0.0, 0.4, shape)
    last = rng.integers(1, LENGTH + 1, labels.shape) if lengths else np.full(labels.shape, LENGTH - 1)
    mask = np.arange(LENGTH) < last[..., None]
    if not lengths:  # as many tokens in every example, at other places
        mask = rng.permuted(mask, axis=-1)
    return {
        "m": m,
        "labels": labels.tolist(),
        "losses": np.round(losses, 3).tolist(),
        "reference": np.round(reference, 3).tolist(),
        "mask": mask.astype(int).tolist(),
    }


def tapes() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    complete = np.stack([rng.permutation([0, 1, 2, 3, *rng.integers(4, size=4)]) for _ in range(STEPS)])
    later = np.vstack([complete[:1], rng.choice(4, size=(STEPS - 1, 8), p=(0.75, 0.2, 0.04, 0.01))])
    few = rng.integers(9, size=(STEPS, 4))
    return {
        "every domain in every batch": tape(1, 4, complete),
        "domains absent after the first batch": tape(2, 4, later),
        "more domains than examples": tape(3, 9, few),
        "examples of several lengths": tape(4, 4, complete, lengths=True),
    }


def play(trainer: type, buffers: types.CodeType, tape: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
    m = tape["m"]
    names = [f"domain {i}" for i in range(m)]
    model = Model()
    scope = {"model": model, "torch": torch, "np": np, "tokenizer": range(arguments["words"]), "domain_list": names}
    exec(buffers, scope | {"train_domain_weights_dict": dict.fromkeys(names, 1.0), "total_domain_weight": float(m)})
    made = trainer.__new__(trainer)  # its __init__ reads files
    made.args = types.SimpleNamespace(
        reweight_domains=True,
        doremi_optimizer="doremiv1",
        reweight_eta=arguments["reweight_eta"],
        reweight_eps=arguments["reweight_eps"],
        world_size=1,
        n_gpu=1,
        gradient_accumulation_steps=1,
        past_index=-1,
        device="cpu",
    )
    made.model, made.domain_list, made.sampling_weights = model, names, torch.full((m,), 1.0 / m)
    made.pertoken_scores, made.token_masks, made.domain_ids = [], [], []
    made._prepare_inputs, made.compute_loss_context_manager = (lambda inputs: inputs), contextlib.nullcontext
    made.is_local_process_zero = lambda: True
    made.label_smoother, made.do_grad_scaling, made.use_apex, made.deepspeed = None, False, False, None
    weights, losses, gradient = [], [], []
    for t in range(STEPS):
        pertoken = torch.tensor(tape["losses"][t], requires_grad=True)
        answer = Outputs(loss=pertoken.mean(), pertoken_loss=pertoken, token_mask=torch.tensor(tape["mask"][t]).float())
        answer.reference_pertoken_loss = torch.tensor(tape["reference"][t])
        inputs = {"domain_ids": torch.tensor(tape["labels"][t]), "answer": answer}
        losses.append(made.training_step(model, inputs).item())
        weights.append(model.train_domain_weights.tolist())
        gradient.append(pertoken.grad.sum(1).tolist())
    assert int(model.update_counter) == STEPS + 1
    return {
        "weights": np.round(weights, 9).tolist(),
        "average": np.round(model.avg_domain_weights.tolist(), 9).tolist(),
        "loss": np.round(losses, 9).tolist(),
        "gradient": np.round(gradient, 9).tolist(),
    }


def main() -> None:
    trainer, buffers = official(Path(sys.argv[1]))
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    recorded = tapes()
    cases = [{"tape": name, "arguments": a, **play(trainer, buffers, recorded[name], a)} for name, a in CASES]
    distributed.destroy_process_group()
    text = json.dumps({"note": NOTE, "tapes": recorded, "cases": cases}, indent=1)
    text = re.sub(r"\[[^\[\]]*\]", lambda row: re.sub(r"\s+", " ", row[0]), text)
    Path(__file__).with_name("doremi.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
