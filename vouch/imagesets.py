"""Sets of images as people keep them: a folder, WebDataset tar shards, Parquet files.

One protocol reads all three, one image at a time and in a stable order, so that a set larger than memory
streams and an interrupted reader can skip what it has already seen. Images stay encoded: decoding belongs to
whoever needs the pixels.

    for image in open_image_set(Path("cells.parquet")):
        print(image.key, image.prompt, len(image.data))

Prompts are found by convention:

- folder: a file beside the image with the same stem: ``a.txt`` (the prompt), ``a.json`` (``{"prompt": …}``)
  or ``a.cls`` (a class name); or one ``metadata.jsonl`` of lines ``{"file_name": …, "prompt": …}``;
- tar: the same, as members of one WebDataset sample;
- Parquet: the column ``prompt`` (or ``text``, ``caption``), or else words for ``label`` and attributes, as
  far as the vocabulary of the model (if given) knows them.
"""

from __future__ import annotations

import json
import os
import random
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from vouch.captions import Vocabulary, caption
from vouch.errors import InvalidInput

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
PROMPT_SUFFIXES = (".txt", ".json", ".cls")
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
PARQUET_SUFFIXES = (".parquet",)
METADATA = "metadata.jsonl"
PROMPT_COLUMNS = ("prompt", "text", "caption")
MAX_IMAGE_BYTES = 16 * 1024 * 1024
"""An encoded image larger than this is reported as a problem and not read."""
MAX_PROMPT_BYTES = 64 * 1024
PARQUET_ROWS = 32
"""Rows held decoded at a time."""

Skip = Callable[[str], bool]


@dataclass(frozen=True)
class SourceImage:
    """One encoded image of a set.

    Example:
        SourceImage(key="neutrophil/0001", data=b"\\x89PNG…", prompt="neutrophil")
    """

    key: str
    """Unique inside the set and the same on every reading."""
    data: bytes = field(repr=False)
    """Encoded bytes (PNG, JPEG, …); empty when ``problem`` is set."""
    prompt: str = ""
    label: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""
    """Why there are no bytes, as a sentence; empty when there are."""


class ImageSet(Protocol):
    """A readable set; `images` may be called again and starts over."""

    path: Path

    def count(self) -> int | None:
        """Number of images, or None where only reading everything would tell."""
        ...

    def images(self, skip: Skip | None = None) -> Iterator[SourceImage]:
        """Yields every image whose key `skip` does not refuse. Raises `InvalidInput` on a damaged file."""
        ...


def open_image_set(path: Path | str, vocabulary: Vocabulary | None = None) -> ImageSet:
    """The set at `path`, by what it is.

    A folder of Parquet files or tars (and no images) is read as the shards of one set. `vocabulary` keeps
    columns that no model was told about (a slide batch, a file name) out of prompts made from columns.

    Raises:
        InvalidInput: nothing there, nothing in it, or a kind of file that is not understood.
    """
    path = Path(path)
    if path.is_dir():
        return _open_folder(path, vocabulary)
    if not path.exists():
        raise InvalidInput(
            f"There is no file or folder {path}. Give a folder of images, a .tar or a .parquet file."
        )
    if path.name.endswith(PARQUET_SUFFIXES):
        return ParquetSet(path, [path], vocabulary)
    if path.name.endswith(TAR_SUFFIXES):
        return TarSet(path, [path])
    raise InvalidInput(
        f"{path} is not an image set. Give a folder of images, a WebDataset .tar, or a .parquet file."
    )


def sampled(images: ImageSet, count: int, seed: int) -> Iterator[SourceImage]:
    """`count` images of the set drawn at random, or all where there are no more; in their order. The same `seed` draws
    the same ones."""
    keys: list[str] = []

    def note(key: str) -> bool:
        keys.append(key)
        return True

    for _ in images.images(note):  # reads no image that can be passed over
        pass
    chosen = set(random.Random(seed).sample(keys, min(count, len(keys))))
    return images.images(lambda key: key not in chosen)


def _open_folder(path: Path, vocabulary: Vocabulary | None) -> ImageSet:
    if next(_walk_images(path), None) is not None:
        return FolderSet(path)
    if parquets := sorted(p for p in path.iterdir() if p.name.endswith(PARQUET_SUFFIXES)):
        return ParquetSet(path, parquets, vocabulary)
    if tars := sorted(p for p in path.iterdir() if p.name.endswith(TAR_SUFFIXES)):
        return TarSet(path, tars)
    known = ", ".join(sorted(IMAGE_SUFFIXES))
    raise InvalidInput(f"The folder {path} holds no image ({known}), no .tar and no .parquet file.")


