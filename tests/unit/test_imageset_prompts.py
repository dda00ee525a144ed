from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.image_files import png, write_files
from vouch.datasets.imagesets import Prompting, SourceImage, open_image_set
from vouch.errors import InvalidInput
from vouch.models.captions import Vocabulary


def read(path: Path, vocabulary: Vocabulary | None = None) -> dict[str, SourceImage]:
    return {image.key: image for image in open_image_set(path, vocabulary).images()}


def words(path: Path) -> dict[str, str]:
    return {key: image.prompt for key, image in read(path).items()}


@pytest.mark.parametrize("mark", [True, False])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
def test_a_text_is_read_in_the_encodings_that_editors_write(
    tmp_path: Path, encoding: str, mark: bool
) -> None:
    text = ("\ufeff" if mark else "") + "neutrophil, cell size big\r\n"
    write_files(tmp_path, {"a.png": png(1), "a.txt": text.encode(encoding)})
    assert words(tmp_path) == {"a.png": "neutrophil, cell size big"}


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.txt", "für".encode("latin-1"), "not readable as UTF-8"),
        ("a.txt", b"neutro\x00phil", "NUL"),
        ("a.json", b'{"prompt": ', "not JSON"),
        ("a.json", b"[1, 2]", "not an object"),
        ("a.json", b'{"prompt": "a", "prompt": "b"}', "it has 'prompt' twice"),
        ("a.json", b'{"prompt": {"en": "monocyte"}}', "prompt: it is of type dict, not text"),
        ("a.json", b'{"prompt": "\\ud800"}', "half a surrogate pair"),
        ("a.cls", b"\xff\xff\xff", "not readable"),
    ],
)
def test_words_that_are_there_but_unreadable_are_another_case_than_none(
    tmp_path: Path, name: str, content: bytes, what: str
) -> None:
    write_files(tmp_path, {"a.png": png(1), name: content})
    (image,) = read(tmp_path).values()
    assert image.prompt == ""
    assert f"{name} is there, but not readable" in image.prompt_problem
    assert what in image.prompt_problem


def test_a_readable_note_makes_up_for_an_unreadable_one(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.png": png(1), "a.json": b"{", "a.txt": b"monocyte"})
    (image,) = read(tmp_path).values()
    assert (image.prompt, image.prompt_problem) == ("monocyte", "")


@pytest.mark.parametrize(
    "name",
    [
        "a.TXT",
        "A.txt",
        "a.caption",
        "a.png.txt",
        "a.png.json",
        "a.text",
        "a.transcript",
        "a.prompt",
        "a.jsn",
        "a.class",
    ],
)
def test_notes_are_found_under_the_names_that_tools_give_them(tmp_path: Path, name: str) -> None:
    content = b'{"caption": ["monocyte", "a cell"]}' if "js" in name else b"monocyte"
    write_files(tmp_path, {"a.png": png(1), name: content})
    assert words(tmp_path)["a.png"] == "monocyte"


@pytest.mark.parametrize(
    ("name", "content"), [("a.txt.gz", b"monocyte"), ("a.json.gz", b'{"text": "monocyte"}')]
)
def test_packed_notes_are_read_up_to_the_size_of_plain_ones(
    tmp_path: Path, name: str, content: bytes
) -> None:
    write_files(tmp_path, {"a.png": png(1), name: gzip.compress(content)})
    assert words(tmp_path) == {"a.png": "monocyte"}
    for damaged, what in (
        (gzip.compress(content)[:-3], "truncated"), (content, "not readable as gzip"),
        (gzip.compress(bytes(2**21)), "unpacks to more than"),
    ):  # fmt: skip
        write_files(tmp_path, {name: damaged})
        assert what in read(tmp_path)["a.png"].prompt_problem


def test_notes_of_a_kind_that_is_not_read_are_named(tmp_path: Path) -> None:
    write_files(
        tmp_path, {"a.png": png(1), "a.yaml": "prompt: monocyte", "b.png": png(2), "b.yml": "", "b.txt": "x"}
    )
    found = read(tmp_path)
    assert ".yaml files are not read" in found["a.png"].prompt_problem
    assert (found["b.png"].prompt, found["b.png"].prompt_problem) == ("x", "")


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("metadata.csv", "file_name,text\ntrain/0.jpg,neutrophil\n./train/1.jpg,monocyte\n"),
        ("metadata.csv", "\ufefffile_name;prompt\r\ntrain\\0.jpg;neutrophil\r\ntrain/1.jpg;monocyte\r\n"),
        ("metadata.csv", ",file_name,caption\n0,train/0.jpg,neutrophil\n1,train/1.jpg,monocyte\n"),
        ("Metadata.CSV", "file_name,description\ntrain/0.jpg,neutrophil\ntrain/1.jpg,monocyte\n"),
        ("metadata.tsv", "file_name\tcaptions\ntrain/0.jpg\tneutrophil\ntrain/1.jpg\tmonocyte\n"),
        ("metadata.csv", "file_name,class\ntrain/0,neutrophil\ntrain/1,monocyte\n"),
        ("metadata.csv.gz", gzip.compress(b"file_name,text\ntrain/0.jpg,neutrophil\ntrain/1.jpg,monocyte\n")),
        ("train/metadata.csv", "image,prompt\n0.jpg,neutrophil\n1.jpg,monocyte\n"),
        ("train/metadata.jsonl", '{"file_name": "0.jpg", "text": "neutrophil"}\r\n'
                                 '{"file_name": "1.jpg", "text": "monocyte"}\r\n'),
    ],
)  # fmt: skip
def test_a_table_in_the_folder_of_the_images_or_above_gives_the_words(
    tmp_path: Path, name: str, table: str | bytes
) -> None:
    write_files(tmp_path, {"train/0.jpg": png(0), "train/1.jpg": png(1), name: table})
    assert words(tmp_path) == {"train/0.jpg": "neutrophil", "train/1.jpg": "monocyte"}


