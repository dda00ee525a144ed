"""A DICOM file as an encoded image without a name.

Only the elements of `READ` are ever taken from a file. Names, dates and numbers of patients are not among them, so
that they reach no catalog, log, caption or error message. Two elements identify: PatientID becomes a salted hash, which
says which images belong together; SOPInstanceUID finds the caption. Both stay in memory.

The image is a PNG of 8 bits, which carries no element at all. Text that is burned into the pixels stays there: a note
warns of it. Needs `pydicom` (``pip install 'vouch[dicom]'``).
"""

from __future__ import annotations

import hashlib
import hmac
import importlib.util
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from vouch.errors import FailedPrecondition, InvalidInput, VouchError
from vouch.formats.dicom_pixels import photometric, picture
from vouch.formats.images import MAX_PIXELS
from vouch.formats.intensity import IntensityWindow

if TYPE_CHECKING:
    from pydicom import Dataset

MAX_DICOM_BYTES = 256 * 1024 * 1024
"""A larger file is refused before it is read: uncompressed mammograms have 30 MB, volumes of many frames gigabytes."""
LARGE_CAPTURE = 400
"""Pixels a side from which a secondary capture may be a picture of a screen, with the patient's name on it."""
SHORT_ID = 4
"""A PatientID of fewer characters is in many a path by chance."""
NEEDS_PYDICOM = "DICOM files need pydicom, which is not installed: pip install 'vouch[dicom]'."

PIXELS = (
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel", "PlanarConfiguration",
    "PhotometricInterpretation", "Rows", "Columns", "NumberOfFrames", "PixelData", "FloatPixelData",
    "DoubleFloatPixelData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths",
    "PixelPaddingValue", "PixelPaddingRangeLimit",
    "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence",
    "WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence",
    "RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData", "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData", "SegmentedRedPaletteColorLookupTableData",
    "SegmentedGreenPaletteColorLookupTableData", "SegmentedBluePaletteColorLookupTableData",
)  # fmt: skip
FUNCTIONAL_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_OF_A_FRAME = {
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept"),
    "FrameVOILUTSequence": ("WindowCenter", "WindowWidth", "VOILUTFunction"),
}
READ = ("SOPClassUID", "SOPInstanceUID", "PatientID", "BurnedInAnnotation", *PIXELS, *FUNCTIONAL_GROUPS)
"""The elements that are taken from a file, by keyword (PS3.6)."""

_JPEG = "pylibjpeg with pylibjpeg-libjpeg"
_JPEG_2000 = "pylibjpeg with pylibjpeg-openjpeg"
_PLUG_INS = {
    "1.2.840.10008.1.2.4.50": _JPEG,
    "1.2.840.10008.1.2.4.51": _JPEG,
    "1.2.840.10008.1.2.4.57": _JPEG,
    "1.2.840.10008.1.2.4.70": _JPEG,
    "1.2.840.10008.1.2.4.80": "pyjpegls",
    "1.2.840.10008.1.2.4.81": "pyjpegls",
    "1.2.840.10008.1.2.4.90": _JPEG_2000,
    "1.2.840.10008.1.2.4.91": _JPEG_2000,
    "1.2.840.10008.1.2.4.201": _JPEG_2000,
    "1.2.840.10008.1.2.4.202": _JPEG_2000,
    "1.2.840.10008.1.2.4.203": _JPEG_2000,
}
"""The packages with which pydicom decodes each compressed transfer syntax (PS3.5, annex A)."""
_STORAGE = "1.2.840.10008.5.1.4.1.1"
_SECONDARY_CAPTURE = (f"{_STORAGE}.7",)
_ANNOTATED = {
    "an ultrasound": (f"{_STORAGE}.3", f"{_STORAGE}.6"),
    "an angiography or fluoroscopy": (f"{_STORAGE}.12.1", f"{_STORAGE}.12.2"),
    "an endoscopy or photograph": (f"{_STORAGE}.77.1.1", f"{_STORAGE}.77.1.4"),
}
"""SOP classes (PS3.4, B.5) whose devices write names and dates into the pixels, those below them included."""