class FolderSet:
    """Image files under a folder, in sorted order; the key is the relative path with its suffix."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def count(self) -> int | None:
        return sum(1 for _ in _walk_images(self.path))

    def images(self, skip: Skip | None = None) -> Iterator[SourceImage]:
        described = _read_metadata(self.path / METADATA)
        for file in _walk_images(self.path):
            key = file.relative_to(self.path).as_posix()
            if not (skip and skip(key)):
                image = _read_file(file, key)
                yield image if image.prompt else replace(image, prompt=described.get(key, ""))


def _read_metadata(path: Path) -> dict[str, str]:
    """Prompts by file name, in the layout that `datasets` calls an image folder."""
    if not path.is_file():
        return {}
    lines = [_json_object(line) for line in path.read_bytes().splitlines() if line.strip()]
    if not all(isinstance(line.get("file_name"), str) for line in lines):
        raise InvalidInput(f'{path} is damaged: every line must be a JSON object with a "file_name".')
    return {line["file_name"]: _prompt_of(line) for line in lines}


def _walk_images(folder: Path) -> Iterator[Path]:
    # One folder's listing in memory at a time; hidden names hold tools' state, never a data set.
    entries = sorted((e for e in os.scandir(folder) if not e.name.startswith(".")), key=lambda e: e.name)
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk_images(Path(entry.path))
        elif os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES and entry.is_file():
            yield Path(entry.path)


def _read_file(file: Path, key: str) -> SourceImage:
    try:
        size = file.stat().st_size
        problem = _size_problem(size)
        data = b"" if problem else file.read_bytes()
    except OSError as error:
        return SourceImage(key, b"", problem=f"The file could not be read: {error.strerror}.")
    notes = {
        suffix: sidecar.read_bytes()[:MAX_PROMPT_BYTES]
        for suffix in PROMPT_SUFFIXES
        if (sidecar := file.with_suffix(suffix)).is_file()
    }
    return _annotated(key, data, notes, problem)


class TarSet:
    """WebDataset shards: consecutive members that share a name up to the first dot are one sample."""

    def __init__(self, path: Path, shards: list[Path]) -> None:
        self.path = path
        self.shards = shards

    def count(self) -> int | None:
        return None

    def images(self, skip: Skip | None = None) -> Iterator[SourceImage]:
        seen = False
        for shard in self.shards:
            prefix = f"{_stem(shard)}/" if len(self.shards) > 1 else ""
            for sample in _whole(shard, _tar_samples(shard)):
                seen = True
                key = prefix + sample.key
                if not (skip and skip(key)):
                    yield _annotated(key, sample.data, sample.notes, sample.problem)
        if not seen:
            raise InvalidInput(f"{self.path} holds no image; expected members like 0001.png beside 0001.txt.")


@dataclass
class _Sample:
    stem: str
    key: str = ""
    data: bytes = b""
    problem: str = ""
    notes: dict[str, bytes] = field(default_factory=dict)


def _whole(shard: Path, samples: Iterator[_Sample]) -> Iterator[_Sample]:
    try:
        yield from samples
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise _damaged_tar(shard, str(error)) from error


def _tar_samples(shard: Path) -> Iterator[_Sample]:
    sample: _Sample | None = None
    for name, read in _tar_members(shard):
        folder, _, base = name.rpartition("/")
        stem = f"{folder}/{base.partition('.')[0]}".lstrip("/")
        if sample is None or sample.stem != stem:
            if sample and sample.key:
                yield sample
            sample = _Sample(stem)
        suffix = os.path.splitext(base)[1].lower()
        if suffix in IMAGE_SUFFIXES and not sample.key:
            sample.key = name
            sample.data, sample.problem = read(MAX_IMAGE_BYTES)
        elif suffix in PROMPT_SUFFIXES:
            sample.notes[suffix] = read(MAX_PROMPT_BYTES)[0]
    if sample and sample.key:
        yield sample


def _tar_members(shard: Path) -> Iterator[tuple[str, Callable[[int], tuple[bytes, str]]]]:
    with tarfile.open(shard, mode="r:*") as tar:
        while (member := tar.next()) is not None:
            tar.members = []  # type: ignore[attr-defined]  # tarfile keeps every header otherwise: a gigabyte per million members
            if member.isfile():
                yield member.name, _member_reader(tar, member)
        _check_tar_end(tar, shard)


def _member_reader(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Callable[[int], tuple[bytes, str]]:
    def read(limit: int) -> tuple[bytes, str]:
        if member.size > limit:
            return b"", _size_problem(member.size)
        file = tar.extractfile(member)
        return (file.read(), _size_problem(member.size)) if file else (b"", "The member is not a file.")

    return read


def _check_tar_end(tar: tarfile.TarFile, shard: Path) -> None:
    # tarfile ends in silence at a header that is cut or garbled; a whole tar ends with a block of zeros.
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        raise _damaged_tar(shard, "no end-of-archive block")


def _damaged_tar(shard: Path, why: str) -> InvalidInput:
    return InvalidInput(
        f"{shard} is truncated or is not a tar file ({why}). Copy it again, or write it anew."
    )


class ParquetSet:
    """Parquet files whose column ``image`` is a struct ``{bytes, path}`` or plain bytes."""

    def __init__(self, path: Path, shards: list[Path], vocabulary: Vocabulary | None = None) -> None:
        self.path = path
        self.shards = shards
        self.vocabulary = vocabulary

    def count(self) -> int | None:
        total = 0
        for shard in self.shards:
            with _open_parquet(shard) as file:
                total += file.metadata.num_rows
        return total

    def images(self, skip: Skip | None = None) -> Iterator[SourceImage]:
        row_count = 0
        for shard in self.shards:
            prefix = f"{_stem(shard)}/" if len(self.shards) > 1 else ""
            for number, row in enumerate(_parquet_rows(shard)):
                row_count += 1
                key = f"{prefix}{number:08d}"
                if not (skip and skip(key)):
                    yield _from_row(key, row, self.vocabulary)
        if not row_count:
            raise InvalidInput(f"{self.path} holds no row.")


def _open_parquet(shard: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Mapped and not pre-buffered: a row group may be larger than memory.
        file = pq.ParquetFile(shard, memory_map=True, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise InvalidInput(
            f"{shard} cannot be read as Parquet ({_first_line(error)}). Write it again."
        ) from error
    column = file.schema_arrow.field("image") if "image" in file.schema_arrow.names else None
    if column is None or not _holds_bytes(column.type):
        have = ", ".join(file.schema_arrow.names) or "none"
        file.close()
        raise InvalidInput(
            f"{shard} has no image column; its columns are: {have}. Name the column `image`"
            " and make it a struct {bytes, path} or plain bytes."
        )
    return file


def _holds_bytes(kind: Any) -> bool:
    import pyarrow.types as pt

    if pt.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _holds_bytes(kind.field(index).type)
    return bool(pt.is_binary(kind) or pt.is_large_binary(kind))


def _parquet_rows(shard: Path) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.types as pt

    with _open_parquet(shard) as file:
        wanted = ["image"] + [
            f.name
            for f in file.schema_arrow
            if f.name != "image" and (pt.is_string(f.type) or pt.is_large_string(f.type))
        ]
        try:
            for batch in file.iter_batches(batch_size=PARQUET_ROWS, columns=wanted):
                yield from batch.to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise InvalidInput(
                f"{shard} is damaged ({_first_line(error)}). Copy it again, or write it anew."
            ) from error


def _from_row(key: str, row: dict[str, Any], vocabulary: Vocabulary | None) -> SourceImage:
    cell = row.pop("image")
    data = (cell.get("bytes") if isinstance(cell, dict) else cell) or b""
    problem = _size_problem(len(data))
    texts = {name: value for name, value in row.items() if value}
    prompt = next((texts[name] for name in PROMPT_COLUMNS if name in texts), "")
    label = texts.pop("label", "")
    attributes = {name: value for name, value in texts.items() if name not in PROMPT_COLUMNS}
    if label and not prompt:
        prompt = caption(label, _known(attributes, vocabulary))
    return SourceImage(key, b"" if problem else data, prompt, label, attributes, problem)


def _known(attributes: Mapping[str, str], vocabulary: Vocabulary | None) -> dict[str, str]:
    if vocabulary is None:
        return dict(attributes)
    return {name: value for name, value in attributes.items() if value in vocabulary.attributes.get(name, ())}


def _annotated(key: str, data: bytes, notes: Mapping[str, bytes], problem: str) -> SourceImage:
    described = _json_object(notes.get(".json", b""))
    label = str(described.get("label") or _text(notes.get(".cls", b"")))
    named = _prompt_of(described)
    # A class number says nothing to a model that reads words.
    prompt = named or _text(notes.get(".txt", b"")) or ("" if label.isdigit() else label)
    return SourceImage(key, data, prompt, label, {}, problem)


def _prompt_of(described: Mapping[str, Any]) -> str:
    return next((str(described[name]) for name in PROMPT_COLUMNS if described.get(name)), "")


def _json_object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data) if data else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="replace").strip()


def _size_problem(size: int) -> str:
    if size == 0:
        return "The image is empty."
    if size > MAX_IMAGE_BYTES:
        return f"The image has {size} bytes; at most {MAX_IMAGE_BYTES} are accepted."
    return ""


def _stem(shard: Path) -> str:
    return shard.name.partition(".")[0]


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
