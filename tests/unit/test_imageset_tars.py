from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest

from tests.image_files import APPLE_DOUBLE, png, write_tar
from vouch.datasets.imagesets import SourceImage, open_image_set
from vouch.errors import InvalidInput
from vouch.models.captions import Vocabulary

UIDS = [f"1.2.826.0.1.3680043.8.498.{number}" for number in range(5)]


def read(path: Path) -> list[SourceImage]:
    return list(open_image_set(path).images())


def words(path: Path) -> dict[str, str]:
    return {image.key: image.prompt for image in read(path)}


def add_link(tar: tarfile.TarFile, name: str, target: str, kind: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    tar.addfile(info)


def test_members_named_by_uids_are_images_each_with_its_own_words(tmp_path: Path) -> None:
    members = [(f"{uid}{suffix}", data) for n, uid in enumerate(UIDS)
               for suffix, data in ((".png", png(n)), (".txt", f"cell {n}".encode()))]  # fmt: skip
    found = read(write_tar(tmp_path / "set.tar", members))
    assert [(i.key, i.prompt, i.data) for i in found] == [
        (f"{uid}.png", f"cell {n}", png(n)) for n, uid in enumerate(UIDS)
    ]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_words_need_not_stand_beside_their_image(tmp_path: Path, mode: str) -> None:
    members = [(f"{uid}.png", png(n)) for n, uid in enumerate(UIDS)]
    members += [(f"{uid}.txt", f"cell {n}".encode()) for n, uid in reversed(list(enumerate(UIDS)))]
    path = write_tar(tmp_path / f"set.tar.{mode[2:]}".rstrip("."), members, mode)
    assert words(path) == {f"{uid}.png": f"cell {n}" for n, uid in enumerate(UIDS)}


def test_every_image_of_a_webdataset_sample_is_read_with_the_words_of_the_sample(tmp_path: Path) -> None:
    members = [
        ("s/0001.left.png", png(1)), ("s/0001.right.png", png(2)), ("s/0001.json", b'{"prompt": "monocyte"}'),
        ("s/0002.jpg", png(3)), ("s/0002.caption.txt", b"platelet"),
        ("s/0003.png", png(4)), ("s/0003.txt", b"basophil"), ("s/0003.mask.png", png(5)),
    ]  # fmt: skip
    images = open_image_set(write_tar(tmp_path / "set.tar", members))
    assert {image.key: image.prompt for image in images.images()} == {
        "s/0001.left.png": "monocyte", "s/0001.right.png": "monocyte", "s/0002.jpg": "platelet",
        "s/0003.png": "basophil", "s/0003.mask.png": "basophil",
    }  # fmt: skip
    assert "first dot" in images.layout


def test_an_own_text_comes_before_that_of_the_sample(tmp_path: Path) -> None:
    members = [("1.png", png(1)), ("1.b.png", png(2)), ("1.b.txt", b"own"), ("1.txt", b"shared")]
    assert words(write_tar(tmp_path / "set.tar", members)) == {"1.png": "shared", "1.b.png": "own"}


def test_what_macos_keeps_beside_files_is_no_image_and_hides_no_words(tmp_path: Path) -> None:
    members = []
    for name, data in (
        ("0.png", png(0)),
        ("0.txt", b"neutrophil"),
        ("1.png", png(1)),
        ("1.txt", b"monocyte"),
    ):
        members += [(f"./._{name}", APPLE_DOUBLE), (f"./{name}", data)]
    images = open_image_set(write_tar(tmp_path / "set.tar", members))
    assert {i.key: i.prompt for i in images.images()} == {"0.png": "neutrophil", "1.png": "monocyte"}
    assert images.ignored["macOS ._ files"] == 4


def test_a_hidden_picture_is_named_as_left_out(tmp_path: Path) -> None:
    (hidden, shown) = read(write_tar(tmp_path / "set.tar", {".a.png": png(1), "b.png": png(2)}))
    assert "hidden" in hidden.skipped
    assert not shown.skipped


@pytest.mark.parametrize(
    ("encoding", "kind"), [("latin-1", tarfile.GNU_FORMAT), ("utf-8", tarfile.PAX_FORMAT)]
)
def test_names_in_any_encoding_are_keys_that_can_be_written(tmp_path: Path, encoding: str, kind: int) -> None:
    members = {"a.png": png(1), "Zürich.png": png(2), "Zürich.txt": b"monocyte"}
    path = write_tar(tmp_path / "set.tar", members, encoding=encoding, format=kind)
    first, second = read(path)
    assert second.key.encode() in (b"Z\\xfcrich.png", "Zürich.png".encode())
    assert (first.prompt, second.prompt) == ("", "monocyte")


def test_a_long_path_in_a_pax_header_is_kept_whole(tmp_path: Path) -> None:
    name = "/".join(["study" * 10] * 8) + "/" + "x" * 200 + ".png"
    (image,) = read(write_tar(tmp_path / "set.tar", {name: png(1)}, format=tarfile.PAX_FORMAT))
    assert image.key == name


def test_links_inside_a_tar_are_the_image_they_point_to(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "set.tar.gz", {"a/1.png": png(1), "a/1.txt": b"monocyte"}, "w:gz")
    with tarfile.open(path, "w:gz") as tar:
        info = tarfile.TarInfo("a/1.png")
        info.size = len(png(1))
        tar.addfile(info, io.BytesIO(png(1)))
        add_link(tar, "b/2.png", "a/1.png", tarfile.LNKTYPE)
        add_link(tar, "b/3.png", "../a/1.png", tarfile.SYMTYPE)
        add_link(tar, "b/4.png", "3.png", tarfile.SYMTYPE)
        add_link(tar, "b/5.png", "../../etc/passwd", tarfile.SYMTYPE)
        add_link(tar, "b/6.png", "6.png", tarfile.SYMTYPE)
    *good, outside, circle = read(path)
    assert [(i.key, i.data) for i in good] == [
        (key, png(1)) for key in ("a/1.png", "b/2.png", "b/3.png", "b/4.png")
    ]
    assert "etc/passwd, which is not in the tar" in outside.problem
    assert "link" in circle.problem


def test_a_name_that_comes_twice_is_two_images(tmp_path: Path) -> None:
    found = read(write_tar(tmp_path / "set.tar", [("a.png", png(1)), ("b.png", png(2)), ("a.png", png(3))]))
    assert [(i.key, i.data) for i in found] == [("a.png", png(1)), ("b.png", png(2)), ("a.png#2", png(3))]


def test_tars_written_one_after_the_other_are_read_to_the_end(tmp_path: Path) -> None:
    one, two = (write_tar(tmp_path / f"{n}.tar", {f"{n}.png": png(n)}).read_bytes() for n in (1, 2))
    (tmp_path / "both.tar").write_bytes(one + two)
    assert [i.key for i in read(tmp_path / "both.tar")] == ["1.png", "2.png"]
    (tmp_path / "rest.tar").write_bytes(one + b"rest" * 500)
    with pytest.raises(InvalidInput, match="truncated or is not a tar"):
        read(tmp_path / "rest.tar")


def test_an_image_is_known_by_its_bytes_where_its_name_says_nothing(tmp_path: Path) -> None:
    members = {
        "1.2.840.113": png(1),
        "IM0001": png(2),
        "a.npy": b"\x93NUMPY",
        "slice.dcm": b"",
        "b.PNG": png(3),
    }
    found = {i.key: i for i in read(write_tar(tmp_path / "set.tar", members))}
    assert set(found) == {"1.2.840.113", "IM0001", "slice.dcm", "b.PNG"}
    assert "DICOM" in found["slice.dcm"].skipped


def test_an_unknown_file_without_suffix_that_is_dicom_is_named(tmp_path: Path) -> None:
    members = {"IM0001": bytes(128) + b"DICM" + bytes(50), "a.png": png(1)}
    dicom, _ = read(write_tar(tmp_path / "set.tar", members))
    assert "DICOM" in dicom.skipped


def test_words_that_cannot_be_read_are_said_to_be_there(tmp_path: Path) -> None:
    members = {"a.png": png(1), "a.txt": "für".encode("latin-1"), "b.png": png(2), "b.txt": b"x" * 70_000}
    latin, long = read(write_tar(tmp_path / "set.tar", members))
    assert "a.txt is there, but not readable: it is not readable as UTF-8" in latin.prompt_problem
    assert "70000 bytes" in long.prompt_problem


def sample(name: str, level: int, prompt: str) -> list[tuple[str, bytes]]:
    return [(f"{name}.png", png(level)), (f"{name}.txt", prompt.encode())]


def test_shards_that_number_alike_keep_each_its_own_words_when_joined(tmp_path: Path) -> None:
    first = write_tar(tmp_path / "a", [*sample("0", 1, "monocyte"), *sample("1", 2, "platelet")])
    second = write_tar(tmp_path / "b", [*sample("0", 3, "basophil"), ("1.png", png(4))])
    joined = tmp_path / "set.tar"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    assert words(joined) == {"0.png": "monocyte", "1.png": "platelet", "0.png#2": "basophil", "1.png#2": ""}


def test_members_of_one_name_have_the_words_that_were_added_with_them(tmp_path: Path) -> None:
    members = [*sample("0", 1, "monocyte"), *sample("0", 2, "platelet"), *sample("0", 3, "basophil")]
    path = write_tar(tmp_path / "set.tar", members)
    assert words(path) == {"0.png": "monocyte", "0.png#2": "platelet", "0.png#3": "basophil"}
    later = open_image_set(path).images(lambda key: key in ("0.png", "0.png#2"))
    assert [image.prompt for image in later] == ["basophil"]


@pytest.mark.parametrize("images", [1, 3])
def test_notes_of_one_name_that_differ_are_not_guessed_from(tmp_path: Path, images: int) -> None:
    members = [("0.png", png(level)) for level in range(images)] + [
        ("0.txt", b"monocyte"),
        ("0.txt", b"platelet"),
    ]
    for image in read(write_tar(tmp_path / "set.tar", members)):
        assert (image.prompt, image.prompt_problem) == (
            "",
            "0.txt is there, but not readable: the tar holds 2 of this name, which differ.",
        )


def test_one_note_serves_every_image_of_its_name(tmp_path: Path) -> None:
    members = [("0.png", png(1)), ("0.png", png(2)), ("0.txt", b"monocyte")]
    assert words(write_tar(tmp_path / "set.tar", members)) == {"0.png": "monocyte", "0.png#2": "monocyte"}


def test_notes_may_be_in_another_part_than_their_image(tmp_path: Path) -> None:
    first = write_tar(tmp_path / "a", [("0.txt", b"monocyte")])
    second = write_tar(tmp_path / "b", [("0.png", png(1))])
    joined = tmp_path / "set.tar"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    assert words(joined) == {"0.png": "monocyte"}


LINES = [{"file_name": "a.png", "prompt": "monocyte"}, {"file_name": "b/C.png", "prompt": "platelet"}]


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("metadata.csv", "file_name;text\na.png;monocyte\nb/c.png;platelet\n"),
        ("metadata.jsonl", "\n".join(map(json.dumps, LINES))),
    ],
)
def test_a_table_in_the_tar_names_its_images(tmp_path: Path, name: str, table: str) -> None:
    members = [("./train/a.png", png(1)), ("./train/b/c.png", png(2)), (f"./train/{name}", table.encode())]
    assert words(write_tar(tmp_path / "set.tar", members)) == {
        "train/a.png": "monocyte", "train/b/c.png": "platelet",
    }  # fmt: skip


