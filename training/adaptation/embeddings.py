"""Embedded captions, kept for later steps in bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch

MOST_BYTES = 256_000_000


class EmbeddingCache:
    """Embeddings by caption, on the CPU. Beyond `most_bytes` the least recently used goes first.

    encode: embeddings [N, L, D] of N captions.
    """

    def __init__(self, encode: Callable[[list[str]], torch.Tensor], most_bytes: int = MOST_BYTES) -> None:
        self._encode, self._most = encode, most_bytes
        self._kept: OrderedDict[str, torch.Tensor] = OrderedDict()

    def embed(self, captions: Sequence[str]) -> torch.Tensor:
        """[N, L, D] on the CPU, without gradients; encodes what is not kept."""
        if unknown := sorted(set(captions) - set(self._kept)):
            with torch.no_grad():
                encoded = self._encode(unknown).cpu()
            self._kept.update((caption, row.clone()) for caption, row in zip(unknown, encoded, strict=True))
        for caption in captions:
            self._kept.move_to_end(caption)
        embedded = torch.stack([self._kept[caption] for caption in captions])
        self._drop()
        return embedded

    def _drop(self) -> None:
        one = next(iter(self._kept.values())).nbytes  # all are of one size
        while len(self._kept) * one > self._most:
            self._kept.popitem(last=False)
