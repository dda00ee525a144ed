"""Image sets as tar files, WebDataset's above all.

WebDataset calls members that share a path up to the first dot of their name one sample. Here every image of a sample
is an item with its full name as key: cut at a dot, names such as DICOM UIDs would be one sample. Words are looked for
under the image's own name first (``1.2.840.7.png``: ``1.2.840.7.txt``), then under that of its sample
(``0001.left.png``: ``0001.txt``). Members need not stand side by side.
"""

from __future__ import annotations

import io
import itertools
import lzma
import posixpath
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial, reduce
from pathlib import Path, PurePosixPath
from typing import IO

from vouch.datasets.imagesets.items import (
    HEAD_BYTES,
    HIDDEN,
    OTHER,
    Skip,
    SourceImage,
    foreign,
    is_apple_double,
    is_image,
    size_problem,
    suffix_of,
    tells_kind,
)
from vouch.datasets.imagesets.metadata import (
    MAX_OTHER_BYTES,
    MAX_TABLE_BYTES,
    FilesByName,
    Metadata,
    is_metadata,
    is_other_table,
)
from vouch.datasets.imagesets.prompts import (
    ANY_COLUMNS,
    MAX_NOTE_BYTES,
    PROMPT_SUFFIXES,
    ImageText,
    Note,
    TableColumns,
    note_suffix,
    words_of_notes,
)
from vouch.datasets.imagesets.tables import Tables
from vouch.datasets.imagesets.unique import Unique
from vouch.errors import InvalidInput
from vouch.formats.texts import printable_name

_LINKS_FOLLOWED = 8
_READ_BYTES = 1024 * 1024
_LOST = ImageText(problem="The tar is damaged: the words of this image may be in the part that is lost.")
_NOTES_OF_A_SAMPLE = 16
"""A sample with more notes than these is none: its images are named like others by chance, as DICOM UIDs are."""


class TarSet:
    """One tar file, plain or compressed; the key is the member's path."""

    layout = "WebDataset tar: members that share a path up to the first dot of their name are one sample"

    def __init__(self, path: Path, columns: TableColumns = ANY_COLUMNS, prefix: str = "") -> None:
        self.path = path
        self.ignored: Counter[str] = Counter()
        self._columns, self._prefix = columns, prefix

    def count(self) -> int | None:
        """None: a tar has no list of its members."""
        return None

    def images(self, skip: Skip | None = None) -> Iterator[SourceImage]:
        """Every image, in the order of the tar. Raises `InvalidInput` for a damaged file, after what came before."""
        try:
            yield from self._images(skip)
        except _DAMAGE as error:
            raise InvalidInput(
                f"{self.path} is truncated or is not a tar file ({_first_line(error)}). Copy it again, or write it"
                " anew."
            ) from error

    def _images(self, skip: Skip | None) -> Iterator[SourceImage]:
        self.ignored.clear()
        index, seen, keys = _index(self.path), False, Unique()
        tables = Tables(partial(index.table, self.path, self._columns), self._columns.vocabulary)
        met = Counter[_Place]()
        for member in _members(self.path):
            kind, reason = _kind_of(member)
            if kind not in ("image", "skipped"):
                if kind:
                    self.ignored[OTHER if kind in ("note", "table", "other table") else kind] += 1
                if kind == "table":
                    file, places = _folders(member)
                    tables.visit(file.parent, places[0])
                continue
            seen = True
            key = self._prefix + keys.of(_key(member.name))
            met[member.place] += member.place in index.again
            if skip and skip(key):
                continue
            if kind == "skipped":
                yield SourceImage(key, b"", skipped=reason)
            else:
                data, problem = index.linked(self.path, member) if member.link else member.image()
                words = tables.words(index.words(member, met[member.place]), *_folders(member))
                words = words.or_else(_LOST if index.damaged else ImageText())
                yield words.on(key, data, problem)
        yield from tables.missing(skip, self._prefix)
        if not seen and not self._prefix:
            raise InvalidInput(f"{self.path} holds no image; expected members like 0001.png beside 0001.txt.")


@dataclass
class _Member:
    name: str
    info: tarfile.TarInfo
    tar: tarfile.TarFile
    part: int = 0
    """Which tar of those written one after the other it is in."""

    @property
    def place(self) -> _Place:
        return self.part, self.name

    @property
    def link(self) -> str:
        """The name of the member that this one stands for; "" for one with data of its own."""
        if self.info.islnk():
            return posixpath.normpath(self.info.linkname)
        if self.info.issym():
            return posixpath.normpath(posixpath.join(posixpath.dirname(self.name), self.info.linkname))
        return ""

    @cached_property
    def _file(self) -> IO[bytes]:
        return self.tar.extractfile(self.info) or io.BytesIO()

    @cached_property
    def head(self) -> bytes:
        return self._file.read(HEAD_BYTES) if self.info.isfile() else b""

    def image(self) -> tuple[bytes, str]:
        """The data of an image, and why there is none."""
        if not self.info.isfile():
            return b"", "The member is no file."
        if problem := size_problem(self.info.size):
            return b"", problem
        return self.head + self._file.read(), ""  # onwards only: to go back in a .tar.gz is to start anew

    def table(self) -> bytes:
        """A metadata table. Raises `InvalidInput` if it is too large."""
        if self.info.size > MAX_TABLE_BYTES:
            raise InvalidInput(
                f"{printable_name(self.name)} has {self.info.size} bytes; of a table in a tar at most {MAX_TABLE_BYTES}"
                " are read. Unpack the tar."
            )
        return self._file.read()

    def note(self) -> tuple[int, bytes]:
        """The size of a note, and as many of its bytes as are kept."""
        return self.info.size, self.head + self._file.read(MAX_NOTE_BYTES - HEAD_BYTES)