@dataclass(frozen=True)
class DicomImage:
    """What is known of one file."""

    data: bytes = field(repr=False)
    """A PNG of 8 bits, grey or RGB."""
    uid: str = field(repr=False)
    """SOPInstanceUID: finds the caption, and goes no further."""
    patient: str = field(repr=False)
    """A salted hash of PatientID, "" where the file has none: says which images belong together."""
    notes: tuple[str, ...] = ()
    """What a person should look at: text that may be burned in, no window."""


def is_dicom(head: bytes) -> bool:
    """Whether a file that begins with these 132 bytes is DICOM (PS3.10, 7.1)."""
    return head[128:132] == b"DICM"


def installed() -> bool:
    """Whether DICOM files can be read."""
    return importlib.util.find_spec("pydicom") is not None


def read_dicom(path: Path, salt: bytes, window: IntensityWindow | None = None) -> DicomImage:
    """The image of the DICOM file at `path`.

    salt: of the hash of PatientID; the same salt gives the same hash. window: of values after the modality LUT; by
    default the first that the file has.

    Raises:
        InvalidInput: no DICOM file, no image, several frames, or a form that is not read; the message names no patient.
        FailedPrecondition: pydicom is not installed, or lacks the plug-in for the file's compression.
        OSError: the file cannot be read.
    """
    if not installed():
        raise FailedPrecondition(NEEDS_PYDICOM, "NEEDS_PYDICOM")
    size = path.stat().st_size
    if size > MAX_DICOM_BYTES:
        raise InvalidInput(f"The DICOM file has {size} bytes; at most {MAX_DICOM_BYTES} are read.")
    from pydicom.config import disable_value_validation

    # pydicom's warnings cite values, and a value may be a name.
    with warnings.catch_warnings(), disable_value_validation(), _refused_as_damaged():
        warnings.simplefilter("ignore")
        header = _header(path)
        _check(header)
        pixels, note = _picture(header, window)
        patient = str(header.get("PatientID") or "").strip()
        notes = [*_burned_in(header), *_named_by_path(path, patient), *([note] if note else [])]
        uid = str(header.get("SOPInstanceUID") or "")
        return DicomImage(_png(pixels), uid, patient_hash(patient, salt), tuple(notes))


def patient_hash(patient_id: str, salt: bytes) -> str:
    """32 hexadecimal digits that stand for a PatientID, "" for none."""
    plain = patient_id.strip()
    return hmac.new(salt, plain.encode(), hashlib.sha256).hexdigest()[:32] if plain else ""


def _header(path: Path) -> Dataset:
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        header = dcmread(path, specific_tags=list(READ))
    except InvalidDicomError as error:
        raise InvalidInput(
            "The file is no DICOM file: the mark DICM is not at byte 128.", "NOT_DICOM"
        ) from error
    _lift_frame_elements(header)
    return header


@contextmanager
def _refused_as_damaged() -> Iterator[None]:
    """pydicom raises nearly everything on odd bytes, and decodes an element when it is first asked for."""
    try:
        yield
    except (VouchError, OSError):
        raise
    except Exception as error:  # noqa: BLE001
        raise _damaged(error) from None


def _lift_frame_elements(header: Dataset) -> None:
    """Bring an enhanced file to the form of a plain one: what its functional groups (PS3.3, C.7.6.16) say of the
    first frame's values stands at the top, and the groups are gone. A frame's own elements take precedence."""
    for groups in FUNCTIONAL_GROUPS:
        group: Any = next(iter(header.get(groups) or ()), {})
        for sequence, keywords in _OF_A_FRAME.items():
            item: Any = next(iter(group.get(sequence) or ()), {})
            for keyword in keywords:
                if keyword in item:
                    setattr(header, keyword, item[keyword].value)
        if groups in header:
            delattr(header, groups)


def _damaged(error: Exception) -> InvalidInput:
    """The error's own words are left out: they may cite the file's values."""
    return InvalidInput(
        f"The DICOM file is damaged or truncated ({type(error).__name__}). Export it again.", "DICOM_DAMAGED"
    )


