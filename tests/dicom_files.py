"""DICOM files that tests make for themselves, every one with a patient's name in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid

NAME, PATIENT = "ROENTGEN^WILHELM", "WUE-1845-0327"
IDENTIFYING = (NAME, "ROENTGEN", PATIENT, "18450327", "ACC-7788", "Juliusspital", "Dr. Kolliker")
"""Values of the elements that identify, in every file made here."""


def dicom(
    pixels: np.ndarray,
    *,
    photometric: str = "MONOCHROME2",
    stored: int | None = None,
    patient: str = PATIENT,
    sop_class: str = ComputedRadiographyImageStorage,
    **elements: Any,
) -> FileDataset:
    """A file of pixels [H, W] or [H, W, 3] of any integer type. stored: bits a value; elements: further ones."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(sop_class), generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    made.SOPClassUID, made.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    made.PatientName, made.PatientID, made.PatientBirthDate = NAME, patient, "18450327"
    made.AccessionNumber, made.InstitutionName = "ACC-7788", "Juliusspital"
    made.ReferringPhysicianName = "Dr. Kolliker"
    made.Rows, made.Columns = pixels.shape[:2]
    made.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    if pixels.ndim == 3:
        made.PlanarConfiguration = 0
    made.PhotometricInterpretation = photometric
    made.BitsAllocated = 8 * pixels.dtype.itemsize
    made.BitsStored = stored or made.BitsAllocated
    made.HighBit = made.BitsStored - 1
    made.PixelRepresentation = int(pixels.dtype.kind == "i")
    made.PixelData = pixels.tobytes()
    for name, value in elements.items():
        setattr(made, name, value)
    return made


def compressed(made: FileDataset, frame: bytes, syntax: str) -> FileDataset:
    """The file with this encoded frame in place of its pixels."""
    made.file_meta.TransferSyntaxUID = UID(syntax)
    made.PixelData = encapsulate([frame])
    made["PixelData"].is_undefined_length = True
    return made


def lut(entries: list[int], first: int, bits: int) -> Dataset:
    """An item of a modality or VOI LUT sequence."""
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries), first, bits])
    item.add_new("LUTData", "US", entries)
    return item


def write(made: FileDataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save_as(path, enforce_file_format=True)
    return path
