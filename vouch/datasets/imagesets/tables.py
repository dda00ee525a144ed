"""The metadata tables of a set, each read once: an image's words are in that of its folder or of one above."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from pathlib import PurePosixPath
from typing import Generic, TypeVar

from vouch.datasets.imagesets.items import Skip, SourceImage
from vouch.datasets.imagesets.metadata import Metadata
from vouch.datasets.imagesets.prompts import ImageText
from vouch.models.captions import Vocabulary

Place = TypeVar("Place", bound=Hashable)


class Tables(Generic[Place]):
    """The tables of the folders met so far.

    read: the tables that lie at a place: a folder of the disk, or one inside an archive.
    """

    def __init__(self, read: Callable[[Place], Metadata], vocabulary: Vocabulary | None) -> None:
        self._read, self._vocabulary = read, vocabulary
        self._tables: dict[Place, tuple[PurePosixPath, Metadata]] = {}

    def words(
        self, words: ImageText, file: PurePosixPath, places: Iterable[Place], uid: str = ""
    ) -> ImageText:
        """These words, with what they lack from the tables of the image's folder, those above, or the folder's name.

        file: the image's path inside the set.
        places: of the folders that `file.parents` names.
        uid: SOPInstanceUID of a DICOM image, by which a table may name it.
        """
        for folder, place in zip(file.parents, places):  # noqa: B905 - the set ends before the disk
            table = self.visit(folder, place)
            words = words.or_else(table.of_uid(uid)).or_else(table.of(file.relative_to(folder).as_posix()))
        # Words that are there but unreadable say more than the class: it does not stand in for them.
        return words if words.problem else words.or_else(self._class_folder(file.parent.name))

    def visit(self, folder: PurePosixPath, place: Place) -> Metadata:
        """The tables of a folder. A folder with a table is visited whether or not an image of it is read: its rows may
        name files that are not there."""
        if place not in self._tables:
            self._tables[place] = (folder, self._read(place))
        return self._tables[place][1]

    def _class_folder(self, name: str) -> ImageText:
        """The folder's name, where the model knows it as a label: ``train`` and ``images`` are no classes."""
        label = name.lower().replace("_", " ")
        known = self._vocabulary is not None and label in self._vocabulary.labels
        return ImageText(label, label) if known else ImageText()

    def missing(self, skip: Skip | None, prefix: str = "") -> Iterator[SourceImage]:
        """An item for each row that names no file, or one that is not there."""
        for folder, table in self._tables.values():
            for file, why in table.missing():
                key = prefix + (folder / file.lstrip("/")).as_posix()
                if not (skip and skip(key)):
                    yield SourceImage(key, b"", problem=why)

    def missing_uids(self) -> Iterator[SourceImage]:
        """An item for each row whose SOPInstanceUID no image had."""
        for folder, table in self._tables.values():
            for where, why in table.missing_uids():
                yield SourceImage((folder / where).as_posix(), b"", problem=why)
