"""The multimodal task's model: open_clip's, with both towers' projections as linear layers side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.base import Stage, TaskError
from tasks.clip.tokens import MISSING
from tasks.hugging_face import quick

LARGEST_SCALE = math.log(100)  # Radford et al. 2021, section 2.5
_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of the images that CLIP was first trained on
_STD = (0.26862954, 0.26130258, 0.27577711)


class Clip(nn.Module):
    """An open_clip model that takes uint8 images and shows its projections.

    In a ViT and in a text tower the projection is a bare parameter; here it is a bias-free linear layer with the
    transposed weights, which computes the same and can be read. A tower whose own module ends otherwise (ResNet, timm,
    Hugging Face) keeps its end. The logit scale, a parameter, is set back to ln 100 wherever a step took it beyond, as
    CLIP's own training does; a clamp of the value alone would leave it there without a gradient.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner
        self.image_projection = _taken(inner.visual, "proj")
        holder = inner.text if hasattr(inner, "text") else inner
        self.text_projection = _taken(holder, "text_projection")
        mean = getattr(inner.visual, "image_mean", None) or _MEAN
        std = getattr(inner.visual, "image_std", None) or _STD
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1) * 255, persistent=False)

    def encode_images(self, images: Tensor) -> Tensor:
        """[B, 3, S, S] uint8 -> [B, d] float32 of length one."""
        pixels = (images.float() - self.mean) / self.std
        features = self.inner.visual(pixels)
        if self.image_projection is not None:
            features = self.image_projection(features)
        return F.normalize(features.float(), dim=-1)

    def encode_texts(self, tokens: Tensor) -> Tensor:
        """[B, context] int64 -> [B, d] float32 of length one."""
        features = self.inner.encode_text(tokens)
        if self.text_projection is not None:
            features = self.text_projection(features)
        return F.normalize(features.float(), dim=-1)

    def scale(self) -> Tensor:
        """The factor of cosine similarities in the logits, 100 at most."""
        with torch.no_grad():
            self.inner.logit_scale.clamp_(max=LARGEST_SCALE)
        return self.inner.logit_scale.float().exp().reshape(())

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Image features [B, d], text features [B, d] and the logit scale."""
        return self.encode_images(images), self.encode_texts(tokens), self.scale()

    def stages(self) -> list[Stage]:
        """What domain gradients can be read from, in definition order; the projections are the last stage.

        Before them stand the towers' MLP layers in pairs, matched from the end; where one tower is deeper, its first
        layers stand alone. A transformer whose blocks do not lead with the batch is left out, as is a projection
        that is no linear layer; without any, the model's linear layers that lead with the batch are unknown and none
        is offered.
        """
        ends = [each for each in (self.image_projection, self.text_projection) if each is not None]
        if self.image_projection is None:
            ends = [*_last_linear(self.inner.visual), *ends]
        if self.text_projection is None and hasattr(self.inner, "text"):
            ends += _last_linear(self.inner.text)
        images = _hidden(getattr(self.inner.visual, "transformer", None))
        holder = self.inner.text if hasattr(self.inner, "text") else self.inner
        texts = _hidden(getattr(holder, "transformer", None))
        depth = max(len(images), len(texts))
        found: list[Stage] = []
        for back in range(depth, 0, -1):
            pair = tuple(layers[-back] for layers in (images, texts) if back <= len(layers))
            found.append(pair if len(pair) > 1 else pair[0])
        if ends:
            found.append(tuple(ends) if len(ends) > 1 else ends[0])
        return found


def _taken(holder: Any, name: str) -> nn.Linear | None:
    """A tower's projection as a linear layer, taken out of the tower; ``None`` where it has none of that kind."""
    weight = getattr(holder, name, None)
    if isinstance(weight, nn.Linear):
        setattr(holder, name, None)
        return weight
    if not isinstance(weight, nn.Parameter):
        return None
    layer = nn.Linear(weight.shape[0], weight.shape[1], bias=False, device=weight.device)
    with torch.no_grad():
        layer.weight.copy_(weight.t())
    setattr(holder, name, None)
    return layer


def _last_linear(tower: nn.Module) -> list[nn.Linear]:
    """The projection of a timm or Hugging Face tower, where it is a plain linear layer."""
    for end in (getattr(getattr(tower, "head", None), "proj", None), getattr(tower, "proj", None)):
        if isinstance(end, nn.Linear):
            return [end]
    return []


def _hidden(transformer: Any) -> list[nn.Linear]:
    """The MLP layers of an open_clip transformer, in order; none where its blocks do not lead with the batch."""
    if not getattr(transformer, "batch_first", False):
        return []
    layers = [getattr(getattr(block, "mlp", None), name, None) for block in transformer.resblocks for name in _MLP]
    return [layer for layer in layers if isinstance(layer, nn.Linear)]


_MLP = ("c_fc", "c_proj")


def build(settings: Mapping[str, Any], *, seed: int) -> Clip:
    """A fresh model of these settings (embed_dim, vision_cfg, text_cfg); initial weights depend on ``seed`` alone."""
    try:
        from open_clip import CLIP
    except ImportError:
        raise TaskError(MISSING) from None
    # Only the CPU generator is drawn from; the fork gives it back as it was found.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return Clip(CLIP(**settings)).float()


def named(model: str, pretrained: str, *, seed: int) -> Clip:
    """A model of open_clip by name; ``pretrained``: a tag or the path of a checkpoint, or empty: from scratch."""
    try:
        import open_clip
    except ImportError:
        raise TaskError(MISSING) from None
    try:
        with quick(), torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            inner = open_clip.create_model(
                model, pretrained=pretrained or None, require_pretrained=bool(pretrained), weights_only=True
            )
    except Exception as error:  # many kinds, from missing files to network errors
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise TaskError(f"cannot load model {model!r} {pretrained}: {reason[0]}".replace("  ", " ")) from None
    if not isinstance(inner, open_clip.CLIP | open_clip.CustomTextCLIP):
        raise TaskError(f"model {model!r} is a {type(inner).__name__}; choose a CLIP of open_clip.list_models()")
    return Clip(inner).float().train()


def geometry(model: str) -> tuple[int, int]:
    """(image size, context length) of a model of open_clip. Raises :class:`TaskError` for an unknown name."""
    try:
        import open_clip
    except ImportError:
        raise TaskError(MISSING) from None
    found = open_clip.get_model_config(model)
    if found is None:
        known = {name.lower(): name for name in open_clip.list_models()}
        near = [known[name] for name in get_close_matches(model.lower(), known, n=1)]
        hint = f"did you mean {near[0]!r}?" if near else "open_clip.list_models() names them"
        raise TaskError(f"model={model!r} is no open_clip model; {hint}")
    size = found["vision_cfg"].get("image_size", 224)
    if not isinstance(size, int):
        if size[0] != size[1]:
            raise TaskError(f"model {model!r} takes images of {size[0]} x {size[1]}; choose one that takes squares")
        size = size[0]
    return size, int(found["text_cfg"].get("context_length", 77))


def contrastive(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    """[B] float32: half the cross-entropy of finding a row's caption by its image and its image by its caption.

    images, texts: [B, d] float32 of length one. Every other row is a negative. The mean is CLIP's loss (Radford et al.
    2021, figure 3).
    """
    with torch.autocast(images.device.type, enabled=False):  # logits reach 100: half precision would round them to 0.5
        logits = scale * images @ texts.t()
        answers = torch.arange(len(logits), device=logits.device)
        return 0.5 * (
            F.cross_entropy(logits, answers, reduction="none") + F.cross_entropy(logits.t(), answers, reduction="none")
        )
