"""Writes odm.json: the official updaters of ODM on recorded tapes of losses.

    git clone https://github.com/alon-albalak/online-data-mixing && git -C online-data-mixing checkout edbfdad
    python tests/mixers/oracles/make_odm.py online-data-mixing/megatron/data/data_sampling_utils.py

The tapes are drawn here; every expected weight comes out of the official file, whose imports of its training framework
are replaced by empty modules (the updaters use none of them).
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import types
from pathlib import Path
from unittest import mock

import numpy as np

STEPS = 40
NOTE = {
    "repository": "https://github.com/alon-albalak/online-data-mixing",
    "commit": "edbfdadb62b0388120b6198b1743067a7cd990dc",
    "file": "megatron/data/data_sampling_utils.py",
    "made_by": "tests/mixers/oracles/make_odm.py",
    "calls": "w = get_data_sampling_weighter(names, weights=shares, **arguments); for every step t = 1, 2, ...: "
    "w.group_update(t, dataset_names=served, rewards=losses) or, where one domain is served, "
    "w.update(t, dataset_name=served, reward=loss); expected[t - 1] = w()",
    "tapes": "losses[t - 1][i] is the mean loss of domain i in step t, null where the step did not serve it (count 0)",
}
CASES = (
    ("one domain a step", "smoothed_exp", "update", {"update_method": "smoothed_mean", "smoothing_factor": 0.9}, 4, 1),
    ("several a step", "smoothed_linear", "group_update", {"update_method": "smoothed_mean"}, 4, 1),
    ("more domains than examples", "smoothed_linear", "group_update", {"update_method": "smoothed_mean"}, 0, 1),
    ("one domain a step", "cumulative", "update", {"update_method": "exp3"}, 0, 1),
    ("several a step", "cumulative", "group_update", {"update_method": "exp3"}, 10, 3),
    ("more domains than examples", "cumulative", "group_update", {"update_method": "exp3"}, 2, 1),
)


def official(path: str) -> types.ModuleType:
    names = ("deepspeed", "megatron", "megatron.utils", "megatron.model", "megatron.model.gpt2_model")
    with mock.patch.dict(sys.modules, {name: mock.MagicMock() for name in names}):
        spec = importlib.util.spec_from_file_location("official_odm", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


def tape(seed: int, m: int, batch: int) -> dict:
    rng = np.random.default_rng(seed)
    shares = np.round(rng.dirichlet(np.full(m, 2.0)), 3)
    shares[0] += 1.0 - shares.sum()
    level, speed = rng.uniform(1.2, 3.5, m), rng.uniform(0.0, 1.0, m)
    counts = rng.multinomial(batch, shares, size=STEPS)
    time = np.arange(1, STEPS + 1)[:, None]
    losses = np.round(level * time ** (-0.2 * speed) + rng.normal(0.0, 0.1, (STEPS, m)), 3)
    return {
        "domains": [f"domain {i}" for i in range(m)],
        "shares": [round(float(share), 3) for share in shares],
        "counts": counts.tolist(),
        "losses": np.where(counts > 0, losses, None).tolist(),
    }


def trajectory(module: types.ModuleType, tape: dict, call: str, arguments: dict) -> list[list[float]]:
    names, weights = tape["domains"], []
    weighter = module.get_data_sampling_weighter(names, weights=list(tape["shares"]), **arguments)
    for t, losses in enumerate(tape["losses"], start=1):
        served = {name: loss for name, loss in zip(names, losses, strict=True) if loss is not None}
        if call == "group_update":
            weighter.group_update(t, dataset_names=served.keys(), rewards=served.values())
        else:
            ((name, loss),) = served.items()
            weighter.update(t, dataset_name=name, reward=loss)
        weights.append([round(float(weight), 12) for weight in weighter()])
    return weights


def main() -> None:
    module = official(sys.argv[1])
    tapes = {"one domain a step": tape(1, 4, 1), "several a step": tape(2, 5, 6)}
    tapes["more domains than examples"] = tape(3, 9, 4)
    cases = []
    for name, variant, call, method, warmup, every in CASES:
        arguments = {"warmup_steps": warmup, "update_frequency": every, **method}
        if method["update_method"] == "smoothed_mean":
            arguments.setdefault("smoothing_factor", 0.5)
        expected = trajectory(module, tapes[name], call, arguments)
        cases.append({"tape": name, "variant": variant, "call": call, "arguments": arguments, "expected": expected})
    text = json.dumps({"note": NOTE, "tapes": tapes, "cases": cases}, indent=1)
    text = re.sub(r"\[[^\[\]]*\]", lambda row: re.sub(r"\s+", " ", row[0]), text)  # one line a step
    Path(__file__).with_name("odm.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
