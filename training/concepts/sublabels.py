"""Sub-labels: what experts say of which sub-type an image of a class is, and the images that nobody told of.

They come from ratings in the catalog, whose answers hold one for the concept, or from a column of a labelled image set.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from training.data.examples import Examples
from training.inputs.aggregation import criterion_answers
from training.inputs.consensus import consensus
from training.inputs.parquet import decode_images, to_parquet
from training.inputs.snapshot import Snapshot, read_snapshot
from training.randomness import numbers
from vouch.domains.criteria import sub_label
from vouch.errors import FailedPrecondition, InvalidInput
from vouch.storage.atomic import write_whole
from vouch.storage.blobs import BlobStore
from vouch.storage.catalog import Catalog
from vouch.types.image import ImageRecord
from vouch.types.rating import RaterKind, Rating

FILE_NAME = "sublabels.parquet"
SCHEMA = pa.schema(
    [("image", pa.binary()), ("said", pa.float64()), ("ratings", pa.string()), ("kinds", pa.string())]
)
MOST_UNLABELLED = 2000
"""Images without a sub-label that a run freezes; more would add little but time."""


@dataclass(frozen=True)
class SubLabelled:
    """Images of one class, uint8 [N, 3, H, W], with their attributes, and the probability [N] that experts give the
    concept; nan where nobody said anything. `patients`: whose image each is, "" where nothing says so."""

    images: torch.Tensor
    attributes: tuple[dict[str, str], ...]
    probability: torch.Tensor
    patients: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.probability)

    @property
    def labelled(self) -> torch.Tensor:
        """Indices of those that have a sub-label."""
        return (~self.probability.isnan()).nonzero().flatten()

    @property
    def groups(self) -> tuple[str | int, ...]:
        """What has to stay together: the patient of each image, or its own row where no patient is known."""
        known = self.patients or ("",) * len(self)
        return tuple(patient or row for row, patient in enumerate(known))

    def counts(self) -> tuple[int, int]:
        """How many are labelled as the concept, and how many as something else."""
        yes, no = self.sides()
        return len(yes), len(no)

    def sides(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Indices of those labelled as the concept, and of those labelled as something else."""
        rows = self.labelled
        yes = self.probability[rows] > 0.5
        return rows[yes], rows[~yes]

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
        held = chosen + [
            row for row in self.labelled.tolist() if groups[row] in patients and row not in alone
        ]
        probability = self.probability.clone()
        probability[held] = torch.nan
        return replace(self, probability=probability), self._rows(torch.tensor(held))

    def only_labelled(self) -> SubLabelled:
        """Those that have a sub-label."""
        return self._rows(self.labelled)

    def _rows(self, rows: torch.Tensor) -> SubLabelled:
        return SubLabelled(
            self.images[rows],
            tuple(self.attributes[row] for row in rows.tolist()),
            self.probability[rows],
            tuple(self.patients[row] for row in rows.tolist()) if self.patients else (),
        )

    def limited(self, most: int | None, seed: int) -> SubLabelled:
        """With `most` of the sub-labels, drawn at random; the others' are forgotten, their images stay."""
        labelled = self.labelled.tolist()
        if most is None or len(labelled) <= most:
            return self
        probability = self.probability.clone()
        probability[numbers(seed, "sub-labels").sample(labelled, len(labelled) - most)] = torch.nan
        return replace(self, probability=probability)


# --- from the catalog ----------------------------------------------------------------------------------------


def freeze_sub_labels(
    catalog: Catalog,
    blobs: BlobStore,
    folder: Path,
    *,
    concept: str,
    kind_of: str,
    kinds: Iterable[RaterKind],
) -> Snapshot:
    """Writes the class's images with their sub-labels into `folder`, unless an earlier attempt has. Without any
    sub-label it holds images alone."""
    path = folder / FILE_NAME
    if not path.is_file():
        key, wanted = sub_label(concept), tuple(kinds)
        ratings = [one for one in catalog.ratings.freeze(kinds=wanted)[0] if key in one.answers]
        probability, by_image = consensus(criterion_answers(ratings, key)), _by_image(ratings)
        records = [catalog.images.get(digest) for digest in sorted(probability)]
        records += [one for one in _images_of(catalog, kind_of) if one.digest not in probability]
        rows = [
            {
                "image": blobs.get(record.digest),
                "said": probability.get(record.digest),
                "ratings": json.dumps(sorted(rating.id for rating in by_image[record.digest])),
                "kinds": json.dumps([rating.kind for rating in by_image[record.digest]]),
            }
            for record in records
        ]
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, to_parquet(rows, SCHEMA))
    return read_snapshot(path)


def load_sub_labels(folder: Path) -> SubLabelled | None:
    """The frozen images of a run's folder, or None where there are none."""
    path = Path(folder) / FILE_NAME
    table = pq.read_table(path).to_pydict() if path.is_file() else {"image": []}
    if not table["image"]:
        return None
    probability = torch.tensor([float("nan") if value is None else value for value in table["said"]])
    return SubLabelled(decode_images(table["image"]), ({},) * len(probability), probability)


def _by_image(ratings: Iterable[Rating]) -> dict[str, list[Rating]]:
    by_image: dict[str, list[Rating]] = defaultdict(list)
    for rating in ratings:
        by_image[rating.image].append(rating)
    return by_image


def _images_of(catalog: Catalog, label: str) -> list[ImageRecord]:
    """Images of the class that nobody has to have rated, the newest first."""
    records: list[ImageRecord] = []
    token = ""
    while len(records) < MOST_UNLABELLED:
        page = catalog.images.list(label=label, page_size=1000, page_token=token)
        records += page.items
        token = page.next_token
        if not token:
            break
    return records[:MOST_UNLABELLED]


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
    probability = [1.0 if cell == value else _not(cell, others) for cell in cells]
    attributes = tuple({k: v for k, v in row.items() if k != column} for row in part.attributes)
    return SubLabelled(part.images, attributes, torch.tensor(probability), part.patients)


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
        torch.cat([part.probability for part in parts]),
        tuple(patient for part in parts for patient in part.patients or ("",) * len(part)),
    )


def check_enough(images: SubLabelled, concept: str, least: int) -> None:
    """Raises FailedPrecondition unless there are `least` sub-labels on either side."""
    yes, no = images.counts()
    if min(yes, no) < least:
        raise FailedPrecondition(
            f"There are {yes} sub-labels that say {concept!r} and {no} that say it is not; at least {least} of each "
            f'are needed. Sub-label more with `vouch concept label "{concept}"`, or give a labelled file with '
            "--data, --column and --value.",
            "TOO_FEW_SUB_LABELS",
        )
