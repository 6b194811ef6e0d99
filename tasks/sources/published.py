"""Fingerprints of the embedded corpus under each preset, made from the packages that the ``demo`` extra pins.

Made with tokenizers 0.23.3. A different fingerprint means other texts, splits or tokens: its rows share no table with
the published ones.
"""

FINGERPRINTS: dict[str, str] = {
    "demo": "86c46dd32f053e3e98284a7856776ce0",
    "nano": "4967131335e62446af745a863c9eaed0",
    "small": "af437e5cf387a2e0d848f7e8afd02834",
}
