"""Tokenizers of tasks on text: a byte-level BPE trained on the training split, or a pretrained model's own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tokenizers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tasks.base import TaskError
from tasks.cache import atomic_path
from tasks.hugging_face import place, quick

END = "<|end|>"
BYTES = 257  # the smallest vocabulary: every byte, and the end token
_CHUNK = 512  # documents encoded at once: bounds the memory of the encodings


class Vocabulary:
    """A tokenizer as tasks on text need it: encode, decode, and how many bytes of text every token stands for.

    end: id of the token between documents. size: number of ids. byte_lengths: [size] int64, bytes of UTF-8 text that
    a token stands for; 0 for special tokens, which therefore count in no metric.
    """

    def __init__(self, tokenizer: Tokenizer, end: int, size: int) -> None:
        self._tokenizer = tokenizer
        # Text that spells a special token is text.
        tokenizer.encode_special_tokens = True
        self.end = end
        self.size = size
        self.byte_lengths = _byte_lengths(tokenizer, size)
        self.byte_lengths[end] = 0

    def encode(self, texts: Sequence[str]) -> Iterator[npt.NDArray[np.int64]]:
        """Token ids of each text, without special tokens."""
        for start in range(0, len(texts), _CHUNK):
            for encoding in self._tokenizer.encode_batch_fast(
                list(texts[start : start + _CHUNK]), add_special_tokens=False
            ):
                yield np.array(encoding.ids, dtype=np.int64)

    def decode(self, windows: npt.NDArray[np.integer]) -> list[str]:
        """[n] texts of token windows [n, t], special tokens left out; bytes cut by a window's edge become U+FFFD."""
        texts: list[str] = []
        for start in range(0, len(windows), _CHUNK):
            texts += self._tokenizer.decode_batch(windows[start : start + _CHUNK].tolist(), skip_special_tokens=True)
        return texts

    def save(self, path: Path) -> None:
        """Write the tokenizer as JSON, atomically."""
        with atomic_path(path) as temporary:
            self._tokenizer.save(str(temporary))


def train(texts: Sequence[str], size: int) -> Vocabulary:
    """A byte-level BPE of at most ``size`` tokens (end token and 256 bytes included), from these texts alone."""
    if size < BYTES:
        raise TaskError(f"vocabulary={size} is too small: 256 bytes and one end token need at least 257")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer, length=len(texts))
    return _trained(tokenizer)


def restore(path: Path) -> Vocabulary | None:
    """The tokenizer that :meth:`Vocabulary.save` wrote after :func:`train`; ``None`` where missing or damaged."""
    try:
        return _trained(Tokenizer.from_file(str(path)))
    except Exception:  # the library raises bare Exception for a missing or broken file
        return None


def _trained(tokenizer: Tokenizer) -> Vocabulary:
    end = tokenizer.token_to_id(END)
    if end is None:
        raise ValueError(f"a tokenizer without {END}")
    return Vocabulary(tokenizer, end, tokenizer.get_vocab_size())


def pretrained(model: str) -> Vocabulary:
    """The tokenizer of a pretrained causal language model, by name or local path."""
    from transformers import AutoTokenizer

    try:
        with quick(model):
            fast = AutoTokenizer.from_pretrained(place(model))
    except Exception as error:  # many kinds, from missing files to network errors
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise TaskError(f"cannot load the tokenizer of model {model!r}: {reason[0]}") from None
    backend = getattr(fast, "backend_tokenizer", None)
    if backend is None or fast.eos_token_id is None:
        raise TaskError(f"model {model!r} has no fast tokenizer with an end-of-text token; choose another model")
    return Vocabulary(Tokenizer.from_str(backend.to_str()), fast.eos_token_id, len(fast))


def trained_identity(size: int) -> str:
    """What decides the outcome of :func:`train` besides the texts."""
    return f"bpe-{size}-tokenizers-{tokenizers.__version__}"


def pretrained_identity(vocabulary: Vocabulary) -> str:
    """Hash of a pretrained tokenizer's contents."""
    return hashlib.sha256(vocabulary._tokenizer.to_str().encode()).hexdigest()


def _byte_lengths(tokenizer: Tokenizer, size: int) -> npt.NDArray[np.int64]:
    """Bytes a token stands for, by its written form.

    Byte-level vocabularies write each byte as one character. SentencePiece ones write a space as U+2581 and a lone
    byte as ``<0x0A>``.
    """
    special = {index for index, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    added = set(tokenizer.get_added_tokens_decoder())
    byte_level = '"type":"ByteLevel"' in tokenizer.to_str()
    lengths = np.zeros(size, dtype=np.int64)
    for token, index in vocabulary.items():
        if index in special or index >= size:
            continue
        if byte_level and index not in added:
            lengths[index] = len(token)
        elif not byte_level and len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            lengths[index] = 1
        else:
            lengths[index] = len(token.replace("\u2581", " ").encode())
    return lengths
