from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from tests.image_files import APPLE_DOUBLE, encoded, png, write_files, write_parquet, write_tar
from vouch.datasets.imagesets import SourceImage, open_image_set
from vouch.errors import InvalidInput


def read(path: Path) -> dict[str, SourceImage]:
    return {image.key: image for image in open_image_set(path).images()}


def test_shards_whose_names_differ_behind_a_dot_hide_nothing(tmp_path: Path) -> None:
    for number in range(2):
        write_tar(tmp_path / f"cells.v1.2-{number:05d}.tar", {"a.png": png(number)})
        write_parquet(tmp_path / f"cells.v1.2-{number:05d}.parquet", {"image": [png(2 + number)]})
    assert {key: image.data for key, image in read(tmp_path).items()} == {
        "cells.v1.2-00000.tar/a.png": png(0), "cells.v1.2-00001.tar/a.png": png(1),
        "cells.v1.2-00000.parquet/00000000": png(2), "cells.v1.2-00001.parquet/00000000": png(3),
    }  # fmt: skip


def test_a_folder_is_read_whole_whatever_lies_side_by_side(tmp_path: Path) -> None:
    write_files(tmp_path, {"preview.png": png(0), "README.md": "# cells", "data/x/1.jpg": png(1)})
    write_parquet(tmp_path / "data" / "train-0.parquet", {"image": [png(2), png(3)], "prompt": ["a", "b"]})
    images = open_image_set(tmp_path)
    assert [i.key for i in images.images()] == [
        "data/train-0.parquet/00000000", "data/train-0.parquet/00000001", "data/x/1.jpg", "preview.png",
    ]  # fmt: skip
    assert images.count() == 4
    assert images.ignored == {"other files": 1}


def test_linked_folders_are_followed_but_never_round_in_a_circle(tmp_path: Path) -> None:
    write_files(tmp_path, {"set/neutrophil/0.png": png(0), "real/1.png": png(1), "real/2.png": png(2)})
    (tmp_path / "set" / "monocyte").symlink_to(tmp_path / "real")
    (tmp_path / "set" / "neutrophil" / "up").symlink_to(tmp_path / "set")
    assert list(read(tmp_path / "set")) == ["monocyte/1.png", "monocyte/2.png", "neutrophil/0.png"]
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "images").symlink_to(tmp_path / "real")
    assert list(read(tmp_path / "only")) == ["images/1.png", "images/2.png"]


