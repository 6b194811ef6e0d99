"""Any sentence-transformers model, by name or local path."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tasks.base import TaskError
from tasks.embedders.base import Embedder, Vectors, unit
from tasks.hugging_face import place, quick


class Sentence(Embedder):
    """A sentence-transformers model; needs the extra ``embed``."""

    def __init__(self, model: str) -> None:
        try:
            import sentence_transformers
        except ImportError:
            raise TaskError(
                f'embedder st:{model} needs sentence-transformers: pip install -e ".[embed]" in the checkout'
            ) from None
        try:
            with quick(model):
                self._model = sentence_transformers.SentenceTransformer(place(model))
        except Exception as error:  # many kinds, from missing files to network errors
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise TaskError(f"cannot load embedder st:{model}: {reason[0]}") from None
        width = self._model.get_sentence_embedding_dimension()
        self.name = f"st:{model} (sentence-transformers {sentence_transformers.__version__}, {width}-d)"

    def encode(self, texts: Sequence[str]) -> tuple[Vectors, float]:
        """The model's vectors; twice its parameters a token are billed, padding and truncation left out."""
        vectors = self._model.encode(list(texts), show_progress_bar=False, convert_to_numpy=True)
        parameters = sum(weight.numel() for weight in self._model.parameters())
        limit = self._model.max_seq_length or 512
        tokens = sum(min(limit, len(self._model.tokenizer(text)["input_ids"])) for text in texts)
        return unit(np.asarray(vectors)), 2.0 * parameters * tokens