def _kind_of(member: _Member) -> tuple[str, str]:
    """("image" | "note" | "table" | "other table" | "skipped" | what is ignored, why it is skipped)."""
    base = posixpath.basename(member.name)
    if member.info.isdir():
        return "", ""
    if member.link:
        return ("image", "") if is_image(base, b"") else (OTHER, "")
    if is_metadata(base) and member.info.isfile():
        return "table", ""
    if is_other_table(base) and not base.lower().endswith(".parquet") and member.info.isfile():
        return "other table", ""
    # What a suffix tells is not read: half of all members are looked at to pass them over.
    head = b"" if tells_kind(base) and not base.startswith(".") else member.head
    if is_apple_double(base, head):
        return "macOS ._ files", ""
    if base.startswith("."):
        return ("skipped", HIDDEN) if is_image(base, head) else (OTHER, "")
    if reason := foreign(base, head):
        return "skipped", reason
    if is_image(base, head):
        return "image", ""
    if note_suffix(base) and member.info.isfile():
        return "note", ""
    return OTHER, ""


_Place = tuple[int, str]
"""A name or a folder of one part."""
_Written = tuple[int, int, bytes]
"""A note: the part that it is in, its size, and as many of its bytes as are kept."""


@dataclass
class _Index:
    """What a first pass over the headers found."""

    notes: dict[str, tuple[_Written, ...]] = field(default_factory=dict)
    """By name, the suffix in lower case, in their order. The least that can be kept: a tar may hold millions."""
    again: Counter[_Place] = field(default_factory=Counter)
    """Images whose name comes more than once, by part and name: in how many members of that part."""
    samples: dict[str, set[str]] = field(default_factory=dict)
    """WebDataset's samples: notes (up to the last dot) that are of no image alone, by their names up to the first."""
    tables: dict[_Place, dict[str, bytes]] = field(default_factory=dict)
    """Metadata tables, by folder and name."""
    others: dict[_Place, dict[str, bytes]] = field(default_factory=dict)
    """Small tables of other names, likewise."""
    names: frozenset[str] = frozenset()
    """The images, where there are tables that may name them."""
    damaged: bool = False
    """Notes and tables behind the damage are lost."""
    targets: dict[str, tarfile.TarInfo | str] = field(default_factory=dict)
    """Members that links point to: where their data is, or the name that they link to themselves."""

    def words(self, member: _Member, time: int = 0) -> ImageText:
        """The words of an image; of a name that comes again, of its member number `time` in this part."""
        name = member.name
        words = ImageText()
        for one in dict.fromkeys([_stem(name), name, _sample(name)]):
            words = words.or_else(words_of_notes(self._beside(one, member.place, time)))
        return words.or_else(self._of_sample(_sample(name), member.place, time))

    def _of_sample(self, sample: str, place: _Place, time: int) -> ImageText:
        """The words of a sample's notes that are of no image alone, such as ``0.caption.txt``."""
        stems = self.samples.get(sample, set())
        if len(stems) > _NOTES_OF_A_SAMPLE:
            return ImageText()
        texts = [words_of_notes(self._beside(stem, place, time)) for stem in sorted(stems)]
        if len({words.prompt for words in texts if words.prompt}) > 1:
            names = ", ".join(printable_name(posixpath.basename(stem)) for stem in sorted(stems))
            return ImageText(
                problem=f"Notes of the sample hold different words, and none is its image's own: {names}."
            )
        return reduce(ImageText.or_else, texts, ImageText())

    def _beside(self, stem: str, place: _Place, time: int) -> dict[str, Note]:
        kept = {suffix: self._written(stem + suffix, place) for suffix in PROMPT_SUFFIXES}
        name = printable_name(posixpath.basename(stem))
        return {
            suffix: _note(name + suffix, notes, self.again[place], time)
            for suffix, notes in kept.items()
            if notes
        }

    def _written(self, name: str, place: _Place) -> list[_Written]:
        """The notes of this name that may be meant for the image at `place`: those of its own part. Another part's are
        an only image's, where it has none: with the image's name twice, they are the other's."""
        notes = self.notes.get(name, ())
        own = [note for note in notes if note[0] == place[0]]
        return own or ([] if place in self.again else list(notes))

    def table(self, shard: Path, known: TableColumns, place: _Place) -> Metadata:
        """The metadata tables in a folder of the tar."""
        tables = self.tables.get(place, {})
        folder = PurePosixPath(place[1])
        inside = (PurePosixPath(name) for name in self.names) if tables else ()
        files = FilesByName(one.relative_to(folder).as_posix() for one in inside if folder in one.parents)
        return Metadata(shard / folder, tables, files, known, lambda: self.others.get(place, {}))

    def linked(self, shard: Path, member: _Member) -> tuple[bytes, str]:
        target: tarfile.TarInfo | str | None = member.link
        for _ in range(_LINKS_FOLLOWED):
            if not isinstance(target, str):
                break
            target = self.targets.get(target)
        if not isinstance(target, tarfile.TarInfo):
            return b"", f"The member is a link to {printable_name(member.link)}, which is not in the tar."
        with tarfile.open(shard, mode="r:*") as tar:
            return _Member(member.name, target, tar).image()