def test_a_table_may_be_parquet_or_utf16(tmp_path: Path) -> None:
    write_files(tmp_path / "a", {"0.png": png(0), "x/1.png": png(1)})
    columns = {"file_name": ["0.png", "x/1.png"], "prompt": pa.array(["one", "two"]).dictionary_encode()}
    pq.write_table(pa.table(columns), tmp_path / "a" / "metadata.parquet")
    assert words(tmp_path / "a") == {"0.png": "one", "x/1.png": "two"}
    write_files(
        tmp_path / "b", {"0.png": png(0), "metadata.csv": "file_name\tprompt\n0.png\tone\n".encode("utf-16")}
    )
    assert words(tmp_path / "b") == {"0.png": "one"}


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("captions.csv", "file_name,text\na.png,monocyte\n"),
        ("metadata.json", '[{"file_name": "a.png", "text": "monocyte"}]'),
        ("train.jsonl", '{"file_name": "a.png", "text": "monocyte"}'),
    ],
)
def test_words_in_a_table_of_another_name_are_reported(tmp_path: Path, name: str, table: str) -> None:
    write_files(tmp_path, {"a.png": png(1), "b.png": png(2), name: table})
    found = read(tmp_path)
    assert (
        found["a.png"].prompt_problem
        == f"{name} has words for a.png, but is not read. Save it as metadata.csv."
    )
    assert found["b.png"].prompt_problem == ""
    write_files(tmp_path, {"a.txt": "platelet"})
    assert read(tmp_path)["a.png"].prompt_problem == ""


