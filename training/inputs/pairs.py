"""The compared images of a run."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import torch

from training.inputs.parquet import decode_images

PAIRS_FILE = "pairs.parquet"


@dataclass(frozen=True)
class Pairs:
    """Images that were compared, uint8 [N, 3, H, W] each, with their prompts and digests, and how probable it is that
    the first is the better one [N], by what all say together."""

    first: torch.Tensor
    second: torch.Tensor
    first_prompts: tuple[str, ...]
    second_prompts: tuple[str, ...]
    digests: tuple[tuple[str, str], ...]
    preferred: torch.Tensor

    def __len__(self) -> int:
        return len(self.preferred)

    def without(self, digests: Collection[str]) -> list[int]:
        """The pairs in which none of these images is."""
        return [row for row, pair in enumerate(self.digests) if not set(pair) & set(digests)]


def load_pairs(folder: Path) -> Pairs | None:
    """The frozen comparisons in a run's folder, or None where there are none."""
    path = Path(folder) / PAIRS_FILE
    if not path.is_file():
        return None
    table = pq.read_table(path).to_pydict()
    return Pairs(
        first=decode_images(table["first"]),
        second=decode_images(table["second"]),
        first_prompts=tuple(table["first_prompt"]),
        second_prompts=tuple(table["second_prompt"]),
        digests=tuple(zip(table["first_digest"], table["second_digest"], strict=True)),
        preferred=torch.tensor(table["preferred"]),
    )
