"""The rated images of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import torch

from training.inputs.parquet import decode_images
from vouch.types.image import ImageSource

RATINGS_FILE = "ratings.parquet"


@dataclass(frozen=True)
class Rated:
    """Rated images. `images` uint8 [N, 3, H, W]; `overall` [N] and each of `criteria` [N] in [0, 1], nan where open;
    `sources` say whether they were drawn or are real; `uniform` are the digests of those that the review queue drew
    with equal chances, a fair sample of what generators draw."""

    images: torch.Tensor
    prompts: tuple[str, ...]
    digests: tuple[str, ...]
    overall: torch.Tensor
    criteria: Mapping[str, torch.Tensor]
    sources: tuple[ImageSource, ...]
    uniform: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.prompts)

    def drawn(self) -> Rated:
        """Those that a generator drew, without the real images that were hidden between them."""
        rows = [row for row, source in enumerate(self.sources) if source == "generated"]
        return Rated(
            self.images[rows],
            tuple(self.prompts[row] for row in rows),
            tuple(self.digests[row] for row in rows),
            self.overall[rows],
            {name: values[rows] for name, values in self.criteria.items()},
            tuple(self.sources[row] for row in rows),
            self.uniform,
        )

    def targets(self, criteria: Sequence[str]) -> torch.Tensor:
        """[N, 1 + criteria]: the verdict, then these criteria; nan where nothing is known."""
        nothing = torch.full((len(self),), float("nan"))
        return torch.stack([self.overall, *(self.criteria.get(name, nothing) for name in criteria)], 1)


def load_rated(folder: Path) -> Rated | None:
    """The frozen ratings in a run's folder, or None where the run has none."""
    path = Path(folder) / RATINGS_FILE
    if not path.is_file():
        return None
    table = pq.read_table(path).to_pydict()
    names = sorted({name for text in table["criteria"] for name in json.loads(text)})
    answers = [json.loads(text) for text in table["criteria"]]
    return Rated(
        decode_images(table["image"]),
        tuple(table["prompt"]),
        tuple(table["digest"]),
        torch.tensor([float("nan") if v is None else v for v in table["overall"]]),
        {name: torch.tensor([row.get(name, float("nan")) for row in answers]) for name in names},
        # Files of before real images could be given, or of before draws were logged, have no such column.
        tuple(table.get("source", ["generated"] * len(answers))),
        frozenset(
            d for d, uniform in zip(table["digest"], table.get("uniform", ()), strict=False) if uniform
        ),
    )
