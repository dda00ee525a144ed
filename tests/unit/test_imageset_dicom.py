"""A folder of DICOM files as an image set, read like any other."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pydicom = pytest.importorskip("pydicom")

from pydicom import uid as uids  # noqa: E402

from tests.dicom_files import IDENTIFYING, PATIENT, compressed, dicom, write  # noqa: E402
from tests.image_files import png, write_files, write_tar  # noqa: E402
from vouch.datasets import dicom as reader  # noqa: E402
from vouch.datasets.filter import FilterSettings, Item, Scored, filter_images  # noqa: E402
from vouch.datasets.imagesets import SourceImage, open_image_set, sampled  # noqa: E402
from vouch.errors import FailedPrecondition  # noqa: E402
from vouch.formats.images import decode  # noqa: E402
from vouch.formats.intensity import IntensityWindow  # noqa: E402

RAMP = np.arange(32 * 32, dtype=np.uint16).reshape(32, 32) * 4


def read(path: Path) -> dict[str, SourceImage]:
    return {image.key: image for image in open_image_set(path).images()}


def chest(number: int = 0, **elements: object) -> pydicom.FileDataset:
    return dicom(np.roll(RAMP, number), stored=12, WindowCenter=2048, WindowWidth=4096, **elements)


def test_dicom_files_are_read_with_and_without_a_suffix(tmp_path: Path) -> None:
    write(chest(), tmp_path / "study" / "a.dcm")
    write(chest(1), tmp_path / "study" / "IM0002")
    write(chest(2), tmp_path / "study" / "1.2.840.113")
    write_files(tmp_path, {"photo.png": png(1), "notes.txt": "text"})
    (tmp_path / "DICOMDIR").write_bytes(bytes(128) + b"DICM" + bytes(40))
    images = open_image_set(tmp_path)
    found = {image.key: image for image in images.images()}
    assert set(found) == {"photo.png", "study/1.2.840.113", "study/IM0002", "study/a.dcm"}
    assert images.count() == 4 and images.ignored["DICOM directories"] == 1
    assert all(decode(image.data).shape[2] == 3 for image in found.values())
    assert [image.key for image in sampled(images, 2, seed=0)]


def test_captions_come_from_a_table_by_uid_or_by_path(tmp_path: Path) -> None:
    first, second, third = chest(0), chest(1), chest(2)
    for name, made in (("a.dcm", first), ("deep/b.dcm", second), ("deep/IM3", third)):
        write(made, tmp_path / name)
    rows = [
        f"{first.SOPInstanceUID},,no finding", f"{second.SOPInstanceUID},,pleural effusion",
        ",deep/IM3,cardiomegaly", "1.2.3.4,,nothing here",
    ]  # fmt: skip
    write_files(tmp_path, {"metadata.csv": "SOPInstanceUID,file_name,prompt\n" + "\n".join(rows)})
    found = read(tmp_path)
    prompts = {key: image.prompt for key, image in found.items() if not image.problem}
    assert prompts == {"a.dcm": "no finding", "deep/b.dcm": "pleural effusion", "deep/IM3": "cardiomegaly"}
    (missing,) = (image for image in found.values() if image.problem)
    assert "row 4" in missing.key or "row 3" in missing.key or "row 5" in missing.key
    assert "1.2.3.4" not in missing.key + missing.problem
    told = repr(found) + "".join(key for key in found)
    assert str(first.SOPInstanceUID) not in told


def test_a_table_that_names_patients_puts_none_of_them_into_a_caption(tmp_path: Path) -> None:
    made = chest()
    write(made, tmp_path / "a.dcm")
    head = "SOPInstanceUID,PatientID,PatientName,Accession Number,label,view"
    row = f"{made.SOPInstanceUID},WUE-1845-0327,ROENTGEN^WILHELM,ACC-7788,effusion,frontal"
    write_files(tmp_path, {"metadata.csv": f"{head}\n{row}\n"})
    (image,) = read(tmp_path).values()
    assert image.prompt == "effusion, view frontal"
    assert image.attributes == {"view": "frontal"}
    assert image.patient and image.patient != "WUE-1845-0327"


def test_a_patient_column_is_kept_apart_from_the_words(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.png": png(1), "metadata.csv": "file_name,label,patient_id\na.png,normal,77\n"})
    (image,) = read(tmp_path).values()
    assert (image.prompt, image.patient) == ("normal", "77")


def test_one_patients_images_are_grouped_alike_on_every_reading(tmp_path: Path) -> None:
    for number, patient in enumerate(("ada", "ada", "eve", "")):
        write(chest(number, patient=patient), tmp_path / f"{number}.dcm")
    first = [image.patient for image in read(tmp_path).values()]
    assert first == [image.patient for image in read(tmp_path).values()]
    assert first[0] == first[1] != first[2] and first[3] == ""
    assert "ada" not in "".join(first)


def test_a_path_that_names_the_patient_is_warned_of(tmp_path: Path) -> None:
    write(chest(), tmp_path / f"scan-{PATIENT}" / "a.dcm")
    write(chest(), tmp_path / "scan-2" / "a.dcm")
    notes = {key.partition("/")[0]: image.note for key, image in read(tmp_path).items()}
    assert "path" in notes[f"scan-{PATIENT}"] and PATIENT not in notes[f"scan-{PATIENT}"]
    assert notes["scan-2"] == ""


def test_what_cannot_be_read_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    write(chest(), tmp_path / "good.dcm")
    write_files(tmp_path, {"bad.dcm": b"x"})
    report = chest(sop_class=uids.BasicTextSRStorage)
    del report.PixelData
    write(report, tmp_path / "report.dcm")
    write(chest(NumberOfFrames=3), tmp_path / "cine.dcm")
    write(compressed(chest(), b"\0\0\1\xb3", uids.MPEG2MPML), tmp_path / "video.dcm")
    found = read(tmp_path)
    assert found["good.dcm"].data
    assert "no DICOM file" in found["bad.dcm"].problem and "multi-frame" in found["cine.dcm"].problem
    assert "holds no image" in found["report.dcm"].skipped and "MPEG2" in found["video.dcm"].skipped


def test_in_a_tar_they_are_named_as_left_out(tmp_path: Path) -> None:
    data = write(chest(), tmp_path / "a.dcm").read_bytes()
    tar = write_tar(tmp_path / "set.tar", {"a.dcm": data, "IM1": data, "b.png": png(1)})
    assert {key: "from a folder" in image.skipped for key, image in read(tar).items()} == {
        "a.dcm": True, "IM1": True, "b.png": False,
    }  # fmt: skip


def test_a_window_is_one_for_the_whole_set(tmp_path: Path) -> None:
    write(chest(), tmp_path / "a.dcm")
    (own,) = open_image_set(tmp_path).images()
    (given,) = open_image_set(tmp_path, window=IntensityWindow(0, 100)).images()
    assert decode(own.data).mean() < decode(given.data).mean()


def test_without_pydicom_a_folder_of_dicom_files_says_what_to_install(tmp_path: Path, monkeypatch) -> None:
    write(chest(), tmp_path / "z.dcm")
    monkeypatch.setattr(reader.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(FailedPrecondition, match=r"vouch\[dicom\]"):
        open_image_set(tmp_path)
    write_files(tmp_path, {"a.png": png(1)})
    found = read(tmp_path)
    assert found["a.png"].data and "pydicom" in found["z.dcm"].skipped


def test_a_filtered_set_holds_pictures_without_names(tmp_path: Path) -> None:
    """What a filter run keeps are PNG files; the ledger warns of burned-in text."""
    write(chest(BurnedInAnnotation="YES"), tmp_path / "in" / "a.dcm")
    write(chest(1), tmp_path / "in" / "b.dcm")

    def score(items: Iterator[Item], version: str) -> Iterator[Scored]:
        return (Scored(key=item.key, score=0.9, reward_version="r") for item in items)

    settings = FilterSettings(source="in", min_score=0.5, prompt="normal")
    summary = filter_images(open_image_set(tmp_path / "in"), tmp_path / "out", settings, score)
    assert summary["accepted"] == 2 and summary["small_range"] == 0
    assert [(why[:40], count) for why, count in summary["warnings"].items()] == [
        ("The DICOM file says that text is burned ", 1)
    ]
    files = [file for file in (tmp_path / "out").rglob("*") if file.is_file()]
    written = b"".join(file.read_bytes() for file in files)
    assert not [value for value in IDENTIFYING if value.encode() in written]
    images = list((tmp_path / "out" / "images").glob("*.dcm.png"))
    assert {Image.open(io.BytesIO(image.read_bytes())).format for image in images} == {"PNG"}
