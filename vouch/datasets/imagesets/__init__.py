"""Sets of images as people keep them: a folder (of DICOM files too), WebDataset tar shards, Parquet files.

One protocol reads all of them, one image at a time and in a stable order, so that a set larger than memory streams
and an interrupted reader can skip what it has already seen. Images stay encoded: decoding belongs to whoever needs
the pixels.

    for image in open_image_set(Path("cells.parquet")):
        print(image.key, image.prompt, len(image.data))

A folder is read whole: image files, DICOM files, tars and Parquet files, wherever they lie below it. Everything that
looks like an image is yielded, also what cannot be read: `problem` and `skipped` say why, so that nothing is left out
in silence.

Prompts are found where `datasets`, WebDataset and pandas write them (docs/reference/image-sets.md):

- folder: a file beside the image with the same stem: ``a.txt``, ``a.caption``, ``a.json`` (``{"prompt": …}``) or
  ``a.cls`` (a class name); or a table ``metadata.csv``, ``.jsonl`` or ``.parquet`` in its folder or one above, which
  names DICOM files by path or by SOPInstanceUID;
- tar: the same files and tables as members, a note for one image or for a WebDataset sample;
- Parquet: the column ``prompt`` (or ``text``, ``caption``), or else words for ``label`` and attributes, as far as the
  vocabulary of the model (if given) knows them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from vouch.datasets.dicom import NEEDS_PYDICOM, installed
from vouch.datasets.imagesets.folder import FolderSet
from vouch.datasets.imagesets.items import (
    IMAGE_SUFFIXES,
    MAX_IMAGE_BYTES,
    PARQUET_SUFFIXES,
    TAR_SUFFIXES,
    ImageSet,
    Skip,
    SourceImage,
)
from vouch.datasets.imagesets.metadata import METADATA
from vouch.datasets.imagesets.parquet import ParquetSet
from vouch.datasets.imagesets.prompts import Prompting, TableColumns
from vouch.datasets.imagesets.tar import TarSet
from vouch.datasets.imagesets.walk import walk
from vouch.errors import FailedPrecondition, InvalidInput
from vouch.formats.intensity import IntensityWindow
from vouch.models.captions import Vocabulary

__all__ = [
    "MAX_IMAGE_BYTES", "METADATA", "ImageSet", "Prompting", "Skip", "SourceImage", "open_image_set", "sampled",
]  # fmt: skip


def open_image_set(
    path: Path | str,
    vocabulary: Vocabulary | None = None,
    window: IntensityWindow | None = None,
    patient_column: str = "",
) -> ImageSet:
    """The set at `path`, by what it is.

    `vocabulary` keeps columns that no model was told about (a slide batch, a file name) out of prompts made from
    columns. `window` names the values that are black and white in DICOM files; by default each file's first window.
    `patient_column` says whose image a row of a table describes, beside the columns that are always known.

    Raises:
        InvalidInput: nothing there, nothing in it, or a kind of file that is not understood.
    """
    path, columns = Path(path), TableColumns(vocabulary, patient_column)
    if path.is_dir():
        return _open_folder(path, columns, window)
    if not path.exists():
        raise InvalidInput(
            f"There is no file or folder {path}. Give a folder of images, a .tar or a .parquet file."
        )
    if path.name.lower().endswith(PARQUET_SUFFIXES):
        return ParquetSet(path, columns)
    if path.name.lower().endswith(TAR_SUFFIXES):
        return TarSet(path, columns)
    raise InvalidInput(
        f"{path} is not an image set. Give a folder of images, a WebDataset .tar, or a .parquet file."
    )


def sampled(images: ImageSet, count: int, seed: int) -> Iterator[SourceImage]:
    """`count` items of the set drawn at random, or all where there are no more; in their order. The same `seed` draws
    the same ones."""
    keys: list[str] = []

    def note(key: str) -> bool:
        keys.append(key)
        return True

    for _ in images.images(note):  # reads no image that can be passed over
        pass
    chosen = set(random.Random(seed).sample(keys, min(count, len(keys))))
    return images.images(lambda key: key not in chosen)


def _open_folder(path: Path, columns: TableColumns, window: IntensityWindow | None) -> ImageSet:
    others = ""
    for entry in walk(path):
        if entry.kind == "dicom" and not installed():
            raise FailedPrecondition(NEEDS_PYDICOM, "NEEDS_PYDICOM")
        if entry.kind in ("image", "dicom", "tar", "parquet"):
            return FolderSet(path, columns, window)
        if entry.kind == "skipped" or entry.why == "Parquet files without images":
            others = others or f" {entry.key} is there, but: {entry.why}"
    known = ", ".join(sorted(IMAGE_SUFFIXES))
    raise InvalidInput(f"The folder {path} holds no image ({known}), no .tar and no .parquet file.{others}")
