"""Frozen inputs: what a run learns from, written once into its folder and named by digest.

Ratings that arrive or change while a job runs do not change it, and a resumed job reads what it began with.
"""

from __future__ import annotations

import io
import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from training.data import digest_of
from training.raters import Answer, consensus
from vouch.domains.criteria import SUB_LABEL
from vouch.errors import FailedPrecondition
from vouch.formats import images as codec
from vouch.models.captions import general
from vouch.storage.atomic import write_whole
from vouch.storage.blobs import BlobStore
from vouch.storage.catalog import Catalog
from vouch.types.image import ImageSource
from vouch.types.rating import RaterKind, Rating

FILE_NAME = "ratings.parquet"
PAIRS_NAME = "pairs.parquet"


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
            {name: told[rows] for name, told in self.criteria.items()},
            tuple(self.sources[row] for row in rows),
            self.uniform,
        )

    def targets(self, criteria: Sequence[str]) -> torch.Tensor:
        """[N, 1 + criteria]: the verdict, then these criteria; nan where nothing is known."""
        nothing = torch.full((len(self),), float("nan"))
        return torch.stack([self.overall, *(self.criteria.get(name, nothing) for name in criteria)], 1)


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
        ratings = [r for r in catalog.ratings.freeze(kinds=asked, domain=domain)[0] if not _sub_labels(r)]
        if not ratings:
            raise FailedPrecondition(
                f"There is no {' or '.join(asked)} rating to learn from. Rate images first (`vouch rate`), "
                "or name the kinds to learn from: --kinds simulated takes simulated raters too.",
                "NO_RATINGS",
            )
        folder.mkdir(parents=True, exist_ok=True)
        if pairs := _pairs(ratings, catalog, blobs):
            write_whole(folder / PAIRS_NAME, _parquet(pairs))
        write_whole(path, _parquet(_rows(ratings, catalog, blobs)))  # last: it says that all is there
    return described(path)


def load_rated(folder: Path) -> Rated | None:
    """The frozen ratings in a run's folder, or None where the run has none."""
    path = Path(folder) / FILE_NAME
    if not path.is_file():
        return None
    table = pq.read_table(path).to_pydict()
    names = sorted({name for text in table["criteria"] for name in json.loads(text)})
    answers = [json.loads(text) for text in table["criteria"]]
    return Rated(
        decoded(table["image"]),
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


def frozen_kinds(folder: Path) -> Mapping[str, int]:
    """How many of a run's frozen ratings are of each kind of rater."""
    return described(Path(folder) / FILE_NAME).kinds


def load_pairs(folder: Path) -> Pairs | None:
    """The frozen comparisons in a run's folder, or None where there are none."""
    path = Path(folder) / PAIRS_NAME
    if not path.is_file():
        return None
    table = pq.read_table(path).to_pydict()
    return Pairs(
        first=decoded(table["first"]),
        second=decoded(table["second"]),
        first_prompts=tuple(table["first_prompt"]),
        second_prompts=tuple(table["second_prompt"]),
        digests=tuple(zip(table["first_digest"], table["second_digest"], strict=True)),
        preferred=torch.tensor(table["preferred"]),
    )


def decoded(encoded: list[bytes]) -> torch.Tensor:
    """uint8 [N, 3, H, W]."""
    arrays = np.stack([codec.decode(data) for data in encoded])
    return torch.from_numpy(arrays).permute(0, 3, 1, 2).contiguous()


def _rows(ratings: Iterable[Rating], catalog: Catalog, blobs: BlobStore) -> list[dict]:
    """One row per image: what its raters say together, of the whole and of each criterion."""
    by_image: dict[str, list[Rating]] = defaultdict(list)
    for rating in ratings:
        by_image[rating.image].append(rating)
    concepts = learned_concepts(catalog)
    records = {digest: catalog.images.get(digest) for digest in sorted(by_image)}
    uniform = catalog.reviews.uniform()
    gold = {digest: True for digest, record in records.items() if record.source == "real"}
    every = [rating for given in by_image.values() for rating in given]
    overall = consensus(_answers(every, lambda rating: _VERDICTS.get(rating.verdict)), gold)
    names = sorted({name for r in every for name in r.answers if not name.startswith(SUB_LABEL)})
    criteria = {name: consensus(answered(every, name), gold) for name in names}
    return [
        {
            "image": blobs.get(digest),
            "prompt": general(record.prompt, concepts),
            "digest": digest,
            "source": record.source,
            "uniform": digest in uniform,
            "overall": overall.get(digest),
            "criteria": json.dumps(
                {name: found[digest] for name, found in criteria.items() if digest in found}
            ),
            "ratings": json.dumps(sorted(rating.id for rating in by_image[digest])),
            "kinds": json.dumps([rating.kind for rating in by_image[digest]]),
        }
        for digest, record in records.items()
    ]


def learned_concepts(catalog: Catalog) -> dict[str, str]:
    """The sub-types that generators here have learned, each with what it is a kind of. A reward model knows none of
    them: it learns of such an image as one of the class."""
    found: dict[str, str] = {}
    token = ""
    while True:
        page = catalog.versions.list("generator", page_size=1000, page_token=token)
        for version in page.items:
            found |= version.lineage.get("concept", {})
        token = page.next_token
        if not token:
            return found


_VERDICTS = {"plausible": True, "implausible": False}
_ANSWERS = {"pass": True, "fail": False}


def _answers(ratings: Iterable[Rating], read: Callable[[Rating], bool | None]) -> list[Answer]:
    """What was answered; open questions are no answers."""
    told = ((rating, read(rating)) for rating in ratings)
    return [
        Answer(rating.image, f"{rating.kind} {rating.rater}", yes) for rating, yes in told if yes is not None
    ]


def answered(ratings: Iterable[Rating], name: str) -> list[Answer]:
    """What was answered to the question `name`; open ones are no answers."""
    return _answers(ratings, lambda rating: _ANSWERS.get(rating.answers.get(name, "")))


def _sub_labels(rating: Rating) -> bool:
    """Whether a rating sub-labels its image and says nothing of how plausible it is."""
    names = [name.startswith(SUB_LABEL) for name in rating.answers]
    return bool(names) and all(names) and rating.verdict == "unsure" and rating.preference is None


def _pairs(ratings: Iterable[Rating], catalog: Catalog, blobs: BlobStore) -> list[dict]:
    """One row per pair that was compared, however often, with what those who compared it say together."""
    answers = []
    for rating in ratings:
        if rating.preference:
            first, second = sorted((rating.image, rating.preference.other))
            preferred = rating.preference.preferred == first
            answers.append(Answer(f"{first} {second}", f"{rating.kind} {rating.rater}", preferred))
    concepts = learned_concepts(catalog)
    return [
        {
            "first": blobs.get(first),
            "second": blobs.get(second),
            "first_digest": first,
            "second_digest": second,
            "first_prompt": general(catalog.images.get(first).prompt, concepts),
            "second_prompt": general(catalog.images.get(second).prompt, concepts),
            "preferred": preferred,
        }
        for pair, preferred in sorted(consensus(answers).items())
        for first, second in [pair.split()]
    ]


def _parquet(rows: list[dict]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def described(path: Path) -> Frozen:
    """What a file of frozen ratings holds."""
    table = pq.read_table(path, columns=["ratings", "kinds"]).to_pydict()
    ids = [i for text in table["ratings"] for i in json.loads(text)]
    kinds = [k for text in table["kinds"] for k in json.loads(text)]
    return Frozen(
        digest_of(path), tuple(ids), len(table["ratings"]), {k: kinds.count(k) for k in sorted(set(kinds))}
    )
