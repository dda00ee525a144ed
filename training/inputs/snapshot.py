"""Frozen inputs: what a run learns from, written once into its folder and named by digest.

Ratings that arrive or change while a job runs do not change it, and a resumed job reads what it began with.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from training.data.digest import digest_of
from training.inputs.aggregation import image_rows, pair_rows
from training.inputs.pairs import PAIRS_FILE
from training.inputs.parquet import to_parquet
from training.inputs.rated import RATINGS_FILE
from vouch.domains.criteria import SUB_LABEL
from vouch.errors import FailedPrecondition
from vouch.storage.atomic import write_whole
from vouch.storage.blobs import BlobStore
from vouch.storage.catalog import Catalog
from vouch.types.rating import RaterKind, Rating


@dataclass(frozen=True)
class Snapshot:
    """What was frozen. `ratings` are the ids, `kinds` counts them by who rated."""

    digest: str
    ratings: tuple[str, ...]
    images: int
    kinds: Mapping[str, int]


def freeze(
    catalog: Catalog, blobs: BlobStore, folder: Path, *, kinds: Iterable[RaterKind], domain: str | None
) -> Snapshot:
    """Writes the current ratings with their images into `folder`, unless an earlier attempt has.

    Raises:
        FailedPrecondition: there is no rating of these kinds.
    """
    path = folder / RATINGS_FILE
    if not path.is_file():
        wanted = tuple(kinds)
        ratings = [r for r in catalog.ratings.freeze(kinds=wanted, domain=domain)[0] if not _sub_labels(r)]
        if not ratings:
            raise FailedPrecondition(
                f"There is no {' or '.join(wanted)} rating to learn from. Rate images first (`vouch rate`), "
                "or name the kinds to learn from: --kinds simulated takes simulated raters too.",
                "NO_RATINGS",
            )
        folder.mkdir(parents=True, exist_ok=True)
        if pairs := pair_rows(ratings, catalog, blobs):
            write_whole(folder / PAIRS_FILE, to_parquet(pairs))
        write_whole(path, to_parquet(image_rows(ratings, catalog, blobs)))  # last: it says that all is there
    return read_snapshot(path)


def frozen_kinds(folder: Path) -> Mapping[str, int]:
    """How many of a run's frozen ratings are of each kind of rater."""
    return read_snapshot(Path(folder) / RATINGS_FILE).kinds


def _sub_labels(rating: Rating) -> bool:
    """Whether a rating sub-labels its image and says nothing of how plausible it is."""
    names = [name.startswith(SUB_LABEL) for name in rating.answers]
    return bool(names) and all(names) and rating.verdict == "unsure" and rating.preference is None


def read_snapshot(path: Path) -> Snapshot:
    """What a file of frozen ratings holds."""
    table = pq.read_table(path, columns=["ratings", "kinds"]).to_pydict()
    ids = [i for text in table["ratings"] for i in json.loads(text)]
    kinds = [k for text in table["kinds"] for k in json.loads(text)]
    return Snapshot(
        digest_of(path), tuple(ids), len(table["ratings"]), {k: kinds.count(k) for k in sorted(set(kinds))}
    )