def test_links_that_lead_nowhere_are_named(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.png": png(0)})
    for name in ("b.png", "monocyte", "c.txt"):
        (tmp_path / name).symlink_to(tmp_path / "gone" / name)
    found = read(tmp_path)
    assert set(found) == {"a.png", "b.png", "monocyte"}
    assert "is not there" in found["b.png"].skipped
    assert "is not there" in found["monocyte"].skipped


def test_what_is_no_regular_file_is_named_and_not_opened(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.png": png(0)})
    os.mkfifo(tmp_path / "b.png")
    os.mkfifo(tmp_path / "a.txt")
    found = read(tmp_path)
    assert "no regular file" in found["b.png"].skipped
    assert found["a.png"].data == png(0)


def test_hidden_pictures_and_folders_of_them_are_named_as_left_out(tmp_path: Path) -> None:
    write_files(tmp_path, {
        "a.png": png(0), ".b.png": png(1), ".thumbs/c.png": png(2), ".git/config": "x", "._a.png": APPLE_DOUBLE,
    })  # fmt: skip
    images = open_image_set(tmp_path)
    assert {i.key: bool(i.skipped) for i in images.images()} == {
        "a.png": False,
        ".b.png": True,
        ".thumbs/": True,
    }
    assert images.ignored == {"macOS ._ files": 1, "hidden folders": 1}


@pytest.mark.parametrize(
    "name",
    ["a.psd", "a.HEIC", "a.svs", "a.nii.gz", "a.zip", "a.png.gz", "a.avif", "a.tar.zst", "a.tzst", "a.dcm.gz",
     "a.tiff.zst", "a.png.bz2", "a.mds", "a.npz", "a.mat", "a.fits"],
)  # fmt: skip
def test_formats_that_are_not_read_are_named_as_left_out(tmp_path: Path, name: str) -> None:
    write_files(tmp_path, {name: b"x", "b.png": png(1)})
    found = read(tmp_path)
    assert found[name].skipped
    assert found["b.png"].data == png(1)


def test_an_array_beside_its_image_is_part_of_it(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.png": png(0), "a.npy": b"\x93NUMPY", "b.npy": b"\x93NUMPY"})
    assert {key: bool(image.skipped) for key, image in read(tmp_path).items()} == {
        "a.png": False,
        "b.npy": True,
    }


@pytest.mark.parametrize("name", ["a.tar", "a.dcm", "a.parquet"])
def test_a_hidden_folder_of_shards_or_dicom_files_is_named(tmp_path: Path, name: str) -> None:
    write_files(tmp_path, {"a.png": png(0), f".hidden/{name}": b"x", ".filter/settings.json": "{}"})
    write_parquet(tmp_path / ".filter" / "part.parquet", {"key": ["a.png"], "score": [0.5]})
    assert {key for key, image in read(tmp_path).items() if image.skipped} == {".hidden/"}


def test_a_folder_of_nothing_but_unread_formats_says_which(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.nii": b"x"})
    with pytest.raises(InvalidInput, match=r"a\.nii is there, but: Volumes are not read"):
        open_image_set(tmp_path)


def test_images_are_known_by_their_bytes_where_the_name_says_nothing(tmp_path: Path) -> None:
    bitmap = encoded(Image.new("RGB", (4, 4)), "BMP")
    write_files(tmp_path, {
        "1.2.840.7": png(1), "IM1": png(2), "IM2": bitmap, "scan.JFIF": png(3), "notes": "BMI: 22.5, text enough",
        "x.py": "y",
    })  # fmt: skip
    assert set(read(tmp_path)) == {"1.2.840.7", "IM1", "IM2", "scan.JFIF"}


def test_a_name_that_is_no_utf8_becomes_a_key_that_is(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/Z\xfcrich.png", "wb") as file:
        file.write(png(1))
    with open(os.fsencode(tmp_path) + b"/Z\xfcrich.txt", "wb") as file:
        file.write(b"monocyte")
    (image,) = read(tmp_path).values()
    assert (image.key, image.prompt) == ("Z\\xfcrich.png", "monocyte")


def test_a_parquet_file_of_another_kind_does_not_end_the_reading(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.png": png(0)})
    write_parquet(tmp_path / "scores.parquet", {"score": [0.5]})
    write_parquet(tmp_path / "shard.parquet", {"picture": [png(1)]})
    images = open_image_set(tmp_path)
    assert {i.key: bool(i.skipped) for i in images.images()} == {"a.png": False, "shard.parquet": True}
    assert images.ignored == {"Parquet files without images": 1}


def test_the_result_of_a_filter_run_is_a_set_again(tmp_path: Path) -> None:
    write_files(
        tmp_path, {"images/a.png": png(0), "images/metadata.jsonl": '{"file_name": "a.png", "prompt": "x"}'}
    )
    write_parquet(tmp_path / "ledger.parquet", {"key": ["a.png"], "score": [0.5]})
    (image,) = read(tmp_path).values()
    assert (image.key, image.prompt, image.skipped) == ("images/a.png", "x", "")


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("scan", b"II+\0" + bytes(200), "BigTIFF images are not read."),
        ("photo.bin", b"\0\0\0\x18ftypheic" + bytes(200), "HEIC images are not read."),
        ("cells", b"PK\x03\x04" + bytes(200), "This kind of archive is not read."),
        ("cells", b"PAR1" + bytes(200), "This kind of archive is not read."),
        ("a.nef", b"MM\0*" + bytes(200), "Raw files of cameras are not read."),
        ("set.feather", b"ARROW1" + bytes(200), "This kind of archive is not read."),
        ("slide.bif", b"II+\0" + bytes(200), "Microscope and slide formats are not read."),
    ],
)
def test_what_looks_like_an_image_by_its_first_bytes_is_not_passed_over(
    tmp_path: Path, name: str, content: bytes, why: str
) -> None:
    write_files(tmp_path, {"0.png": png(1), name: content})
    skipped = [image for image in open_image_set(tmp_path).images() if image.skipped]
    assert [image.key for image in skipped] == [name]
    assert skipped[0].skipped.startswith(why)


def test_one_damaged_shard_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "a.tar", {"0.png": png(0), "1.png": png(1)}).read_bytes()
    write_files(tmp_path, {"a.tar": whole[:1100], "b.parquet": b"PAR1 and no more"})
    write_parquet(tmp_path / "c.parquet", {"image": [png(2)], "prompt": ["monocyte"]})
    images = open_image_set(tmp_path)
    items = {image.key: image for image in images.images()}
    assert {key for key, image in items.items() if image.problem} == {"a.tar", "b.parquet"}
    assert "truncated or is not a tar" in items["a.tar"].problem
    assert (items["a.tar/0.png"].data, items["c.parquet/00000000"].prompt) == (png(0), "monocyte")
    assert "words of this image may be in the part that is lost" in items["a.tar/0.png"].prompt_problem
    assert list(images.images(items.__contains__)) == []


def test_a_damaged_parquet_file_counts_as_one_item(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.png": png(0), "b.parquet": b"PAR1 and no more"})
    write_parquet(tmp_path / "c.parquet", {"image": [png(2), png(3)]})
    assert open_image_set(tmp_path).count() == 4
