"""Images and captions: CLIP from scratch, judged by retrieval both ways and by zero-shot classification."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from tasks import multimodal_requirements
from tasks.base import (
    SPLITS,
    Batch,
    Combination,
    Corpus,
    Embeddings,
    FloatArray,
    IntArray,
    Losses,
    Metric,
    Preset,
    Requirement,
    Scores,
    Stage,
    TaskError,
    TrainableTask,
)
from tasks.cache import content_key
from tasks.clip import corpus as clip_corpus
from tasks.clip import ensemble as clip_ensemble
from tasks.clip import model as clip_model
from tasks.clip import scores as clip_scores
from tasks.clip import tokens as clip_tokens
from tasks.clip.corpus import Prepared
from tasks.clip.ensemble import Encoded
from tasks.clip.images import DECODER, Images, shifted
from tasks.clip.tokens import Vocabulary
from tasks.multimodal_settings import PRESETS, MultimodalConfig, open_source, published, settings_of
from tasks.shares import target_shares

_EVALUATION_BATCH = 256
_SHIFT_SEED = 0


class Multimodal(TrainableTask):
    """One CLIP, images of labelled domains with their captions.

    An example is an image with one of its training captions; the loss of example i in a batch is
    l_i = 1/2 (CE image -> caption of i + CE caption -> image of i) with all others of the batch as negatives, and the
    mean of the l_i is CLIP's loss.

    What a domain's gradient is: the l_i are no losses of single examples, as every example is a negative of all others.
    Domain i's gradient is here all gradient of the batch's loss that flows through the rows (images and captions) of
    the domain's own examples, as positives and as negatives: the derivative where the weights are varied for these
    rows alone. The domains' gradients then sum to the gradient of the loss, and reading them costs nothing extra. The
    other definition, the gradient of the sum of the domain's own l_i through all rows, costs a backward pass a domain;
    ``benchmarks/contrastive_gradients.py`` compares the two. All this holds without loss weights: where a mixer sets
    them, what flows through a row carries the weights of all examples that it is a negative of, not its own alone, and
    no division by the domain's weight takes them out again.

    Metrics: among all pairs of the split, one caption an image. ``loss`` is the same loss with all of the split's
    other pairs as negatives, not only a batch's: it depends on no order. Every metric and baseline weighs an example by
    one over the number of its origin's images in the split: an emoji with 26 skin-tone versions counts once, as one
    without versions does, though all 26 are candidates. A sample of WebDataset shards weighs one.
    """

    name: ClassVar[str] = "multimodal"
    unit: ClassVar[str] = "pair"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="mean_reciprocal_rank", unit="1/rank", higher_is_better=True, primary=True),
        Metric(name="i2t_recall_at_1", unit="share of images", higher_is_better=True),
        Metric(name="i2t_recall_at_5", unit="share of images", higher_is_better=True),
        Metric(name="t2i_recall_at_1", unit="share of captions", higher_is_better=True),
        Metric(name="t2i_recall_at_5", unit="share of captions", higher_is_better=True),
        Metric(name="zero_shot_accuracy", unit="share of images", higher_is_better=True),
        Metric(name="loss", unit="nats/pair", higher_is_better=False),
    )
    Config: ClassVar[type] = MultimodalConfig
    presets: ClassVar[Mapping[str, Preset]] = {preset.name: preset for preset in PRESETS}

    config: MultimodalConfig

    def __init__(self, config: MultimodalConfig, preset: Preset, cache: Path) -> None:
        super().__init__(config, preset, cache)
        self._made: Prepared | None = None
        self._words: Vocabulary | None = None
        self._images: Images | None = None
        self._offsets: IntArray | None = None

    @classmethod
    def configure(cls, preset: Preset, overrides: Mapping[str, Any]) -> MultimodalConfig:
        """As for every task; ``auto`` becomes the embedder that it stands for here, so that a trial's id names it."""
        from tasks import embedding

        config: MultimodalConfig = super().configure(preset, overrides)
        return replace(config, embedder=embedding.resolve_multimodal(config.embedder))

    def requirements(self) -> Sequence[Requirement]:
        """open_clip and what it fetches for a named model, the shards or the emoji's packages, those of an embedder."""
        return multimodal_requirements.requirements(self.config)

    # Data

    def load(self) -> Corpus:
        """The corpus; the first time it is read, split and tokenised, afterwards it comes from the cache.

        ``examples`` are :class:`tasks.clip.corpus.Pairs`. Decoded images are mapped from the cache, or decoded as they
        are asked for where they exceed ``decoded_megabytes``.
        """
        config = self.config
        source = open_source(config)
        size, context = self._geometry()
        if config.shift >= size:
            raise TaskError(f"shift={config.shift} must be less than the image size of model {config.model!r}, {size}")
        full = clip_tokens.tokenizer(config.model, context)
        made = clip_corpus.prepare(
            source,
            tokenizer=full,
            identity=(config.model, context),
            compact=not config.model,
            holdout=config.holdout,
            smallest_domain=config.smallest_domain if config.domain_field else 0,
            limits={"validation": config.validation_images, "test": config.test_images},
            cache=self.cache,
        )
        self._made = made
        self._words = Vocabulary(full._encode, context, made.kept)
        fits = len(made.places.file) * size * size * 3 <= config.decoded_megabytes * 1_000_000
        where = self.cache / "multimodal" / f"{content_key(made.key, size, config.framing, DECODER)}.npy"
        self._images = Images(made.places, size=size, framing=config.framing, decoded=where if fits else None)
        rng = np.random.default_rng(_SHIFT_SEED)
        count = len(made.pairs["train"].image)
        self._offsets = rng.integers(-config.shift, config.shift + 1, size=(count, 2), dtype=np.int8)
        labels = {split: made.pairs[split].domain for split in SPLITS}
        counts = np.bincount(labels["train"], minlength=len(made.domains))
        train_shares = counts / counts.sum()
        target = target_shares(source.target, made.domains, train_shares)
        judged = [np.round(target, 9).tolist(), source.templates]
        about = [made.fingerprint, size, config.framing, config.shift, *judged]
        return Corpus(
            domains=made.domains,
            labels=labels,
            units={split: np.ones(len(labels[split]), dtype=np.int64) for split in SPLITS},
            examples=made.pairs,
            train_shares=train_shares,
            target_shares=target,
            fingerprint=hashlib.sha256(repr(about).encode()).hexdigest()[:32],
            expected_fingerprint=published(config, self.preset),
            provenance=made.provenance,
            weights={split: made.pairs[split].weight for split in SPLITS},
        )

    def _geometry(self) -> tuple[int, int]:
        """(image size, context)."""
        config = self.config
        return clip_model.geometry(config.model) if config.model else (config.image_size, config.context)

    def _prepared(self) -> Prepared:
        if self._made is None:
            self.load()
        assert self._made is not None
        return self._made

    # Model

    def build_model(self, seed: int) -> nn.Module:
        """CLIP for this preset, or open_clip's model of that name, in training mode."""
        config = self.config
        if config.model:
            return clip_model.named(config.model, config.pretrained, seed=seed)
        self._prepared()
        assert self._words is not None
        return clip_model.build(settings_of(config, self._words.size), seed=seed)

    def tracked(self, model: nn.Module) -> Sequence[Stage]:
        """Pairs of the two towers' layers; the last is both projections, the last layers before the similarities."""
        assert isinstance(model, clip_model.Clip)
        return model.stages()

    def batch(self, corpus: Corpus, split: str, indices: IntArray) -> Batch:
        """``images``: [B, 3, S, S] uint8; ``tokens``: [B, context] int64."""
        pairs = corpus.examples[split]
        self._prepared()
        assert self._images is not None
        assert self._offsets is not None
        pixels = self._images[pairs.image[indices]]
        if split == "train" and self.config.shift:
            pixels = shifted(pixels, self._offsets[indices])
        return {
            "images": torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))),
            "tokens": torch.from_numpy(pairs.tokens[indices].astype(np.int64)),
        }

    def loss(self, model: nn.Module, batch: Batch) -> Losses:
        """The examples' contrastive losses, in nats; per unit [B, 1]."""
        images, texts, scale = model(batch["images"], batch["tokens"])
        per_example = clip_model.contrastive(images, texts, scale)
        per_unit = per_example[:, None]
        return Losses(per_unit=per_unit, mask=torch.ones_like(per_unit), per_example=per_example)

    # Judgement

    def evaluate(
        self, model: nn.Module, corpus: Corpus, split: str, *, device: torch.device, dtype: torch.dtype
    ) -> Scores:
        """Every image against all captions of the split, every caption against all images, and classes by prompts.

        Baselines: chance for retrieval; for classification the class whose constant answer is best on the training
        images under the target shares, with origins weighted as in judgement.
        """
        pairs = corpus.examples[split]
        training = model.training
        model.eval()
        try:
            with torch.no_grad(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                encoded = [self._encoded(each, corpus, split, device) for each in clip_ensemble.models_of(model)]
            sums = clip_ensemble.judged(model, encoded, pairs.label, pairs.weight)
        finally:
            model.train(training)
        train = corpus.examples["train"]
        usual = clip_scores.best_constant(train.label, train.domain, train.weight, corpus.target_shares)
        baselines = clip_scores.chance(pairs.weight)
        baselines["zero_shot_accuracy"] = clip_scores.constant(usual, pairs.label, pairs.weight)
        return Scores(domains=corpus.labels[split], sums=sums, baselines=baselines)

    def combine(self, models: Sequence[nn.Module], weights: FloatArray, how: Combination) -> nn.Module:
        """CLIP models as one; logits are similarities times the model's own scale, and answers those of the split."""
        return clip_ensemble.ClipEnsemble(models, weights, how)

    def _encoded(self, model: clip_model.Clip, corpus: Corpus, split: str, device: torch.device) -> Encoded:
        every = np.arange(len(corpus.examples[split].image))
        cuts = range(_EVALUATION_BATCH, len(every), _EVALUATION_BATCH)
        batches = (self.batch(corpus, split, indices) for indices in np.split(every, cuts))
        parts = [model(batch["images"].to(device), batch["tokens"].to(device))[:2] for batch in batches]
        images, texts = (torch.cat([each[side] for each in parts]) for side in (0, 1))
        return Encoded(images=images, texts=texts, prompts=self._prompts(model, device), scale=model.scale())

    def _prompts(self, model: clip_model.Clip, device: torch.device) -> Tensor:
        """[classes, templates, d] features of the classes' prompts; [0, 0, 0] where the data have no classes."""
        classes, templates = self._prepared().classes, open_source(self.config).templates
        if not classes:
            return torch.zeros(0, 0, 0, device=device)
        assert self._words is not None
        tokens = self._words([template.format(name) for name in classes for template in templates])
        parts = torch.from_numpy(tokens).split(_EVALUATION_BATCH)
        features = torch.cat([model.encode_texts(part.to(device)) for part in parts])
        return features.view(len(classes), len(templates), -1)

    def scaled(self, size: float) -> TrainableTask:
        """Narrower or wider towers: widths by the root of ``size``, rounded to what the heads allow."""
        if size == 1.0:
            return self
        config = self.config
        if config.model:
            raise TaskError(f"model={config.model} has one size; order proxy runs with size=1")
        factor, unit = math.sqrt(size), config.heads
        other = copy.copy(self)
        other.config = replace(config, width=max(unit, round(config.width * factor / unit) * unit))
        return other

    def modalities(self) -> tuple[str, ...]:
        """An embedder of images and one of captions."""
        from tasks import embedding

        return embedding.modalities(self.config.embedder)

    def embed(self, corpus: Corpus, split: str, embedder: str) -> Embeddings:
        """Vectors of the examples' images or captions; see :mod:`tasks.embedding` for the embedders.

        An image is embedded once and stands for all of its examples; images are read at the embedder's own size. So is
        the caption that it is judged on, also for training: vectors of its many training captions would be cut by their
        forms, which validation lacks.
        """
        from tasks import embedding

        if split not in SPLITS:
            raise TaskError(f"no split {split!r}; the splits are {', '.join(SPLITS)}")
        made = self._prepared()
        wanted = embedding.resolve_multimodal(self.config.embedder if embedder == "auto" else embedder)
        if embedding.is_image(wanted):
            assert self._images is not None
            return embedding.embed_images(
                wanted,
                images=self._images,
                indices=lambda part: corpus.examples[part].image,
                content=f"{made.fingerprint} {self.config.framing} {DECODER}",
                split=split,
                cache=self.cache,
            )
        _, inverse = np.unique(corpus.examples[split].image, return_inverse=True)
        found = embedding.embed(
            wanted.partition(":")[2],
            texts=lambda part: made.captions.of(np.unique(corpus.examples[part].image)),
            content=f"{made.fingerprint} judged captions",
            split=split,
            cache=self.cache,
        )
        return replace(found, vectors=found.vectors[inverse])
