"""Captions, patients and splits of images, in every form that people have them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.image_files import png, write_files, write_parquet, write_tar
from training.adaptation.images import CaptionedImage, ReadOptions, class_folder, read_images
from training.adaptation.splits import assigned_split, named_split
from vouch.domains.criteria import load_domain

CHEST = ReadOptions(load_domain("chest_xray"))
CELLS = ReadOptions(load_domain())


def read(path: Path, reading: ReadOptions = CHEST) -> dict[str, CaptionedImage]:
    return {image.key: image for image in read_images(path, reading)}


def test_a_table_gives_each_image_its_own_words(tmp_path: Path) -> None:
    rows = [{"file_name": f"{n}.png", "text": f"words of {n}", "patient_id": f"p{n // 2}"} for n in range(4)]
    write_files(tmp_path, {f"{n}.png": png(n) for n in range(4)})
    write_files(tmp_path, {"metadata.jsonl": "\n".join(map(json.dumps, rows))})
    found = read(tmp_path)
    assert {key: image.captions for key, image in found.items()} == {
        f"{n}.png": (f"words of {n}",) for n in range(4)
    }
    assert [image.patient for image in found.values()] == ["p0", "p0", "p1", "p1"]


def test_class_folders_are_worded_by_the_domain(tmp_path: Path) -> None:
    write_files(tmp_path, {"train/Normal/1.png": png(1), "val/bacterial_pneumonia/images/2.png": png(2)})
    normal, pneumonia = read(tmp_path).values()
    assert normal.captions == CHEST.domain.captions.every("normal") and normal.captions[0] == "clear lungs"
    assert (pneumonia.label, pneumonia.split, pneumonia.from_folder) == ("bacterial pneumonia", "val", True)
    assert "chest x-ray, bacterial pneumonia" in pneumonia.captions
    assert not set(pneumonia.captions) & set(CHEST.domain.captions.unseen("bacterial pneumonia"))


def test_labels_and_known_attributes_are_worded_and_hidden_columns_are_not(tmp_path: Path) -> None:
    columns = {
        "image": [png(1)],
        "label": ["neutrophil"],
        "subtype": ["BNE"],
        "cell_size": ["big"],
        "batch": ["x"],
    }
    (cell,) = read(write_parquet(tmp_path / "cells.parquet", columns), CELLS).values()
    assert cell.captions == ("neutrophil, cell size big",)
    (chest,) = read(
        write_parquet(tmp_path / "x.parquet", {**columns, "patient": ["p7"], "split": ["test"]})
    ).values()
    assert "p7" not in " ".join(chest.captions) and "test" not in " ".join(chest.captions)
    assert (chest.patient, chest.split) == ("p7", "test")


def test_webdataset_is_read_with_its_texts(tmp_path: Path) -> None:
    members = {"0001.png": png(1), "0001.txt": b"a lung x-ray", "0002.png": png(2), "0002.cls": b"normal"}
    first, second = read(write_tar(tmp_path / "train-000.tar", members)).values()
    assert first.captions == ("a lung x-ray",)
    assert second.captions[0] == "clear lungs"


def test_dicom_is_read_with_captions_by_uid_and_patients_unnamed(tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    from tests.dicom_files import IDENTIFYING, dicom, write

    ramp = np.arange(32 * 32, dtype=np.uint16).reshape(32, 32)
    made = [dicom(ramp + n, stored=12, patient=f"NAME-{n // 2}") for n in range(4)]
    for n, file in enumerate(made):
        write(file, tmp_path / f"IM{n}")
    rows = "\n".join(f"{file.SOPInstanceUID},effusion {n}" for n, file in enumerate(made))
    write_files(tmp_path, {"metadata.csv": f"SOPInstanceUID,caption\n{rows}\n"})
    found = list(read(tmp_path).values())
    assert [image.captions for image in found] == [(f"effusion {n}",) for n in range(4)]
    assert found[0].patient == found[1].patient != found[2].patient == found[3].patient
    assert not [value for value in (*IDENTIFYING, "NAME-") if value in repr(found)]


def test_a_folder_that_may_name_a_patient_is_no_caption(tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    from tests.dicom_files import dicom, write

    ramp = np.arange(32 * 32, dtype=np.uint16).reshape(32, 32)
    write(dicom(ramp, stored=12), tmp_path / "films" / "Doe^John" / "Series1" / "IM1")
    (film,) = read(tmp_path / "films").values()
    assert (film.captions, film.label, film.folder_unused, film.from_folder) == ((), "", True, False)
    files = {f"Doe^John/{n}.png": png(n) for n in range(4)}
    write_files(
        tmp_path / "named", files | {"metadata.csv": "file_name,caption\nDoe^John/3.png,an effusion\n"}
    )
    images = read(tmp_path / "named")
    assert {key: i.captions for key, i in images.items() if i.captions} == {
        "Doe^John/3.png": ("an effusion",)
    }
    assert [i.folder_unused for i in images.values()] == [True, True, True, False]


@pytest.mark.parametrize("column", ["Patient ID", "patient-id", "PATIENT_ID", "Subject ID"])
def test_a_patient_is_known_however_the_column_is_spelled(tmp_path: Path, column: str) -> None:
    write_files(tmp_path, {"a.png": png(1), "metadata.csv": f"File Name,label,{column}\na.png,normal,77\n"})
    (image,) = read(tmp_path).values()
    assert image.patient == "77" and image.captions == CHEST.domain.captions.every("normal")


@pytest.mark.parametrize("value", ["12", "ada", 12])
@pytest.mark.parametrize("column", ["case", "Accession Number"])
def test_the_domains_own_patient_column_is_read_whatever_it_holds_and_never_captioned(
    tmp_path: Path, column: str, value: str | int
) -> None:
    domain = CHEST.domain.model_copy(update={"patient_column": column})
    rows = {"image": [png(1)], "label": ["normal"], column: [value]}
    (image,) = read(write_parquet(tmp_path / "x.parquet", rows), ReadOptions(domain)).values()
    assert image.patient == str(value)
    assert image.captions == domain.captions.every("normal")


def test_an_unreadable_image_says_why(tmp_path: Path) -> None:
    write_files(tmp_path, {"normal/a.png": b"", "normal/b.png": png(1)})
    empty, good = read(tmp_path).values()
    assert empty.problem and not good.problem


@pytest.mark.parametrize(
    ("key", "split"),
    [
        ("train/1.png", "train"), ("valid-00000.parquet/00000012", "val"), ("a/Validation/1.png", "val"),
        ("test.tar/0001.png", "test"), ("trained/1.png", ""), ("attest/1.png", ""), ("dev_set/1.png", "val"),
        ("1.png", ""),
    ],
)  # fmt: skip
def test_splits_are_known_by_name(key: str, split: str) -> None:
    assert named_split(key) == split


@pytest.mark.parametrize(
    ("key", "label"),
    [
        ("train/Pleural_Effusion/images/7.png", "pleural effusion"), ("7.png", ""), ("images/7.png", ""),
        ("train/7.png", ""), ("set.tar/a/7.png", "a"), ("set.tar/7.png", ""),
    ],
)  # fmt: skip
def test_classes_are_known_by_folder(key: str, label: str) -> None:
    assert class_folder(key) == label


def test_patients_are_divided_whole_and_always_alike(tmp_path: Path) -> None:
    patients = [f"p{n // 5}" for n in range(1000)]
    rows = "\n".join(f"{n}.png,normal,{patient}" for n, patient in enumerate(patients))
    write_files(tmp_path, {f"{n}.png": png(n % 256, 2) for n in range(1000)})
    write_files(tmp_path, {"metadata.csv": f"file_name,label,patient\n{rows}\n"})
    first, again = read(tmp_path), read(tmp_path)
    assert [i.split for i in first.values()] == [i.split for i in again.values()]
    by_patient = {
        i.patient: {j.split for j in first.values() if j.patient == i.patient} for i in first.values()
    }
    assert all(len(splits) == 1 for splits in by_patient.values())
    share = sum(i.split == "val" for i in first.values()) / 1000
    assert 0.04 < share < 0.17


@pytest.mark.parametrize(("patients", "validating"), [(9, 0), (10, 1), (24, 2), (150, 15), (199, 20)])
def test_of_few_patients_exactly_a_tenth_validates_and_of_fewer_than_ten_none(
    tmp_path: Path, patients: int, validating: int
) -> None:
    write_files(tmp_path, {f"{n}.png": png(n % 256, 2) for n in range(2 * patients)})
    rows = "\n".join(f"{n}.png,normal,p{n % patients}" for n in range(2 * patients))
    write_files(tmp_path, {"metadata.csv": f"file_name,label,patient\n{rows}\n"})
    found = list(read(tmp_path).values())
    assert len({i.patient for i in found if i.split == "val"}) == validating
    assert sum(i.split == "val" for i in found) == 2 * validating


def test_images_that_cannot_teach_take_no_place_among_those_that_validate(tmp_path: Path) -> None:
    write_files(
        tmp_path, {f"{n}.png": png(n) for n in range(60)} | {f"test/{n}.png": png(n) for n in range(60, 90)}
    )
    rows = "\n".join(
        f"{name},a chest"
        for name in [f"{n}.png" for n in range(12)] + [f"test/{n}.png" for n in range(60, 90)]
    )
    write_files(tmp_path, {"metadata.csv": f"file_name,caption\n{rows}\n"})
    found = [i for i in read(tmp_path).values() if i.captions]
    assert sorted(i.split for i in found) == ["test"] * 30 + ["train"] * 11 + ["val"]


def test_a_hash_divides_in_the_share_that_is_asked_for() -> None:
    for share in (0.0, 0.1, 0.5, 1.0):
        validating = sum(assigned_split(f"p{n}", share) == "val" for n in range(10_000)) / 10_000
        assert validating == pytest.approx(share, abs=0.015)


def test_a_validation_split_that_the_data_state_is_kept(tmp_path: Path) -> None:
    write_files(tmp_path, {f"train/a/{n}.png": png(n) for n in range(30)})
    assert {i.split for i in read(tmp_path).values()} == {"train", "val"}
    write_files(tmp_path, {"valid/a/x.png": png(200)})
    found = read(tmp_path)
    assert [key for key, i in found.items() if i.split == "val"] == ["valid/a/x.png"]
    columns = {
        "image": [png(n) for n in range(20)],
        "text": ["x"] * 20,
        "split": ["train"] * 19 + ["validation"],
    }
    by_column = read(write_parquet(tmp_path / "one.parquet", columns))
    assert [key for key, i in by_column.items() if i.split == "val"] == ["00000019"]


def test_copies_of_an_image_are_on_one_side(tmp_path: Path) -> None:
    write_files(tmp_path, {f"a/{n}-{copy}.png": png(n) for n in range(60) for copy in range(2)})
    found = list(read(tmp_path).values())
    sides = {digest: {i.split for i in found if i.digest == digest} for digest in {i.digest for i in found}}
    assert len(sides) == 60 and all(len(splits) == 1 for splits in sides.values())
    assert {s for side in sides.values() for s in side} == {"train", "val"}