def test_words_in_a_parquet_file_of_another_name_are_reported_and_images_are_no_words(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.png": png(1)})
    pq.write_table(pa.table({"file_name": ["a.png"], "prompt": ["monocyte"]}), tmp_path / "train.parquet")
    pq.write_table(pa.table({"image": [png(2)], "prompt": ["platelet"]}), tmp_path / "shard.parquet")
    write_files(tmp_path, {"scores.csv": 'image;score\n"broken', "metadata.json": '{"name": "cells"}'})
    assert "train.parquet has words for a.png" in read(tmp_path)["a.png"].prompt_problem


def test_a_file_named_without_its_suffix_is_there(tmp_path: Path) -> None:
    table = "file_name,prompt\na,monocyte\nc,platelet\n"
    write_files(tmp_path, {"a.png": png(1), "metadata.csv": table})
    found = read(tmp_path)
    assert (found["a.png"].prompt, set(found)) == ("monocyte", {"a.png", "c"})


def test_the_nearest_table_comes_first_and_a_note_before_it(tmp_path: Path) -> None:
    write_files(tmp_path, {
        "a/0.png": png(0), "a/1.png": png(1), "a/1.txt": "note",
        "a/metadata.csv": "file_name,prompt\n0.png,near\n1.png,near\n",
        "metadata.csv": "file_name,prompt\na/0.png,far\n2.png,far\n", "2.png": png(2),
    })  # fmt: skip
    assert words(tmp_path) == {"2.png": "far", "a/0.png": "near", "a/1.png": "note"}


def test_a_label_of_a_table_becomes_the_prompt_as_far_as_the_model_knows_the_words(tmp_path: Path) -> None:
    table = "file_name,label,nucleus_shape,patient\n0.png,neutrophil,irregular,p7\n"
    write_files(tmp_path, {"0.png": png(0), "metadata.csv": table})
    known = Vocabulary(("neutrophil",), {"nucleus_shape": ("irregular",)})
    (image,) = read(tmp_path, known).values()
    assert image.prompt == "neutrophil, nucleus shape irregular"
    assert image.attributes == {"nucleus_shape": "irregular", "patient": "p7"}


def test_a_row_whose_file_is_missing_is_counted(tmp_path: Path) -> None:
    write_files(
        tmp_path, {"0.png": png(0), "metadata.csv": "file_name,prompt\n0.png,a\n1.png,b\n../2.png,c\n"}
    )
    found = read(tmp_path)
    assert found["0.png"].prompt == "a"
    assert "metadata.csv names this file, which is not there" in found["1.png"].problem
    assert "outside" in found["../2.png"].problem


def test_a_table_without_file_names_is_said_to_be_there(tmp_path: Path) -> None:
    write_files(tmp_path, {"0.png": png(0), "metadata.csv": "id,diagnosis\n0,melanoma\n"})
    (image,) = read(tmp_path).values()
    assert "metadata.csv is there, but has no column file_name" in image.prompt_problem
    assert "id, diagnosis" in image.prompt_problem


@pytest.mark.parametrize(
    ("table", "what"),
    [
        ("file_name,prompt,prompt\n0.png,a,b\n", "column 'prompt' twice, as columns 2 and 3"),
        ("file_name,prompt\n0.png,a,b\n", "row 1 has more cells.*column 3 holds 'b'"),
        ('file_name,prompt\n"0.png,a\n', "row 1 is not readable as CSV"),
    ],
)
def test_a_damaged_table_is_refused_by_row_and_column(tmp_path: Path, table: str, what: str) -> None:
    write_files(tmp_path, {"0.png": png(0), "metadata.csv": table})
    with pytest.raises(InvalidInput, match=what):
        words(tmp_path)


def test_a_row_without_a_file_fails_alone(tmp_path: Path) -> None:
    table = "file_name,prompt\n0.png,monocyte\n,total: 1\n"
    write_files(tmp_path, {"0.png": png(0), "metadata.csv": table})
    found = read(tmp_path)
    assert found["0.png"].prompt == "monocyte"
    assert found["metadata.csv row 2"].problem == "metadata.csv row 2 names no file in its file column."


def test_a_damaged_line_fails_alone_and_may_be_about_an_image_without_words(tmp_path: Path) -> None:
    lines = '{"file_name": "0.png", "prompt": "monocyte"}\n{"file_name": "1.png", "prompt":\n'
    write_files(tmp_path, {"0.png": png(0), "1.png": png(1), "metadata.jsonl": lines})
    found = read(tmp_path)
    assert (found["0.png"].prompt, found["0.png"].prompt_problem) == ("monocyte", "")
    assert "metadata.jsonl line 2 is damaged and may be about this image" in found["1.png"].prompt_problem
    assert "metadata.jsonl line 2 is damaged" in found["metadata.jsonl line 2"].problem


@pytest.mark.parametrize("done", [(), ("0.png",)])
def test_rows_of_missing_files_are_said_of_every_table_and_after_a_resume(
    tmp_path: Path, done: tuple[str, ...]
) -> None:
    table = "file_name,prompt\n0.png,a\n1.png,b\n"
    write_files(tmp_path, {"0.png": png(0), "metadata.csv": table, "empty/metadata.csv": table})
    problems = {image.key for image in open_image_set(tmp_path).images(done.__contains__) if image.problem}
    assert problems == {"1.png", "empty/0.png", "empty/1.png"}


def test_a_given_prompt_fills_only_what_has_none() -> None:
    own, none = SourceImage("a", b"x", "monocyte"), SourceImage("b", b"x")
    unreadable = SourceImage("c", b"x", prompt_problem="c.txt is there, but not readable.")
    given, override = Prompting("basophil"), Prompting("basophil", override=True)
    assert [given.choose(image) for image in (own, none, unreadable)] == [
        ("monocyte", "own"), ("basophil", "given"), ("", ""),
    ]  # fmt: skip
    assert [override.choose(image) for image in (own, none, unreadable)] == [
        ("basophil", "overridden"), ("basophil", "given"), ("basophil", "overridden"),
    ]  # fmt: skip
    assert Prompting().choose(own) == ("monocyte", "own")


def test_a_json_note_may_be_in_utf16(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.png": png(1), "a.json": json.dumps({"text": "monocyte"}).encode("utf-16")})
    assert words(tmp_path) == {"a.png": "monocyte"}


def test_a_class_number_hides_no_words_of_a_table_and_a_note_no_label(tmp_path: Path) -> None:
    table = "file_name,prompt,label\n0.png,monocyte,\n1.png,,platelet\n"
    write_files(
        tmp_path, {"0.png": png(0), "0.cls": "7", "1.png": png(1), "1.txt": "a note", "metadata.csv": table}
    )
    found = read(tmp_path)
    assert (found["0.png"].prompt, found["0.png"].label) == ("monocyte", "7")
    assert (found["1.png"].prompt, found["1.png"].label) == ("a note", "platelet")


def test_rows_that_disagree_about_an_image_are_said(tmp_path: Path) -> None:
    rows = "0.png,monocyte\n0.png,platelet\n1.png,basophil\n1.png,basophil\n"
    write_files(tmp_path, {"0.png": png(0), "1.png": png(1), "metadata.csv": f"file_name,prompt\n{rows}"})
    found = read(tmp_path)
    assert "metadata.csv names 0.png more than once" in found["0.png"].prompt_problem
    assert found["1.png"].prompt == "basophil"


def test_a_folder_named_by_a_class_that_the_model_knows_is_the_label(tmp_path: Path) -> None:
    write_files(tmp_path, {
        "train/Immature_Granulocyte/0.png": png(0), "train/monocyte/1.png": png(1), "train/2.png": png(2),
        "train/monocyte/3.png": png(3), "train/monocyte/3.txt": "platelet",
    })  # fmt: skip
    known = Vocabulary(("immature granulocyte", "monocyte", "platelet"), {})
    assert {key: (image.label, image.prompt) for key, image in read(tmp_path, known).items()} == {
        "train/2.png": ("", ""),
        "train/Immature_Granulocyte/0.png": ("immature granulocyte", "immature granulocyte"),
        "train/monocyte/1.png": ("monocyte", "monocyte"),
        "train/monocyte/3.png": ("monocyte", "platelet"),
    }
    assert {image.prompt for image in read(tmp_path).values()} == {"", "platelet"}
    write_files(tmp_path, {"train/monocyte/3.txt": "für".encode("latin-1")})
    assert "3.txt is there" in read(tmp_path, known)["train/monocyte/3.png"].prompt_problem


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("File_Name,Prompt", "a.png,monocyte"),
        ("file_name, TEXT", "a.png,monocyte"),
        ("Image,Caption", "a.png,monocyte"),
        ("FILENAME,Label", "a.png,monocyte"),
        ("image_file_name,text", "a.png,monocyte"),
        ("mask_file_name,image,prompt", "m.png,a.png,monocyte"),
        ("mask_file_name,image_file_name,prompt", "m.png,a.png,monocyte"),
    ],
)
def test_columns_are_known_however_their_names_are_written(tmp_path: Path, header: str, row: str) -> None:
    write_files(tmp_path, {"a.png": png(1), "metadata.csv": f"{header}\n{row}\n"})
    assert words(tmp_path) == {"a.png": "monocyte"}


