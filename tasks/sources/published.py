"""Fingerprints of the embedded corpus under each preset, made from the packages that the ``demo`` extra pins."""

FINGERPRINTS: dict[str, str] = {}
