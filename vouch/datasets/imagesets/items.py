"""What every kind of image set yields, and what each calls an image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from vouch.datasets.dicom import is_dicom
from vouch.formats.unread import unread_kind

MAX_IMAGE_BYTES = 16 * 1024 * 1024
"""An encoded image larger than this is reported as a problem and not read."""
Skip = Callable[[str], bool]

IMAGE_SUFFIXES = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif"}
)
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
PARQUET_SUFFIXES = (".parquet", ".pq")
HEAD_BYTES = 132
"""So many first bytes of a file tell what it is: DICOM's mark ends there."""

HIDDEN = "The name is hidden (it begins with a dot)."
OTHER = "other files"

_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"II*\x00", b"MM\x00*")
_BMP_HEADERS = tuple(size.to_bytes(4, "little") for size in (12, 40, 52, 56, 64, 108, 124))
_APPLE_DOUBLE = b"\x00\x05\x16\x07"  # RFC 1740: what macOS keeps beside a file on foreign file systems
DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ".ima"})
_DICOM = "DICOM files are read from a folder, not from a tar. Unpack it."
_ARCHIVE = "This kind of archive is not read. Unpack it, or write a .tar or .parquet."
_ARCHIVE_MAGIC = (
    b"PK\x03\x04",
    b"7z\xbc\xaf\x27\x1c",
    b"Rar!\x1a\x07",
    b"\x89HDF\r\n\x1a\n",
    b"ARROW1",
    b"PAR1",
)
_PLAIN = frozenset(
    {".txt", ".text", ".caption", ".transcript", ".prompt", ".json", ".jsn", ".jsonl", ".cls", ".class", ".csv",
     ".tsv", ".md", ".xml", ".yaml", ".yml", ".html", ".log"}
)  # fmt: skip
_NOT_READ = (
    (_DICOM, " ".join(sorted(DICOM_SUFFIXES))),
    (
        "This image format is not read. Convert it to PNG.",
        ".heic .heif .avif .jp2 .j2k .j2c .jpf .jpx .jxl .jxr .ppm .pgm .pbm .pnm .tga .psd .exr .ico .pcx",
    ),
    (
        "Raw files of cameras are not read. Export PNG or TIFF.",
        ".dng .cr2 .cr3 .crw .nef .nrw .arw .orf .rw2 .raf .pef .srw .3fr",
    ),
    (
        "Microscope and slide formats are not read. Export PNG or TIFF.",
        ".svs .ndpi .czi .lif .nd2 .mrxs .scn .vsi .bif .zvi .oib .oif .ims .qptiff .isyntax .svslide",
    ),
    ("Volumes are not read. Export their slices as PNG or TIFF.", ".nii .nii.gz .mha .mhd .nrrd .mgz .mnc"),
    (
        _ARCHIVE,
        ".zip .7z .rar .tar.zst .tzst .tar.lz4 .tar.z .mds .mds.zstd .beton .arrow .feather .orc .h5 .hdf5 .tfrecord"
        " .tfrecords .lmdb .mdb",
    ),
    (
        "A compressed image file is not read. Unpack it first.",
        " ".join(
            f"{s}.{packed}"
            for s in (*IMAGE_SUFFIXES, *DICOM_SUFFIXES)
            for packed in ("gz", "bz2", "xz", "zst")
        ),
    ),
)
ARRAY_SUFFIXES = frozenset({".npy", ".npz", ".mat", ".fits"})
ARRAYS = "Arrays are not read. Save their images as PNG or TIFF."
_FOREIGN = {suffix: reason for reason, suffixes in _NOT_READ for suffix in suffixes.split()}