@pytest.mark.parametrize("column", ["Prompt", "TEXT", "Caption ", "Label"])
def test_names_of_columns_and_fields_are_known_in_every_kind_of_set(tmp_path: Path, column: str) -> None:
    pq.write_table(pa.table({"image": [png(1)], column: ["monocyte"]}), tmp_path / "a.parquet")
    write_files(tmp_path, {"b.png": png(2), "b.json": json.dumps({column: "monocyte"})})
    line = json.dumps({"file_name": "c.png", column: "monocyte"})
    write_files(tmp_path, {"c.png": png(3), "metadata.jsonl": line})
    assert set(words(tmp_path).values()) == {"monocyte"}


def test_a_column_of_the_exact_name_comes_before_one_of_nearly_that_name(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.png": png(1), "metadata.csv": "file_name,PROMPT,prompt\na.png,loud,monocyte\n"})
    assert words(tmp_path) == {"a.png": "monocyte"}


DECOMPOSED, COMPOSED = "Zu\u0308rich", "Z\u00fcrich"  # as macOS stores names, and as others write them


@pytest.mark.parametrize(
    ("file", "named"),
    [
        (f"{DECOMPOSED}/a.png", f"{COMPOSED}/a.png"),
        (f"{COMPOSED}.png", f"{DECOMPOSED}.png"),
        ("IMG_1.PNG", "img_1.png"),
        ("a/b.png", "A/B.PNG"),
    ],
)
def test_a_table_may_write_a_name_in_another_case_or_form_of_unicode(
    tmp_path: Path, file: str, named: str
) -> None:
    write_files(tmp_path, {file: png(1), "metadata.csv": f"file_name,prompt\n{named},monocyte\n"})
    assert words(tmp_path) == {file: "monocyte"}


def test_names_that_differ_in_case_alone_are_told_apart(tmp_path: Path) -> None:
    files = {"a.png": png(1), "A.png": png(2), "b.png": png(3), "B.png": png(4)}
    table = "file_name,prompt\na.png,monocyte\nA.png,platelet\nb.png,basophil\n"
    write_files(tmp_path, {**files, "metadata.csv": table})
    assert words(tmp_path) == {"a.png": "monocyte", "A.png": "platelet", "b.png": "basophil", "B.png": ""}


def test_rows_that_differ_in_case_alone_are_not_guessed_from(tmp_path: Path) -> None:
    table = "file_name,prompt\nc.png,monocyte\nC.png,platelet\n"
    write_files(tmp_path, {"c.PNG": png(1), "metadata.csv": table})
    (image,) = read(tmp_path).values()
    assert (image.prompt, image.prompt_problem) == (
        "",
        "Rows of the metadata table name c.PNG in other letters only, and differ.",
    )


def test_a_note_may_have_another_form_of_unicode_than_its_image(tmp_path: Path) -> None:
    write_files(tmp_path, {f"{DECOMPOSED}.png": png(1), f"{COMPOSED}.TXT": "monocyte"})
    assert words(tmp_path) == {f"{DECOMPOSED}.png": "monocyte"}


def test_an_absolute_path_into_the_folder_names_its_file(tmp_path: Path) -> None:
    table = f"file_name,prompt\n{tmp_path}/x/a.png,monocyte\n{tmp_path.parent}/b.png,platelet\n"
    write_files(tmp_path, {"x/a.png": png(1), "metadata.csv": table})
    images = read(tmp_path)
    assert images["x/a.png"].prompt == "monocyte"
    assert [image.problem for image in images.values() if image.problem] == [
        "metadata.csv names this file, which lies outside of its folder; it is not read."
    ]