def _check(header: Dataset) -> None:
    """Raises what `read_dicom` does, by the header alone: nothing is decoded yet."""
    kind = _kind_of(header)
    if "FloatPixelData" in header or "DoubleFloatPixelData" in header:
        raise InvalidInput(
            f"The DICOM file ({kind}) holds floating-point pixels, which are not read.", "DICOM_UNSUPPORTED"
        )
    if "PixelData" not in header:
        raise InvalidInput(f"The DICOM file ({kind}) holds no image.", "DICOM_NO_IMAGE")
    frames = _number(header, "NumberOfFrames", 1)
    if frames > 1:
        raise InvalidInput(
            f"The DICOM file ({kind}) is multi-frame: it has {frames} frames. Export each frame as a file.",
            "SEVERAL_FRAMES",
        )
    rows, columns = _number(header, "Rows"), _number(header, "Columns")
    if rows < 1 or columns < 1 or rows * columns > MAX_PIXELS:
        raise InvalidInput(
            f"The DICOM image has {columns} × {rows} pixels; 1 to {MAX_PIXELS // 10**6} megapixels are read."
        )
    photometric(header)
    if (bits := _number(header, "BitsAllocated")) not in (8, 16, 32):
        raise InvalidInput(
            f"The DICOM image has {bits} bits a pixel; 8, 16 and 32 are read.", "DICOM_UNSUPPORTED"
        )
    _check_syntax(header)


def _check_syntax(header: Dataset) -> None:
    from pydicom.pixels import get_decoder

    syntax = header.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        raise InvalidInput("The DICOM file does not say its transfer syntax. Export it again.")
    try:
        available = not syntax.is_compressed or get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    except ValueError:
        raise InvalidInput(
            "The DICOM file names a transfer syntax that is not known. Export it uncompressed."
        ) from None
    if not available:
        raise _no_plug_in(syntax)


def _no_plug_in(syntax: Any) -> FailedPrecondition:
    plug_in = _PLUG_INS.get(str(syntax))
    remedy = f"Install {plug_in}, or export it uncompressed." if plug_in else "Export it uncompressed."
    return FailedPrecondition(
        f"The DICOM image is compressed as {syntax.name}, for which no decoder is installed. {remedy}",
        "NEEDS_PLUG_IN",
    )


def _picture(header: Dataset, window: IntensityWindow | None) -> tuple[np.ndarray, str]:
    from pydicom.pixels import pixel_array

    try:
        stored = pixel_array(header)
    except Exception as error:  # noqa: BLE001 - each decoder has errors of its own
        syntax = header.file_meta.TransferSyntaxUID
        if isinstance(error, RuntimeError) and str(syntax) in _PLUG_INS:
            # Pillow decodes 8 bits of a syntax that may hold 12.
            raise _no_plug_in(syntax) from None
        raise _damaged(error) from None
    return picture(header, stored, window)


def _burned_in(header: Dataset) -> list[str]:
    value = str(header.get("BurnedInAnnotation") or "").upper()
    if value == "YES":
        return [
            "The DICOM file says that text is burned into its pixels (BurnedInAnnotation): look for names."
        ]
    if value == "NO":
        return []
    large = min(_number(header, "Rows"), _number(header, "Columns")) >= LARGE_CAPTURE
    kinds = {**_ANNOTATED, **({"a large secondary capture": _SECONDARY_CAPTURE} if large else {})}
    return [
        f"The DICOM image is {kind}: text may be burned in. Look for names."
        for kind, classes in kinds.items()
        if _is_of(str(header.get("SOPClassUID") or ""), classes)
    ]


def _is_of(uid: str, classes: tuple[str, ...]) -> bool:
    """Whether a UID is one of these or below one of them."""
    return any(uid == one or uid.startswith(f"{one}.") for one in classes)


def _named_by_path(path: Path, patient: str) -> list[str]:
    if len(patient) < SHORT_ID or patient not in str(path):
        return []
    return ["The path of the DICOM file holds its PatientID, and keys of images are paths. Rename it."]


def _kind_of(header: Dataset) -> str:
    """The name of the SOP class, such as "Computed Radiography Image Storage"."""
    uid = header.get("SOPClassUID")
    name = getattr(uid, "name", "")
    return name if name and name != str(uid) else "of an unknown SOP class"


def _number(header: Dataset, keyword: str, default: int = 0) -> int:
    value = header.get(keyword)
    try:
        return default if value in (None, "") else int(value)
    except (TypeError, ValueError):
        return default


def _png(pixels: np.ndarray) -> bytes:
    """uint8 [H, W] or [H, W, 3] as a PNG. The same pixels give the same bytes."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()
