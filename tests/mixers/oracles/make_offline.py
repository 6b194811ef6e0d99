"""Writes offline.json: official code of Olmix (which has that of Data Mixing Laws) and RegMix on recorded tables.

    git clone https://github.com/allenai/olmix && git -C olmix checkout 9586977
    git clone https://github.com/sail-sg/regmix && git -C regmix checkout b004d3a
    pip install cvxpy tqdm
    python tests/mixers/oracles/make_offline.py olmix regmix

Tables are drawn here; every expected number comes out of official functions, cut out of their files as they stand,
because the files import services. Olmix solves with ECOS, which CVXPY no longer brings; here the same problem goes to
Clarabel.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import logging
import random
import re
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import cvxpy
import numpy as np
import torch

NOTE = {
    "repositories": "https://github.com/allenai/olmix, https://github.com/sail-sg/regmix",
    "commits": "9586977981e01b60c8b20330f623047f0b693fe3, b004d3a3f39846dcec6b3740da22bcd1ba95a5d0",
    "functions": "olmix/fit/law.py ScalingLaw.fit; olmix/fit/utils.py mixing_law, init_params_log_linear_law, "
    "LogLinearExactProposer.propose (solver: CLARABEL); mixture_config/synthesize_mixture.py "
    "generate_weights_dirichlet",
    "made_by": "tests/mixers/oracles/make_offline.py",
    "calls": "ScalingLaw(mixing_law).fit(x, y, its 300 starts, max_step=100, delta); propose(kl_reg, obj_weights, "
    "repetition_factor, target_tokens); generate_weights_dirichlet(the Pile's prior, num_samples, temperature)",
    "laws": "expected: [log c, t] of c + exp(t . p); misfit: the sum of its Huber losses",
    "swarm": "means over num_samples mixtures of one seed",
}
LAWS = (
    {"name": "exact", "m": 3, "rows": 14, "noise": 0.0, "delta": 0.02},
    {"name": "noisy", "m": 3, "rows": 20, "noise": 0.02, "delta": 0.02},
    {"name": "noisy, small threshold", "m": 4, "rows": 24, "noise": 0.02, "delta": 0.001},
)
SOLVES = (
    {"name": "penalty alone", "m": 5, "n": 3, "kl": 0.05},
    {"name": "weak penalty", "m": 6, "n": 2, "kl": 0.005},
    {"name": "caps", "m": 5, "n": 4, "kl": 0.05, "repeat": 1.2},
    {"name": "many domains", "m": 24, "n": 8, "kl": 0.1, "repeat": 2.0},
)
SAMPLES = 4000


def cut(path: Path, names: tuple[str, ...], space: dict) -> dict:
    """These functions and classes of an official file, compiled alone with these globals."""
    found = [node for node in ast.parse(path.read_text()).body if getattr(node, "name", None) in names]
    assert len(found) == len(names), path
    exec(compile(ast.Module(body=found, type_ignores=[]), str(path), "exec"), space)
    return space


def law(olmix: Path, seed: int, *, name: str, m: int, rows: int, noise: float, delta: float) -> dict:
    rng = np.random.default_rng(seed)
    np.random.seed(42)  # noqa: NPY002  as their regressor does
    x = rng.dirichlet(np.full(m, 0.7), rows).round(4)
    x[:, -1] = 1.0 - x[:, :-1].sum(axis=1)
    slopes = rng.normal(0.0, 1.0, m)
    y = 1.2 + np.exp(x @ slopes - 0.3) + noise * rng.normal(size=rows)
    space = {"np": np, "torch": torch, "tqdm": lambda it, **_: it, "partial": partial, "mp": None}
    cut(olmix / "olmix/fit/law.py", ("fit_scaling_laws", "ScalingLaw"), space)
    cut(olmix / "olmix/fit/utils.py", ("mixing_law", "init_params_log_linear_law"), space)
    starts = list(space["init_params_log_linear_law"](0, num_domains=m))
    fitted = space["ScalingLaw"](space["mixing_law"])
    expected = fitted.fit(x, y, starts, max_step=100, delta=delta, workers=1)
    predicted = space["mixing_law"](torch.tensor(x), torch.tensor(expected, dtype=torch.float64))
    misfit = torch.nn.functional.huber_loss(predicted, torch.tensor(y), delta=delta, reduction="sum")
    return {
        "name": name, "delta": delta, "mixtures": x.tolist(), "losses": y.tolist(), "expected": expected,
        "misfit": float(misfit),
    }  # fmt: skip


def solve(olmix: Path, seed: int, *, name: str, m: int, n: int, kl: float, repeat: float | None = None) -> dict:
    rng = np.random.default_rng(100 + seed)
    prior, available = rng.dirichlet(np.full(m, 2.0)), rng.uniform(0.5, 1.5, m)
    slopes, weights = rng.normal(0.0, 1.5, (n, m)), rng.dirichlet(np.ones(n))
    names = [f"d{i}" for i in range(m)]

    class Problem(cvxpy.Problem):
        def solve(self, solver: str, verbose: bool) -> object:
            return super().solve(solver="CLARABEL", tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)

    programs = SimpleNamespace(
        **{k: getattr(cvxpy, k) for k in ("Variable", "sum", "multiply", "exp", "rel_entr", "Minimize")}
    )
    programs.Problem = Problem
    space = {
        "np": np,
        "cp": programs,
        "logger": logging.getLogger("olmix"),
        "Proposer": object,
        "SearchRegressor": object,
    }
    cut(olmix / "olmix/fit/utils.py", ("LogLinearExactProposer",), space)
    tokens = available * m if repeat else available
    found = space["LogLinearExactProposer"]().propose(
        predictor=[SimpleNamespace(model=[0.0, *row]) for row in slopes.tolist()],
        prior_distributions=dict(zip(names, prior.tolist(), strict=True)),
        token_counts=dict(zip(names, tokens.tolist(), strict=True)),
        constrain_objective=repeat is not None,
        kl_reg=kl,
        obj_weights=weights.tolist(),
        target_tokens=float(tokens.sum()),
        repetition_factor=repeat or 4.0,
    )
    caps = None if repeat is None else (tokens * repeat / tokens.sum()).tolist()
    return {
        "name": name, "kl": kl, "prior": prior.tolist(), "slopes": slopes.tolist(), "weights": weights.tolist(),
        "caps": caps, "expected": found.tolist(),
    }  # fmt: skip


def swarm(regmix: Path, temperature: float) -> dict:
    path = regmix / "mixture_config/synthesize_mixture.py"
    constants = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Assign)]
    space = {"np": np, "random": random}
    exec(compile(ast.Module(body=constants, type_ignores=[]), str(path), "exec"), space)
    space["SAMPLE_MULTIPLIER"] = 10  # as many draws, less work
    cut(path, ("get_token_distribution", "generate_weights_dirichlet", "sort_and_deduplicate"), space)
    random.seed(42)
    np.random.seed(42)  # noqa: NPY002  their generator
    prior = space["get_token_distribution"]()["train"]
    shares = np.array(list(prior.values()))
    drawn = space["generate_weights_dirichlet"](
        shares, list(prior), space["MINIMUM"], num_samples=SAMPLES, temperature=temperature
    )
    drawn = np.array(drawn).reshape(len(drawn), -1)
    return {
        "temperature": temperature, "samples": len(drawn), "prior": shares.tolist(),
        "mean": drawn.mean(axis=0).tolist(), "zeros": float((drawn == 0.0).sum(axis=1).mean()),
        "largest": float(drawn.max(axis=1).mean()), "top": drawn.max(axis=0).tolist(),
    }  # fmt: skip


def main() -> None:
    olmix, regmix = map(Path, sys.argv[1:])
    with contextlib.redirect_stdout(io.StringIO()):
        found = {
            "note": NOTE,
            "laws": [law(olmix, seed, **each) for seed, each in enumerate(LAWS)],
            "solves": [solve(olmix, seed, **each) for seed, each in enumerate(SOLVES)],
            "swarms": [swarm(regmix, temperature) for temperature in (0.5, 1.0)],
        }
    text = re.sub(r"\[[^\[\]]*\]", lambda row: re.sub(r"\s+", " ", row[0]), json.dumps(found, indent=1))
    Path(__file__).with_name("offline.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
