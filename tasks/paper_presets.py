"""The language settings of R&B (arXiv 2505.00358, Tables 5 to 7) as presets.

The paper gives model, context, batch, peak learning rate, AdamW and steps. It leaves open, and the choices are ours:
the learning rate's course, weight decay, clipping (all three as in Skill-It's code, whose model, context and learning
rate the paper shares), AdamW's betas and eps (PyTorch's defaults), prompts, which tokens the loss counts (the
answer's), the validation share, and which of the tasks of Natural Instructions are its 100. GPT-Neo is the pretrained
one: the paper does not say so, its losses do.
"""

from __future__ import annotations

from typing import Any

from tasks.base import Preset, Recipe

WARMUP_STEPS = 50  # Skill-It's
ALL = 10_000_000  # more evaluation examples than any domain has: the paper judges on all of them


def _recipe(*, steps: int, batch_size: int, learning_rate: float) -> Recipe:
    return Recipe(
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        schedule="linear",  # from here on ours
        final_lr=0.0,
        warmup=WARMUP_STEPS / steps,
        weight_decay=0.01,
        betas=(0.9, 0.999),
        eps=1e-8,
        clip_norm=1.0,
    )


# Table 5: GPT-Neo 125M, context 512, batch 16, 5e-5, 2000 steps, 90 % train and 5 % test; the other 5 % are ours.
_GPT_NEO: dict[str, Any] = {
    "model": "EleutherAI/gpt-neo-125m",
    "context": 512,
    "portions": (0.9, 0.05, 0.05),
    "validation_examples": ALL,
    "test_examples": ALL,
}
_GPT_NEO_RECIPE = _recipe(steps=2000, batch_size=16, learning_rate=5e-5)

PAPER_DOLLY = Preset(
    name="paper/dolly",
    recipe=_GPT_NEO_RECIPE,
    settings={**_GPT_NEO, "format": "dolly"},
    summary="R&B's Dolly-15k: 8 categories, GPT-Neo 125M; meant for a GPU",
)

PAPER_NATURAL_INSTRUCTIONS = Preset(
    name="paper/natural-instructions",
    recipe=_GPT_NEO_RECIPE,
    # The paper: 100 of 876 tasks, 285k examples, 38 categories. 876 is what the default split has in training and test
    # tasks together. Which 100 is not said; ours are drawn by a hash of the names from the training tasks, and will
    # not have the paper's numbers of examples and categories.
    settings={**_GPT_NEO, "format": "natural-instructions", "domain": "category", "tasks": 100},
    summary="R&B's Sup-NatInst: 100 tasks in their categories, judged on held-out examples; meant for a GPU",
)

PAPER_NATURAL_INSTRUCTIONS_OOD = Preset(
    name="paper/natural-instructions-ood",
    recipe=_GPT_NEO_RECIPE,
    # The paper: 3.56M examples, 60 training categories, other categories to judge on. Ours: the benchmark's own test
    # tasks, 100 examples of each for the score and 100 for validation. All pairs are held in memory at once, by
    # estimate in 20 GB; portion=0.1 takes a tenth of the training examples, still ten times what 2000 steps see.
    settings={**_GPT_NEO, "format": "natural-instructions", "domain": "category", "held_out": "tasks"},
    summary="R&B's Sup-NatInst-test: training categories, judged on the benchmark's 12 others; meant for a GPU",
)

PAPER_S1 = Preset(
    name="paper/s1",
    # Tables 5 and 7: Qwen2-0.5B, context 8192, batch 4, 1e-5, 500 steps, judged by the loss. The split is not given.
    recipe=_recipe(steps=500, batch_size=4, learning_rate=1e-5),
    # Domains are the sources, as in Table 2. Those too small for three splits are trained on and not judged.
    settings={
        "format": "traces",
        "domain": "source_type",
        "model": "Qwen/Qwen2-0.5B",
        "context": 8192,
        "validation_examples": ALL,
        "test_examples": ALL,
    },
    # Float32 logits of a batch: 4 x 8192 x 152k x 4 bytes, held several times over by the softmax and its gradient.
    summary="R&B's S1-59K reasoning traces, Qwen2-0.5B at 8192 tokens; meant for a GPU of 80 GB or more, by estimate: "
    "the logits of all positions of a batch are 20 GB in float32",
)
