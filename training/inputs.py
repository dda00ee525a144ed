"""Frozen inputs: what a run learns from, written once into its folder and named by digest.

Ratings that arrive or change while a job runs do not change it, and a resumed job reads what it began with.
"""

from __future__ import annotations

import io
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from training.data import digest_of
from vouch import images as codec
from vouch.atomic import write_whole
from vouch.blobs import BlobStore
from vouch.catalog import Catalog
from vouch.errors import FailedPrecondition
from vouch.records import RaterKind, Rating

FILE_NAME = "ratings.parquet"


@dataclass(frozen=True)
class Rated:
    """Rated images. `images` uint8 [N, 3, H, W]; `overall` [N] and each of `criteria` [N] in [0, 1], nan where open."""

    images: torch.Tensor
    prompts: tuple[str, ...]
    digests: tuple[str, ...]
    overall: torch.Tensor
    criteria: Mapping[str, torch.Tensor]

    def __len__(self) -> int:
        return len(self.prompts)


@dataclass(frozen=True)
class Frozen:
    """What was frozen. `ratings` are the ids, `kinds` counts them by who rated."""

    digest: str
    ratings: tuple[str, ...]
    images: int
    kinds: Mapping[str, int]


def freeze(
    catalog: Catalog, blobs: BlobStore, folder: Path, *, kinds: Iterable[RaterKind], domain: str | None
) -> Frozen:
    """Writes the current ratings with their images into `folder`, unless an earlier attempt has.

    Raises:
        FailedPrecondition: there is no rating of these kinds.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        asked = tuple(kinds)
        ratings, _ = catalog.ratings.freeze(kinds=asked, domain=domain)
        if not ratings:
            raise FailedPrecondition(
                f"There is no {' or '.join(asked)} rating to learn from. Rate images first (`vouch rate`), "
                "or name the kinds to learn from: --kinds simulated takes simulated raters too.",
                "NO_RATINGS",
            )
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, _parquet(_rows(ratings, catalog, blobs)))
    return _describe(path)


def load_rated(folder: Path) -> Rated | None:
    """The frozen ratings in a run's folder, or None where the run has none."""
    path = Path(folder) / FILE_NAME
    if not path.is_file():
        return None
    table = pq.read_table(path).to_pydict()
    arrays = np.stack([codec.decode(data) for data in table["image"]])
    names = sorted({name for text in table["criteria"] for name in json.loads(text)})
    answers = [json.loads(text) for text in table["criteria"]]
    return Rated(
        torch.from_numpy(arrays).permute(0, 3, 1, 2).contiguous(),
        tuple(table["prompt"]),
        tuple(table["digest"]),
        torch.tensor([float("nan") if v is None else v for v in table["overall"]]),
        {name: torch.tensor([row.get(name, float("nan")) for row in answers]) for name in names},
    )


def _rows(ratings: Iterable[Rating], catalog: Catalog, blobs: BlobStore) -> list[dict]:
    """One row per image: the mean of its ratings, each criterion over those who answered it."""
    by_image: dict[str, list[Rating]] = defaultdict(list)
    for rating in ratings:
        by_image[rating.image].append(rating)
    rows = []
    for digest, given in sorted(by_image.items()):
        record = catalog.images.get(digest)
        rows.append(
            {
                "image": blobs.get(digest),
                "prompt": record.prompt,
                "digest": digest,
                "overall": _mean([{"plausible": 1.0, "implausible": 0.0}.get(r.verdict) for r in given]),
                "criteria": json.dumps(_criteria(given), sort_keys=True),
                "ratings": json.dumps(sorted(r.id for r in given)),
                "kinds": json.dumps([r.kind for r in given]),
            }
        )
    return rows


def _criteria(given: list[Rating]) -> dict[str, float]:
    names = {name for rating in given for name in rating.answers}
    means = {
        name: _mean([{"pass": 1.0, "fail": 0.0}.get(r.answers.get(name, "")) for r in given])
        for name in names
    }
    return {name: value for name, value in means.items() if value is not None}


def _mean(values: list[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None


def _parquet(rows: list[dict]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def _describe(path: Path) -> Frozen:
    table = pq.read_table(path, columns=["ratings", "kinds"]).to_pydict()
    ids = [i for text in table["ratings"] for i in json.loads(text)]
    kinds = [k for text in table["kinds"] for k in json.loads(text)]
    return Frozen(
        digest_of(path), tuple(ids), len(table["ratings"]), {k: kinds.count(k) for k in sorted(set(kinds))}
    )
