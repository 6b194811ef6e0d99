"""Write ``ado.json``: tapes of signals and what ADO's official code makes of them.

    git clone https://github.com/yidingjiang/ado && git -C ado checkout bc3d8d0
    python -m venv scratch && scratch/bin/pip install "jax[cpu]==0.4.30" jaxopt==0.8.3 "scipy<1.14" "numpy<2"
    scratch/bin/python tests/mixers/oracles/make_ado.py ado tests/mixers/oracles/ado.json

Runs ``src/data_selectors/ado.py`` unchanged; only ``wandb``, which it imports and does not use, is an empty module. In
the policy tapes the method ``compute_scaling_law_params`` answers with recorded laws, so that what is compared is the
policy; in the fit tape it is the official one. No test needs this script: they read its output.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from pathlib import Path

import jax
import numpy as np

jax.config.update("jax_enable_x64", True)


def official(checkout: Path):
    sys.modules["wandb"] = types.ModuleType("wandb")
    spec = importlib.util.spec_from_file_location("official_ado", checkout / "src/data_selectors/ado.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Metrics(dict):
    """What the official update writes its metrics to."""


def play(selector, ids, losses):
    """Feed batches of example domains and losses; state after every step and the policy's answer (None: the prior)."""
    out = {"p_history": [], "p": [], "p_avg": [], "n": []}
    for itr, (task_ids, loss) in enumerate(zip(ids, losses, strict=True)):
        selector.update(task_ids, loss, itr, lr=1e-3, metrics=Metrics())
        p = selector.curr_dist(itr)
        out["p"].append(None if p is None else np.asarray(p, dtype=np.float64).tolist())
        out["p_history"].append(np.asarray(selector.p_history, dtype=np.float64).tolist())
        out["p_avg"].append(np.asarray(selector.p_avg, dtype=np.float64).tolist())
        out["n"].append(selector.task_cnt_TxK.sum(0).tolist())
    return out


def batches(rng, steps, batch, loss, shares=None, everywhere=False):
    """Example domains and losses of every step; a domain's examples share a loss of four decimals. loss: [steps, k]."""
    k = loss.shape[1]
    ids = [rng.choice(k, size=batch, p=shares) for _ in range(steps)]
    if everywhere:
        ids = [np.concatenate((i[:-k], np.arange(k))) for i in ids]
    loss = loss.round(4)
    seen = [np.bincount(i, minlength=k) for i in ids]
    losses = [
        [float(x) if n else None for x, n in zip(row, count, strict=True)]
        for row, count in zip(loss, seen, strict=True)
    ]
    return (
        ids,
        [row[i] for row, i in zip(loss, ids, strict=True)],
        {"examples": [n.tolist() for n in seen], "losses": losses},
    )


