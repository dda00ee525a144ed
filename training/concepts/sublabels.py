"""Sub-labels: what experts say of which sub-type an image of a class is, and the images that nobody told of.

They come from ratings in the catalog, whose answers hold one for the concept, or from a column of a labelled image set.
"""

from __future__ import annotations

import io
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from training.data import Examples
from training.inputs import Frozen, answered, decoded, described
from training.randomness import numbers
from training.raters import consensus
from vouch.domains.criteria import sub_label
from vouch.errors import FailedPrecondition, InvalidInput
from vouch.storage.atomic import write_whole
from vouch.storage.blobs import BlobStore
from vouch.storage.catalog import Catalog
from vouch.types.image import ImageRecord
from vouch.types.rating import RaterKind, Rating

FILE_NAME = "sublabels.parquet"
MOST_UNTOLD = 2000
"""Images without a sub-label that a run freezes; more would add little but time."""


@dataclass(frozen=True)
class SubLabelled:
    """Images of one class, uint8 [N, 3, H, W], with their attributes, and the probability [N] that experts give the
    concept; nan where nobody said anything. `patients`: whose image each is, "" where nothing says so."""

    images: torch.Tensor
    attributes: tuple[dict[str, str], ...]
    said: torch.Tensor
    patients: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.said)

    @property
    def told(self) -> torch.Tensor:
        """Which of them somebody told of, as indices."""
        return (~self.said.isnan()).nonzero().flatten()

    @property
    def groups(self) -> tuple[str | int, ...]:
        """What has to stay together: the patient of each image, or its own row where no patient is known."""
        known = self.patients or ("",) * len(self)
        return tuple(patient or row for row, patient in enumerate(known))

    def counts(self) -> tuple[int, int]:
        """How many are told to be the concept, and how many not to be."""
        yes, no = self.sides()
        return len(yes), len(no)

    def sides(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Indices of those told to be the concept, and of those told not to be."""
        return self.told[self.said[self.told] > 0.5], self.told[self.said[self.told] <= 0.5]

    def apart(self, share: float, seed: int) -> tuple[SubLabelled, SubLabelled]:
        """All but this share of the sub-labels of either side, at least one, and the images with those. Of the patients
        of the latter no sub-label is left with the former."""
        chosen = [
            row
            for number, side in enumerate(self.sides())
            for row in numbers(seed, "apart", number).sample(side.tolist(), max(1, round(share * len(side))))
        ]
        groups = self.groups
        patients, alone = {groups[row] for row in chosen}, set(chosen)
        held = chosen + [row for row in self.told.tolist() if groups[row] in patients and row not in alone]
        said = self.said.clone()
        said[held] = torch.nan
        return replace(self, said=said), self._rows(torch.tensor(held))

    def only_told(self) -> SubLabelled:
        """Those that somebody told of."""
        return self._rows(self.told)

    def _rows(self, rows: torch.Tensor) -> SubLabelled:
        return SubLabelled(
            self.images[rows],
            tuple(self.attributes[row] for row in rows.tolist()),
            self.said[rows],
            tuple(self.patients[row] for row in rows.tolist()) if self.patients else (),
        )

    def limited(self, most: int | None, seed: int) -> SubLabelled:
        """With `most` of the sub-labels, drawn at random; the others' are forgotten, their images stay."""
        told = self.told.tolist()
        if most is None or len(told) <= most:
            return self
        said = self.said.clone()
        said[numbers(seed, "sub-labels").sample(told, len(told) - most)] = torch.nan
        return replace(self, said=said)


# --- from the catalog ----------------------------------------------------------------------------------------


def freeze_sub_labels(
    catalog: Catalog,
    blobs: BlobStore,
    folder: Path,
    *,
    concept: str,
    kind_of: str,
    kinds: Iterable[RaterKind],
) -> Frozen:
    """Writes the class's images with their sub-labels into `folder`, unless an earlier attempt has. Without any
    sub-label it holds images alone."""
    path = folder / FILE_NAME
    if not path.is_file():
        key, asked = sub_label(concept), tuple(kinds)
        ratings = [one for one in catalog.ratings.freeze(kinds=asked)[0] if key in one.answers]
        said, by_image = consensus(answered(ratings, key)), _by_image(ratings)
        records = [catalog.images.get(digest) for digest in sorted(said)]
        records += [one for one in _images_of(catalog, kind_of) if one.digest not in said]
        rows = [
            {
                "image": blobs.get(record.digest),
                "said": said.get(record.digest),
                "ratings": json.dumps(sorted(rating.id for rating in by_image[record.digest])),
                "kinds": json.dumps([rating.kind for rating in by_image[record.digest]]),
            }
            for record in records
        ]
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, _parquet(rows))
    return described(path)


