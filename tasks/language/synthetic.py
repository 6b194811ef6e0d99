"""A domain that a language model wrote: a small decoder trained on a corpus's own training split, and sampled."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.base import IntArray, TaskError
from tasks.cache import content_key, load_arrays, save_arrays
from tasks.language import decoder, tokenizer
from tasks.language.windows import cut
from tasks.sources.base import Source
from tasks.sources.dedupe import distinct
from tasks.sources.documents import Document
from tasks.sources.split import SPLIT_SEED

DOMAIN = "synthetic"
LAYOUT = 1  # raise when the way to the text changes, so that caches of the old way are not used
VALIDATION = 10  # every tenth document is for validation


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """The model that writes, and how. It is the same whatever model the task trains, so that the data are, too.

    steps, batch, learning_rate: of its training, on windows of ``context`` tokens at the corpus' own shares.
    temperature: of sampling. prompt: tokens of a random training window that a text goes on from, and that are left
    out of it. pieces: how often the model is asked to go on, from the last ``prompt`` tokens. parallel: texts at once.
    """

    steps: int = 300
    temperature: float = 1.0
    batch: int = 8
    learning_rate: float = 3e-3
    vocabulary: int = 1024
    context: int = 128
    width: int = 96
    layers: int = 2
    heads: int = 4
    prompt: int = 16
    pieces: int = 4
    parallel: int = 128
    seed: int = 0


class Synthetic(Source):
    """Another source's documents, and so much text of a model that was trained on their training split.

    share: bytes of synthetic text as a share of the bytes of that split. What the model writes is for training, but for
    a tenth, which is for validation; nothing of it is for testing. Documents that nearly repeat a natural one are
    removed with all other duplicates. The text is kept in the cache under a hash of the source and all settings. It is
    made on the CPU with one thread: other hardware rounds otherwise, and may write another text, which the corpus'
    fingerprint then shows.
    """

    untested = frozenset({DOMAIN})

    def __init__(self, source: Source, share: float, writer: Writer, cache: Path) -> None:
        self._source, self._share, self._writer = source, share, writer
        self.target = source.target
        if (self.target or {}).get(DOMAIN):
            raise TaskError(f"target names {DOMAIN!r}, which has no text for testing; give its share to other domains")
        self._path = cache / "text" / f"{self.identity()}.written.npz"
        self._about: dict[str, Any] = {}

    def identity(self) -> str:
        """Hash of the natural text and of all that decides the synthetic one."""
        return content_key("synthetic", LAYOUT, SPLIT_SEED, self._source.identity(), self._share, asdict(self._writer))

    def documents(self) -> list[Document]:
        """The natural documents, then the synthetic ones, which are written where the cache has none."""
        natural = self._source.documents()
        if any(document.domain == DOMAIN for document in natural):
            raise TaskError(f"the data have a domain {DOMAIN!r} of their own; rename it, or set synthetic=0")
        stored = load_arrays(self._path)
        if stored is None:
            kept, _ = distinct(natural)
            splits = self._source.split(kept)
            texts = [document.text for document in kept if splits[document.origin] == "train"]
            written, flops = write(texts, self._share * sum(len(text.encode()) for text in texts), self._writer)
            stored = {"written": np.array(json.dumps({"texts": written, "flops": flops}))}
            save_arrays(self._path, **stored)
        found = json.loads(str(stored["written"]))
        self._about = {
            "share": self._share,
            "bytes": sum(len(text.encode()) for text in found["texts"]),
            "flops": found["flops"],
            **asdict(self._writer),
        }
        return natural + [
            Document(domain=DOMAIN, origin=f"{DOMAIN}/{number:06d}", text=text)
            for number, text in enumerate(found["texts"])
        ]

    def split(self, documents: Sequence[Document]) -> dict[str, str]:
        """The natural documents' own splits; every tenth synthetic one is for validation, the others for training."""
        splits = self._source.split([document for document in documents if document.domain != DOMAIN])
        written = [document.origin for document in documents if document.domain == DOMAIN]
        return splits | {
            origin: "train" if number % VALIDATION else "validation" for number, origin in enumerate(written)
        }

    def provenance(self) -> dict[str, Any]:
        """The natural source's, and what was written at what cost in FLOPs, training and sampling together."""
        return {**self._source.provenance(), DOMAIN: self._about}