def test_tables_of_joined_tars_name_the_images_of_their_own(tmp_path: Path) -> None:
    first = write_tar(
        tmp_path / "a", [("a.png", png(1)), ("metadata.csv", b"file_name,prompt\na.png,monocyte\n")]
    )
    second = write_tar(
        tmp_path / "b", [("a.png", png(2)), ("metadata.csv", b"file_name,prompt\na.png,platelet\n")]
    )
    joined = tmp_path / "set.tar"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    assert words(joined) == {"a.png": "monocyte", "a.png#2": "platelet"}


def test_a_row_of_a_table_in_a_tar_whose_file_is_missing_is_named(tmp_path: Path) -> None:
    table = b"file_name,prompt\na.png,monocyte\nb.png,platelet\n"
    write_tar(tmp_path / "set.tar", [("x/metadata.csv", table), ("x/a.png", png(1))])
    assert {image.key: image.problem for image in read(tmp_path)} == {
        "set.tar/x/a.png": "",
        "set.tar/x/b.png": "metadata.csv names this file, which is not there.",
    }


def test_the_folder_of_a_member_is_its_class_where_the_model_knows_it(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "set.tar", [("train/monocyte/1.png", png(1)), ("train/other/2.png", png(2))])
    images = open_image_set(path, Vocabulary(("monocyte",), {})).images()
    assert {image.key: image.prompt for image in images} == {
        "train/monocyte/1.png": "monocyte", "train/other/2.png": "",
    }  # fmt: skip