def load_sub_labels(folder: Path) -> SubLabelled | None:
    """The frozen images of a run's folder, or None where there are none."""
    path = Path(folder) / FILE_NAME
    table = pq.read_table(path).to_pydict() if path.is_file() else {"image": []}
    if not table["image"]:
        return None
    said = torch.tensor([float("nan") if value is None else value for value in table["said"]])
    return SubLabelled(decoded(table["image"]), ({},) * len(said), said)


def _by_image(ratings: Iterable[Rating]) -> dict[str, list[Rating]]:
    found: dict[str, list[Rating]] = defaultdict(list)
    for rating in ratings:
        found[rating.image].append(rating)
    return found


def _images_of(catalog: Catalog, label: str) -> list[ImageRecord]:
    """Images of the class that nobody has to have rated, the newest first."""
    found: list[ImageRecord] = []
    token = ""
    while len(found) < MOST_UNTOLD:
        page = catalog.images.list(label=label, page_size=1000, page_token=token)
        found += page.items
        token = page.next_token
        if not token:
            break
    return found[:MOST_UNTOLD]


def _parquet(rows: Sequence[dict]) -> bytes:
    schema = pa.schema(
        [("image", pa.binary()), ("said", pa.float64()), ("ratings", pa.string()), ("kinds", pa.string())]
    )
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), sink)
    return sink.getvalue()


# --- from a labelled image set -------------------------------------------------------------------------------


def read_sub_labels(
    examples: Examples, kind_of: str, column: str | None, value: str | None, others: Sequence[str] = ()
) -> SubLabelled:
    """The images of the class `kind_of`. Where `column` is `value` they are the concept; where it is another (one of
    `others`, if given) they are not; where it is empty nobody said. column None: nobody said anything.

    Raises:
        InvalidInput: no image of the class, a column that no image of it has, or a value that it never takes.
    """
    rows = [row for row, label in enumerate(examples.labels) if label == kind_of]
    if not rows:
        raise InvalidInput(
            f"The data hold no {kind_of}. They hold: {', '.join(sorted(set(examples.labels)))}.", "NO_IMAGES"
        )
    part = examples.subset(rows)
    if column is None:
        return SubLabelled(part.images, part.attributes, torch.full((len(part),), torch.nan), part.patients)
    cells = [
        {**shown, **hidden}.get(column, "")
        for shown, hidden in zip(part.attributes, part.hidden, strict=True)
    ]
    _check_column(cells, kind_of, column, value)
    said = [1.0 if cell == value else _not(cell, others) for cell in cells]
    attributes = tuple({k: v for k, v in row.items() if k != column} for row in part.attributes)
    return SubLabelled(part.images, attributes, torch.tensor(said), part.patients)


def _not(cell: str, others: Sequence[str]) -> float:
    return 0.0 if cell and (not others or cell in others) else float("nan")


def _check_column(cells: Sequence[str], kind_of: str, column: str, value: str | None) -> None:
    known = sorted(set(filter(None, cells)))
    if not known:
        raise InvalidInput(f"No image of {kind_of} has anything in the column {column!r}.", "UNKNOWN_COLUMN")
    if value not in known:
        raise InvalidInput(
            f"The column {column!r} never says {value!r} of a {kind_of}. It says: {', '.join(known)}.",
            "UNKNOWN_VALUE",
        )


# --- both ----------------------------------------------------------------------------------------------------


def joined(parts: Sequence[SubLabelled]) -> SubLabelled:
    """The images of all of them; raises InvalidInput when they differ in size."""
    if len({part.images.shape[1:] for part in parts}) > 1:
        raise InvalidInput("The images that were sub-labelled and those of --data differ in size.")
    return SubLabelled(
        torch.cat([part.images for part in parts]),
        tuple(row for part in parts for row in part.attributes),
        torch.cat([part.said for part in parts]),
        tuple(patient for part in parts for patient in part.patients or ("",) * len(part)),
    )


def check_enough(found: SubLabelled, concept: str, least: int) -> None:
    """Raises FailedPrecondition unless there are `least` sub-labels on either side."""
    yes, no = found.counts()
    if min(yes, no) < least:
        raise FailedPrecondition(
            f"There are {yes} sub-labels that say {concept!r} and {no} that say it is not; at least {least} of each "
            f'are needed. Sub-label more with `vouch concept label "{concept}"`, or give a labelled file with '
            "--data, --column and --value.",
            "TOO_FEW_SUB_LABELS",
        )
