"""Captions that training draws from labels and attributes."""

from __future__ import annotations

import random

from vouch.models.captions import caption

FULL_CAPTIONS = 0.15
"""Share of captions that name every annotated attribute: a client may ask for all of them."""


def random_caption(
    label: str, attributes: dict[str, str], rng: random.Random, bare: float = 0.4, full: float = 0.0
) -> str:
    """The bare label with probability `bare`, all attributes with probability `full`, else one to four of them.

    A generator that saw only full descriptions draws poorly when a client asks for "neutrophil" alone.
    """
    names = list(attributes)
    chance = rng.random()
    if not names or chance < bare:
        return caption(label)
    if chance >= 1.0 - full:
        return caption(label, attributes)
    chosen = rng.sample(names, rng.randint(1, min(4, len(names))))
    return caption(label, {name: attributes[name] for name in chosen})
