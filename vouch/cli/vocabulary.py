"""The vocabulary of the serving generator, for commands that write prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vouch.client import Client
    from vouch.models.captions import Vocabulary


def vocabulary_of(client: Client) -> Vocabulary | None:
    """None if the generator accepts any prompt."""
    from vouch.models.captions import Vocabulary

    known = client.describe_generator()
    if known.open_vocabulary:
        return None
    values = {one.name.replace(" ", "_"): tuple(one.values) for one in known.attributes}
    return Vocabulary(tuple(known.labels), values)
