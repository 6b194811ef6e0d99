"""Cut documents into train, validation and test by origin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tasks.base import SPLITS, TaskError
from tasks.sources.documents import Document, stable_rank

SPLIT_SEED = 0
PORTIONS = {"train": 0.8, "validation": 0.1, "test": 0.1}


def split_origins(documents: Sequence[Document], portions: Mapping[str, float] = PORTIONS) -> dict[str, str]:
    """Origin -> split, about 80/10/10 (or other portions) of the bytes of every domain, decided for all at once.

    Origins are met in stable random order (a hash of their name) and each goes where its domains lack most of their
    portion. An origin that has documents in several domains (a module's docstrings and its source) goes to one split
    with all of them. Raises :class:`TaskError` where a domain has too few origins to be in all three.
    """
    sizes: dict[str, dict[str, int]] = {}
    totals: dict[str, int] = {}
    for document in documents:
        size = len(document.text.encode())
        of_origin = sizes.setdefault(document.origin, {})
        of_origin[document.domain] = of_origin.get(document.domain, 0) + size
        totals[document.domain] = totals.get(document.domain, 0) + size
    have = {(domain, split): 0 for domain in totals for split in SPLITS}
    assigned: dict[str, str] = {}
    for origin in sorted(sizes, key=lambda name: stable_rank(f"{SPLIT_SEED}/{name}")):
        shares = {domain: size / max(totals[domain], 1) for domain, size in sizes[origin].items()}

        def lack(split: str, shares: dict[str, float] = shares) -> float:
            return sum(
                share * (1 - have[domain, split] / max(portions[split] * totals[domain], 1e-9))
                for domain, share in shares.items()
            )

        chosen = max(SPLITS, key=lack)  # the first of equals: train
        assigned[origin] = chosen
        for domain, size in sizes[origin].items():
            have[domain, chosen] += size
    for (domain, split), size in sorted(have.items()):
        if size == 0:
            raise TaskError(
                f"domain {domain!r} has no text in the {split} split; "
                "give it at least three documents, of different origins"
            )
    return assigned