def _index(shard: Path) -> _Index:
    """Reads every header once. A damaged end is left to the second pass, which reports it after what came before."""
    index, images, links = _Index(), dict[str, int](), set[str]()
    try:
        for member in _members(shard):
            kind, _ = _kind_of(member)
            if kind == "note":
                name = _note_stem(member.name) + note_suffix(member.name)
                index.notes[name] = (*index.notes.get(name, ()), (member.part, *member.note()))
            elif kind == "table" or (kind == "other table" and member.info.size <= MAX_OTHER_BYTES):
                tables = index.tables if kind == "table" else index.others
                folder = PurePosixPath(_key(member.name)).parent.as_posix()
                tables.setdefault((member.part, folder), {})[posixpath.basename(member.name)] = member.table()
            elif kind == "image":
                if member.name in images:
                    first = (images[member.name], member.name)
                    index.again[first] = index.again[first] or 1
                    index.again[member.place] += 1
                images.setdefault(member.name, member.part)
                if member.link:
                    links.add(member.link)
        if links:
            _find_targets(shard, index, links)
    except _DAMAGE:
        index.damaged = True
    for stem in {_note_stem(name) for name in index.notes} - {_stem(name) for name in images}:
        index.samples.setdefault(_sample(stem), set()).add(stem)
    index.names = frozenset(map(_key, images)) if index.tables else frozenset()
    return index


def _note(name: str, written: list[_Written], images: int, time: int) -> Note:
    """The note of image number `time`, from 1, of `images` of one name; 0 where the name comes once.

    As many notes as images belong together in their order. Else they must be the same, for nothing says whose is whose.
    """
    if images and len(written) == images:
        written = written[time - 1 : time]
    _, size, data = written[-1]
    differ = any(note[1:] != (size, data) for note in written)
    problem = f"the tar holds {len(written)} of this name, which differ" if differ else ""
    return Note(name, data, size, problem)


def _folders(member: _Member) -> tuple[PurePosixPath, list[_Place]]:
    """The member's path, and the places of the folders above it."""
    file = PurePosixPath(_key(member.name))
    return file, [(member.part, folder.as_posix()) for folder in file.parents]


def _find_targets(shard: Path, index: _Index, links: set[str]) -> None:
    for member in _members(shard):
        name = posixpath.normpath(member.name)
        if name in links or member.link:
            index.targets[name] = member.link or member.info


def _members(shard: Path) -> Iterator[_Member]:
    """Every member; of tars written one after the other (cat a.tar b.tar) too."""
    with tarfile.open(shard, mode="r:*") as first:
        tar: tarfile.TarFile | None = first
        for part in itertools.count():
            if tar is None:
                break
            while (info := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # tarfile keeps every header otherwise: a gigabyte per million members
                yield _Member(info.name, info, tar, part)
            tar = _next_tar(tar)


def _next_tar(tar: tarfile.TarFile) -> tarfile.TarFile | None:
    """The tar after the end of this one, if there is one. Raises `tarfile.ReadError` if this one has no end."""
    # tarfile ends in silence at a header that is cut or garbled; a whole tar ends with a block of zeros.
    file = tar.fileobj
    assert file is not None
    file.seek(tar.offset)
    if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        raise tarfile.ReadError("no end-of-archive block")
    at = tar.offset + tarfile.BLOCKSIZE
    while block := file.read(_READ_BYTES):
        if (zeros := len(block) - len(block.lstrip(tarfile.NUL))) < len(block):
            file.seek(at + zeros // tarfile.BLOCKSIZE * tarfile.BLOCKSIZE)
            return tarfile.TarFile(fileobj=file, mode="r")
        at += len(block)
    return None


_DAMAGE = (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError, ValueError, OverflowError)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(":")


def _key(name: str) -> str:
    return printable_name(name).removeprefix("./")


def _stem(name: str) -> str:
    """The path up to the last dot of its name."""
    suffix = suffix_of(posixpath.basename(name))
    return name[: len(name) - len(suffix)] if suffix else name


def _note_stem(name: str) -> str:
    """The path of a note without the suffix that makes it one."""
    return name[: len(name) - len(note_suffix(name))]


def _sample(name: str) -> str:
    """The path up to the first dot of its name: WebDataset's key."""
    folder, slash, base = name.rpartition("/")
    return f"{folder}{slash}{base.partition('.')[0]}"