def write(texts: Sequence[str], size: float, writer: Writer) -> tuple[list[str], float]:
    """(documents of about so many bytes, FLOPs of training and sampling), from training texts.

    FLOPs by the rule of 6 a parameter and token trained on and 2 a token read or written, where parameters are those of
    matrix products. Raises :class:`TaskError` for too little text, and where all that is sampled is blank.
    """
    w = writer
    with _one_thread():
        vocabulary = tokenizer.train(texts, w.vocabulary)
        windows = cut(list(vocabulary.encode(texts)), vocabulary.end, w.context)
        if len(windows) == 0:
            raise TaskError(f"less than {w.context} tokens to learn from; give more text, or set synthetic=0")
        shape = {"width": w.width, "layers": w.layers, "heads": w.heads, "context": w.context}
        model = decoder.build(vocabulary=vocabulary.size, end=vocabulary.end, seed=w.seed, **shape)
        rng, generator = np.random.default_rng(w.seed), torch.Generator().manual_seed(w.seed)
        train(model, windows, writer, rng)
        weights = sum(p.numel() for p in model.parameters() if p.dim() > 1) - w.width * vocabulary.size
        documents, total, asked, model = list[str](), 0, 0, model.eval()
        while total < size:
            prompts = windows[rng.integers(len(windows), size=w.parallel), : w.prompt]
            tokens = sample(model, torch.from_numpy(prompts), writer, generator)
            asked += w.pieces * w.parallel * w.context
            parts = [part for row in tokens for part in np.split(row, np.flatnonzero(row == vocabulary.end))]
            # A character that the cut goes through has lost bytes.
            found = [text.strip("\ufffd").strip() for part in parts for text in vocabulary.decode(part[None])]
            if not any(found):
                raise TaskError("the model that writes samples nothing but blanks; raise synthetic_temperature")
            for text in found:
                if text and total < size:
                    documents.append(text)
                    total += len(text.encode())
    return documents, float(weights * (6 * w.steps * w.batch * w.context + 2 * asked))


def train(model: nn.Module, windows: IntArray, writer: Writer, rng: np.random.Generator) -> None:
    """Next-token prediction on random windows; AdamW, a tenth of warm-up, then a cosine to a tenth."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=writer.learning_rate, betas=(0.9, 0.95), weight_decay=0.1)
    warmup = max(1, writer.steps // 10)
    model.train()
    for step in range(writer.steps):
        done = max(0, step - warmup) / max(1, writer.steps - warmup)
        rate = min(1.0, (step + 1) / warmup) * (0.55 + 0.45 * math.cos(math.pi * done))
        optimizer.param_groups[0]["lr"] = writer.learning_rate * rate
        tokens = torch.from_numpy(windows[rng.integers(len(windows), size=writer.batch)])
        logits = model(input_ids=tokens[:, :-1]).logits
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


@torch.no_grad()
def sample(model: nn.Module, prompts: Tensor, writer: Writer, generator: torch.Generator) -> IntArray:
    """[n, pieces x (context - prompt)] tokens that go on from prompts [n, prompt], without them."""
    written: list[Tensor] = []
    for _ in range(writer.pieces):
        tokens, past = prompts, None
        piece = []
        for _ in range(writer.context - writer.prompt):
            out = model(input_ids=tokens, past_key_values=past, use_cache=True, logits_to_keep=1)
            past = out.past_key_values
            odds = torch.softmax(out.logits[:, -1] / writer.temperature, dim=-1)
            tokens = torch.multinomial(odds, 1, generator=generator)
            piece.append(tokens)
        written += piece
        prompts = torch.cat(piece, dim=1)[:, -writer.prompt :]
    return torch.cat(written, dim=1).numpy()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums are rounded as the number of threads has it, and one rounding decides which token is drawn."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def priced(provenance: Mapping[str, Any], domains: Sequence[str], counts: IntArray) -> dict[str, Any]:
    """A corpus' provenance, with what each training example of the synthetic domain, if there is one, cost to write.

    counts: [m] training examples by domain.
    """
    if DOMAIN not in provenance:
        return dict(provenance)
    about = provenance[DOMAIN]
    examples = int(counts[list(domains).index(DOMAIN)])
    return {**provenance, DOMAIN: {**about, "flops_per_example": about["flops"] / examples}}