def test_the_notes_of_a_sample_add_up_and_different_words_are_not_guessed_from(tmp_path: Path) -> None:
    members = {
        "0.png": png(0), "0.caption.txt": b"monocyte", "0.meta.json": b'{"seed": 1}',
        "1.png": png(1), "1.first.txt": b"monocyte", "1.second.txt": b"platelet",
    }  # fmt: skip
    first, second = read(write_tar(tmp_path / "set.tar", members))
    assert (first.prompt, first.prompt_problem) == ("monocyte", "")
    assert (second.prompt, second.prompt_problem) == (
        "",
        "Notes of the sample hold different words, and none is its image's own: 1.first, 1.second.",
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [("0.text", b"monocyte"), ("0.JSN", b'{"text": "monocyte"}'), ("0.txt.gz", gzip.compress(b"monocyte"))],
)
def test_notes_have_the_names_that_webdataset_reads(tmp_path: Path, name: str, content: bytes) -> None:
    assert words(write_tar(tmp_path / "set.tar", {"0.png": png(0), name: content})) == {"0.png": "monocyte"}


def test_rows_of_missing_files_are_said_after_a_resume_too(tmp_path: Path) -> None:
    table = b"file_name,prompt\n0.png,a\n1.png,b\n"
    path = write_tar(
        tmp_path / "set.tar", {"0.png": png(0), "metadata.csv": table, "empty/metadata.csv": table}
    )
    keys = [image.key for image in open_image_set(path).images({"0.png"}.__contains__)]
    assert sorted(keys) == ["1.png", "empty/0.png", "empty/1.png"]


def test_words_in_a_table_of_another_name_are_reported(tmp_path: Path) -> None:
    table = b"file_name,prompt\n0.png,a\n"
    (image,) = read(write_tar(tmp_path / "set.tar", {"0.png": png(0), "captions.csv": table}))
    assert (
        image.prompt_problem == "captions.csv has words for 0.png, but is not read. Save it as metadata.csv."
    )