def policy_tape(module, *, tokens, batch, steps, seed, **settings):
    """Random batches, some domains absent; the second of the recorded laws holds a NaN."""
    rng = np.random.default_rng(seed)
    k = len(tokens)
    ids, losses, tape = batches(rng, steps, batch, rng.uniform(1.0, 5.0, size=(steps, k)))
    fits = -(-steps // settings["update_interval"])
    laws = rng.uniform([-1.0, -0.5, 0.0], [3.0, 1.5, 0.8], size=(fits, k, 3))
    laws[1, 0, 1] = np.nan
    selector = module.AdoSelector(k, np.array(tokens, dtype=float), 1024, **settings)
    queue, used = iter(laws), []
    selector.compute_scaling_law_params = lambda: used.append(next(queue)) or used[-1]
    expected = play(selector, ids, losses)
    valid = [law.tolist() if np.isfinite(law).all() else None for law in used]
    return {"tokens": tokens, "settings": settings, "laws": valid, **tape, "expected": expected}


def law_values(module):
    rng = np.random.default_rng(5)
    n = 256.0 * np.arange(100, 1100, 50)
    loss = rng.uniform(1.5, 4.0, size=n.size)
    params = rng.uniform([-3.0, 0.5, 0.001], [6.5, 2.5, 0.8], size=(20, 3))  # within the limits: no penalty
    value_and_grad = jax.value_and_grad(module.loss_fn)
    rows = [value_and_grad(jax.numpy.asarray(p), n, loss) for p in params]
    return {
        "n": n.tolist(),
        "loss": loss.tolist(),
        "params": params.tolist(),
        "objective": [float(v) for v, _ in rows],
        "gradient": [np.asarray(g).tolist() for _, g in rows],
        "scaling_law": [module.scaling_law(tuple(p), n).tolist() for p in params],
    }


def fit_tape(module):
    """A whole official run, fits included, on noisy losses of known laws with eps above the official bound."""
    rng = np.random.default_rng(9)
    truth = np.array([[2.5, 0.6, 0.25], [2.0, 0.9, 0.15], [3.0, 0.7, 0.4]])
    tokens, batch, steps = [5.0, 3.0, 2.0], 32, 400
    n = batch * np.arange(1.0, steps + 1)[:, None]
    clean = np.exp(truth[:, 1]) + np.exp(truth[:, 0]) * n ** -truth[:, 2]
    noisy = clean * np.exp(0.02 * rng.normal(size=clean.shape))
    ids, losses, tape = batches(rng, steps, batch, noisy, shares=[0.5, 0.3, 0.2], everywhere=True)
    settings = {"ignore_steps": 40, "start_step": 100, "update_interval": 100}
    selector = module.AdoSelector(3, np.array(tokens), 1024, **settings)
    fits, compute = [], selector.compute_scaling_law_params
    keep = module.multihost_utils.broadcast_one_to_all
    seen = {}

    def tap(tree):
        seen["points"] = [np.asarray(x, dtype=np.float64).tolist() for x in tree]
        return keep(tree)

    def recorded():
        params = compute()
        n, smooth = (np.array(x) for x in seen["points"])
        value = [
            float(module.loss_fn(p, x, y))
            for p, x, y in zip(np.asarray(params, dtype=np.float64), n, smooth, strict=True)
        ]
        law = np.asarray(params, dtype=np.float64).tolist()
        fits.append({"n": n.tolist(), "loss": smooth.tolist(), "law": law, "objective": value})
        return params

    module.multihost_utils.broadcast_one_to_all = tap
    selector.compute_scaling_law_params = recorded
    expected = play(selector, ids, losses)
    module.multihost_utils.broadcast_one_to_all = keep
    return {
        "tokens": tokens,
        "settings": settings,
        **tape,
        "fits": fits,
        "p": {str(t): expected["p"][t - 1] for t in (150, 250, 400)},
    }


if __name__ == "__main__":
    module = official(Path(sys.argv[1]))
    common = {"ignore_steps": 3, "start_step": 10, "update_interval": 5}
    content = {
        "note": {
            "repository": "github.com/yidingjiang/ado",
            "commit": "bc3d8d0e4d6a13f40f03b2e8fb83369d773a2611",
            "file": "src/data_selectors/ado.py",
            "calls": "AdoSelector(...).update and .curr_dist at every step; loss_fn, jax.value_and_grad(loss_fn), "
            "scaling_law; compute_scaling_law_params (replaced by recorded laws in the policy tapes)",
            "versions": {"jax": jax.__version__, "numpy": np.__version__, "float": "x64 enabled"},
            "made_by": "tests/mixers/oracles/make_ado.py",
        },
        "policy": {
            "total_counts": policy_tape(
                module, tokens=[40.0, 25.0, 20.0, 10.0, 5.0], batch=6, steps=40, seed=0, **common
            ),
            "own_counts": policy_tape(
                module, tokens=[4.0, 3.0, 2.0, 1.0], batch=24, steps=30, seed=1, use_same_step_size=False, **common
            ),
            "uniform_prior": policy_tape(module, tokens=[1.0] * 6, batch=8, steps=30, seed=2, **common),
            "floor": policy_tape(module, tokens=[500.0, 1.0, 1.0, 1.0], batch=16, steps=30, seed=3, **common),
        },
        "law": law_values(module),
        "fit": fit_tape(module),
    }
    Path(sys.argv[2]).write_text(json.dumps(content) + "\n")
