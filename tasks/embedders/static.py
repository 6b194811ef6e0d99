"""Static word vectors: the mean of a text's token vectors. Thousands of texts a second."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from safetensors.numpy import load_file
from scipy import sparse
from tokenizers import Tokenizer

from tasks.embedders.base import Embedder, Vectors, package_file, unit

_REMEDY = 'pip install -e ".[demo]" in the checkout'
_WEIGHTS = "64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5"
_TOKENIZER = "93248f2a9ec36c7b35f700a033d5f36228aae48db61aee31007fa49062cdeb68"
_CHUNK = 2048  # texts tokenised at once


class Static(Embedder):
    """wordllama's 32,000 vectors of 256 numbers, distilled from large models' input embeddings.

    Its two files are read directly: the package's own loader looks for the tokenizer in a folder that the package
    does not have, and then tries to download it.
    """

    def __init__(self) -> None:
        weights, version = package_file("wordllama", "wordllama/weights/l2_supercat_256.safetensors", _WEIGHTS, _REMEDY)
        rules, _ = package_file(
            "wordllama", "wordllama/tokenizers/l2_supercat_tokenizer_config.json", _TOKENIZER, _REMEDY
        )
        self._vectors = load_file(weights)["embedding.weight"].astype(np.float32)
        self._tokenizer = Tokenizer.from_file(str(rules))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.name = f"static (wordllama {version}, {self._vectors.shape[1]}-d)"

    def encode(self, texts: Sequence[str]) -> tuple[Vectors, float]:
        """Mean of token vectors; one addition a token and dimension is billed."""
        parts: list[Vectors] = []
        tokens = 0
        for start in range(0, len(texts), _CHUNK):
            encodings = self._tokenizer.encode_batch_fast(list(texts[start : start + _CHUNK]), add_special_tokens=False)
            ids = [encoding.ids for encoding in encodings]
            bounds = np.cumsum([0, *map(len, ids)])
            flat = np.fromiter((token for row in ids for token in row), dtype=np.int32, count=int(bounds[-1]))
            # A row of ones at a text's tokens, times the table, sums its vectors; one thread, always in one order.
            counts = sparse.csr_array(
                (np.ones(len(flat), dtype=np.float32), flat, bounds), shape=(len(ids), len(self._vectors))
            )
            parts.append(unit(counts @ self._vectors))  # the mean and the sum point the same way
            tokens += len(flat)
        width = self._vectors.shape[1]
        return np.concatenate(parts) if parts else np.zeros((0, width), np.float32), float(tokens * width)