@dataclass(frozen=True)
class SourceImage:
    """One encoded image of a set.

    Example:
        SourceImage(key="neutrophil/0001.png", data=b"\\x89PNG…", prompt="neutrophil")
    """

    key: str
    """The whole path inside the set; unique, and the same on every reading."""
    data: bytes = field(repr=False)
    """Encoded bytes (PNG, JPEG, …); empty when `problem` or `skipped` is set."""
    prompt: str = ""
    label: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""
    """Why there are no bytes, as a sentence; empty when there are."""
    prompt_problem: str = ""
    """Why there is no prompt although words are there that should be one; empty when there are none."""
    skipped: str = ""
    """Why what looks like an image (or a set of them) was not read at all; empty when it was."""
    patient: str = field(default="", repr=False)
    """Whose image it is, "" where nothing says so: a column of the table, or a salted hash of DICOM's PatientID. Says
    which images belong together, and is kept in memory only."""
    note: str = ""
    """What a person should look at, as a sentence: text that may be burned into a DICOM image."""
    dicom: bool = False
    """Whether it is of a DICOM file, whose folders archives name after patients."""


class ImageSet(Protocol):
    """A readable set; `images` may be called again and starts over."""

    path: Path
    layout: str
    """What the set was read as, in words."""
    ignored: Counter[str]
    """What does not look like an image, by kind, as far as the last reading came."""

    def count(self) -> int | None:
        """Number of items, or None where only reading everything would tell."""
        ...

    def images(self, skip: Skip | None = None) -> Iterator[SourceImage]:
        """Yields every item whose key `skip` does not refuse, what cannot be read too: `problem` and `skipped` say why.

        Raises:
            InvalidInput: a damaged archive or table. Whatever is wrong with one item is that item's problem.
        """
        ...


def size_problem(size: int) -> str:
    """Why an image of `size` bytes is not read; "" when it is."""
    if size == 0:
        return "The image is empty."
    if size > MAX_IMAGE_BYTES:
        return f"The image has {size} bytes; at most {MAX_IMAGE_BYTES} are accepted."
    return ""


def suffix_of(name: str) -> str:
    """The suffix in lower case, with its dot; "" without one. ``.png`` alone is a hidden name, not a suffix."""
    stem, dot, suffix = name.rpartition(".")
    return f".{suffix.lower()}" if dot and stem else ""


def is_image(name: str, head: bytes) -> bool:
    """Whether a file is an image: by its suffix, or by its first bytes where the suffix says nothing."""
    suffix = suffix_of(name)
    if suffix in IMAGE_SUFFIXES:
        return True
    return suffix not in _PLAIN and not foreign(name, b"") and is_image_data(head)


def is_image_data(head: bytes) -> bool:
    return head.startswith(_MAGIC) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP") or _is_bmp(head)


def _is_bmp(head: bytes) -> bool:
    """Whether a BMP's headers begin so. Its two letters alone begin many a text: the sizes of headers are looked at."""
    return head[:2] == b"BM" and head[6:10] == bytes(4) and head[14:18] in _BMP_HEADERS


def foreign(name: str, head: bytes) -> str:
    """Why a file that holds an image, or many, is not read; "" for any other file."""
    parts = name.lower().rsplit(".", 2)[1:]
    if reason := _FOREIGN.get("." + ".".join(parts)) or _FOREIGN.get("." + parts[-1] if parts else ""):
        return reason
    if name := unread_kind(head):
        return f"{name} images are not read. Convert them to PNG or TIFF."
    if is_dicom(head):
        return _DICOM
    return _ARCHIVE if not parts and head.startswith(_ARCHIVE_MAGIC) else ""


def is_dicom_file(name: str, head: bytes) -> bool:
    """Whether a file is a DICOM file: by its suffix, or by its first bytes where the suffix says nothing."""
    suffix = suffix_of(name)
    if suffix in DICOM_SUFFIXES:
        return True
    return suffix not in IMAGE_SUFFIXES and is_dicom(head) and name.upper() != "DICOMDIR"


def tells_kind(name: str) -> bool:
    """Whether the name alone says what a file is, so that no byte of it need be read."""
    suffix = suffix_of(name)
    return suffix in IMAGE_SUFFIXES or suffix in _PLAIN or bool(foreign(name, b""))


def is_apple_double(name: str, head: bytes) -> bool:
    """Whether it is what macOS keeps beside a file: ``._a.png`` beside ``a.png``. No image, whatever its name."""
    return name.startswith("._") and head.startswith(_APPLE_DOUBLE)
