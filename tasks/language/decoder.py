"""The model of tasks on text: a small Llama built from numbers, or any pretrained causal language model."""

from __future__ import annotations

import torch
from torch import nn

from tasks.base import TaskError
from tasks.hugging_face import place, quick


def build(*, vocabulary: int, context: int, width: int, layers: int, heads: int, end: int, seed: int) -> nn.Module:
    """A decoder with rotary positions, SwiGLU and untied embeddings; initial weights depend on ``seed`` alone.

    Untied, because with a few thousand tokens the output layer costs little and the domains' gradients are then read
    from a layer that does nothing else.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    if width % heads or (width // heads) % 2:
        raise TaskError(f"width={width} must be a multiple of heads={heads}, with an even quotient")
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=-(-width * 8 // 3 // 32) * 32,  # 8/3 of the width, as is usual for SwiGLU, in steps of 32
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=context,
        # Small init (Nguyen and Salazar 2019): the library's 0.02 is made for widths near 1,000 and learns later here.
        initializer_range=(2 / (5 * width)) ** 0.5,
        tie_word_embeddings=False,
        use_cache=False,
        bos_token_id=end,
        eos_token_id=end,
    )
    config._attn_implementation = "sdpa"
    # Only the CPU generator is drawn from; the fork gives it back as it was found.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = LlamaForCausalLM(config)
    return model.float()


def pretrained(name: str) -> nn.Module:
    """A pretrained causal language model by name or local path, in float32. The seed moves nothing in it."""
    from transformers import AutoModelForCausalLM

    try:
        with quick(name), torch.random.fork_rng(devices=[]):
            # The library takes fused attention where the model has it; GPT-Neo has not, and refuses to be told.
            model: nn.Module = AutoModelForCausalLM.from_pretrained(place(name), dtype=torch.float32, use_cache=False)
    except Exception as error:  # many kinds, from missing files to network errors
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise TaskError(f"cannot load model {name!r}: {reason[0]}") from None
    return model.train()
