"""A picture as data and a function that draws it, and PNG files that know what they show."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, PngImagePlugin

DPI = 144
# What is hashed is rounded: the last digits of a mean may depend on the machine's libraries, and are not visible.
_DIGITS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """data: JSON-able, all that the drawing depends on. draw: makes the figure from it."""

    data: dict[str, Any]
    draw: Callable[[dict[str, Any]], Figure]

    @property
    def digest(self) -> str:
        """Hash of the data shown."""
        text = json.dumps(_rounded(self.data), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def png(self) -> bytes:
        """The drawing; equal data and equal library versions give equal bytes.

        Pixels depend on matplotlib's version, so the file also says which data it shows and which pixels it was saved
        with: that is what a check can compare on any machine.
        """
        canvas = FigureCanvasAgg(self.draw(self.data))
        canvas.figure.set_dpi(DPI)
        canvas.draw()
        image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
        about = PngImagePlugin.PngInfo()
        about.add_text("Data", self.digest)
        about.add_text("Pixels", _pixels(image))
        buffer = io.BytesIO()
        image.save(buffer, format="PNG", pnginfo=about, dpi=(DPI, DPI), optimize=True)
        return buffer.getvalue()


def fault(path: Path, picture: Picture) -> str:
    """What is wrong with a committed picture, empty if it shows this data and was not changed."""
    try:
        with Image.open(path) as image:
            image.load()
            text = getattr(image, "text", {})
            pixels = _pixels(image.convert("RGB"))
    except OSError:
        return "is not a readable picture"
    if text.get("Data") != picture.digest:
        return "shows other data than the rows"
    return "" if text.get("Pixels") == pixels else "was changed after it was drawn"


def _pixels(image: Image.Image) -> str:
    return hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value
