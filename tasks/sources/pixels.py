"""Telling pictures apart by what they show."""

from __future__ import annotations

import hashlib
import io

from PIL import Image


def pixel_digest(raw: bytes) -> str:
    """SHA-256 of an encoded image's size and RGBA pixels, 32 hex digits: equal pictures agree however they are encoded.

    Raises ``OSError`` or ``ValueError`` where the bytes are no whole image.
    """
    try:
        with Image.open(io.BytesIO(raw)) as image:
            pixels = image.convert("RGBA")
    except (SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(str(error)) from None
    return hashlib.sha256(repr(pixels.size).encode() + pixels.tobytes()).hexdigest()[:32]
