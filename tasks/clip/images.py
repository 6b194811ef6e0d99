"""Images as square uint8 arrays: decoded once into the cache, or on demand where a corpus is large."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image

from tasks.base import IntArray, TaskError
from tasks.cache import atomic_path

LAYOUT = 2  # raise when :func:`decode` gives other pixels, so that what was decoded before is not used
DECODER = f"{LAYOUT}, Pillow {PIL.__version__}"  # what decides an image's pixels beyond its bytes, size and framing
Framing = Literal["pad", "crop"]
Pixels = npt.NDArray[np.uint8]
_THREADS = 8  # decoders of one batch; Pillow works without the interpreter's lock


def decode(raw: bytes, size: int, framing: Framing) -> Pixels:
    """[size, size, 3] of an encoded image: transparency on white, made square by white margins or a centre crop.

    Raises ``OSError`` or ``ValueError`` where the bytes are no whole image.
    """
    try:
        with Image.open(io.BytesIO(raw)) as image:
            see_through = image.mode in ("P", "PA", "LA", "RGBA", "RGBa") or "transparency" in image.info
            layers = image.convert("RGBA" if see_through else "RGB")
    except (SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(str(error)) from None
    if see_through:
        white = Image.new("RGBA", layers.size, (255, 255, 255, 255))
        layers = Image.alpha_composite(white, layers).convert("RGB")
    width, height = layers.size
    if framing == "crop":
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)  # what is cut away is not resized first
        return np.asarray(layers.resize((size, size), Image.Resampling.BICUBIC, box=box), dtype=np.uint8)
    scale = size / max(width, height)
    resized = layers.resize((max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.BICUBIC)
    left, top = (size - resized.width) // 2, (size - resized.height) // 2
    square = Image.new("RGB", (size, size), (255, 255, 255))
    square.paste(resized, (left, top))
    return np.asarray(square, dtype=np.uint8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where n encoded images lie: files, and per image [n] the file's index, the offset and the size in bytes."""

    files: tuple[str, ...]
    file: IntArray
    offset: IntArray
    size: IntArray

    def read(self, index: int) -> bytes:
        """The encoded bytes of one image. Raises :class:`TaskError` where they are gone."""
        path = self.files[int(self.file[index])]
        try:
            with open(path, "rb") as file:
                file.seek(int(self.offset[index]))
                return file.read(int(self.size[index]))
        except OSError as error:
            raise TaskError(f"cannot read {path}: {error.strerror}; the corpus is made from it, put it back") from None


class Images:
    """n square images by index, as uint8 [k, size, size, 3].

    decoded: a ``.npy`` file that holds all of them, mapped into memory, or ``None``: then they are read and decoded
    when they are asked for, so that memory holds no more than a batch.
    """

    def __init__(self, places: Places, *, size: int, framing: Framing, decoded: Path | None = None) -> None:
        self.places, self.size, self.framing = places, size, framing
        self._all: Pixels | None = None if decoded is None else _mapped(decoded, places, size, framing)

    def __len__(self) -> int:
        return len(self.places.file)

    def __getitem__(self, indices: IntArray | Sequence[int]) -> Pixels:
        wanted = np.asarray(indices, dtype=np.int64)
        if self._all is not None:
            return self._all[wanted]
        return self.at(wanted, self.size)

    def at(self, indices: IntArray, size: int) -> Pixels:
        """The images decoded anew at another size, [k, size, size, 3]."""
        one = partial(_decoded, self.places, size=size, framing=self.framing)
        found = np.empty((len(indices), size, size, 3), dtype=np.uint8)
        for row, pixels in enumerate(_each(one, [int(index) for index in indices])):
            found[row] = pixels
        return found


def _each(work: Callable[[int], Pixels], indices: list[int]) -> Sequence[Pixels]:
    """The results in the order of the indices."""
    threads = min(_THREADS, os.cpu_count() or 1)
    if threads == 1 or len(indices) < 2 * threads:
        return [work(index) for index in indices]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, indices))


def _decoded(places: Places, index: int, *, size: int, framing: Framing) -> Pixels:
    try:
        return decode(places.read(index), size, framing)
    except (OSError, ValueError) as error:
        if isinstance(error, TaskError):
            raise
        where = f"{places.files[int(places.file[index])]} at byte {int(places.offset[index])}"
        raise TaskError(f"{where}: not a whole image ({error}); remove it or make the file again") from None


def _mapped(path: Path, places: Places, size: int, framing: Framing) -> Pixels:
    """The decoded images, written where they do not lie yet or where the file is damaged."""
    shape = (len(places.file), size, size, 3)
    try:
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
        if stored.shape == shape and stored.dtype == np.uint8:
            return np.asarray(stored)
    except (OSError, ValueError, EOFError):
        pass
    with atomic_path(path) as temporary:
        out = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        for index in range(shape[0]):
            out[index] = _decoded(places, index, size=size, framing=framing)
        out.flush()
        del out
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


def shifted(images: Pixels, offsets: IntArray) -> Pixels:
    """Images moved by offsets [k, 2] (down, right) in pixels; what comes into view is white."""
    found = np.full_like(images, 255)
    size = images.shape[1]
    for row, (down, right) in enumerate(offsets.tolist()):
        found[row, max(0, down) : size + min(0, down), max(0, right) : size + min(0, right)] = images[
            row, max(0, -down) : size + min(0, -down), max(0, -right) : size + min(0, -right)
        ]
    return found
