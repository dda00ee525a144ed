from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.image_files import png, write_files, write_parquet
from vouch.datasets.imagesets import SourceImage, open_image_set
from vouch.errors import InvalidInput


def read(path: Path) -> list[SourceImage]:
    return list(open_image_set(path).images())


def prompts(path: Path, column: Any, name: str = "prompt") -> list[str]:
    table = {"image": [png(n) for n in range(len(column))], name: column}
    return [image.prompt for image in read(write_parquet(path / "set.parquet", table))]


WORDS = ["neutrophil", "monocyte"]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(WORDS, pa.large_string()),
        pa.array(WORDS).dictionary_encode(),
        pa.array(WORDS, pa.large_string()).dictionary_encode(),
        pa.array([word.encode() for word in WORDS]),
        pa.array([[word] for word in WORDS]),
        pa.array([["", word, "another"] for word in WORDS], pa.large_list(pa.string())),
    ],
    ids=lambda column: str(column.type),
)
def test_a_prompt_column_is_read_in_every_type_of_text(tmp_path: Path, column: pa.Array) -> None:
    assert prompts(tmp_path, column) == WORDS


def test_categories_of_pandas_are_words(tmp_path: Path) -> None:
    frame = pd.DataFrame({"image": [png(0), png(1)], "label": pd.Series(WORDS, dtype="category"),
                          "size": pd.Series(["big", None], dtype="category")})  # fmt: skip
    frame.to_parquet(tmp_path / "set.parquet")
    first, second = read(tmp_path / "set.parquet")
    assert (first.label, first.prompt, first.attributes) == (
        "neutrophil",
        "neutrophil, size big",
        {"size": "big"},
    )
    assert (second.prompt, second.attributes) == ("monocyte", {})


def test_a_missing_prompt_is_none_and_one_of_another_type_is_unreadable(tmp_path: Path) -> None:
    assert prompts(tmp_path, pa.array([None, "", "  "])) == ["", "", ""]
    assert prompts(tmp_path, pa.array([None, None], pa.null())) == ["", ""]
    (image,) = read(write_parquet(tmp_path / "n.parquet", {"image": [png(1)], "prompt": [7]}))
    assert "Row 0 has words, but they are not readable: prompt: it is of type int" in image.prompt_problem


def test_class_numbers_are_named_by_the_metadata_that_datasets_writes(tmp_path: Path) -> None:
    table = pa.table({"image": [png(0), png(1), png(2)], "label": pa.array([1, 0, None], pa.int64())})
    names = {"info": {"features": {"label": {"names": WORDS, "_type": "ClassLabel"}}}}
    pq.write_table(
        table.replace_schema_metadata({"huggingface": json.dumps(names)}), tmp_path / "set.parquet"
    )
    assert [(i.label, i.prompt) for i in read(tmp_path / "set.parquet")] == [
        ("monocyte", "monocyte"), ("neutrophil", "neutrophil"), ("", ""),
    ]  # fmt: skip


def test_a_class_number_without_names_is_a_label_and_no_prompt(tmp_path: Path) -> None:
    (image,) = read(write_parquet(tmp_path / "set.parquet", {"image": [png(0)], "label": [3]}))
    assert (image.label, image.prompt, image.prompt_problem) == ("3", "", "")


def test_images_given_by_path_are_read_beside_the_file_and_never_outside(tmp_path: Path) -> None:
    write_files(tmp_path, {"secret.png": png(9), "set/a.png": png(1), "set/sub/b.png": png(2)})
    (tmp_path / "set" / "link.png").symlink_to(tmp_path / "secret.png")
    paths = [str(tmp_path / "set" / "a.png"), "sub/b.png", "../secret.png", "link.png", "gone.png", None]
    cells = [{"bytes": None, "path": path} for path in paths]
    found = read(write_parquet(tmp_path / "set" / "set.parquet", {"image": cells}))
    assert [image.data for image in found[:2]] == [png(1), png(2)]
    assert ["leads out" in i.problem for i in found[2:4]] == [True, True]
    assert "'gone.png', and there is no such file" in found[4].problem
    assert "neither bytes nor a path" in found[5].problem


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_a_column_of_paths_alone_is_read(tmp_path: Path, kind: pa.DataType) -> None:
    write_files(tmp_path, {"a.png": png(1)})
    column = pa.array(["a.png", "b.png"]).cast(kind)
    good, gone = read(write_parquet(tmp_path / "set.parquet", {"image": column}))
    assert good.data == png(1)
    assert "b.png" in gone.problem


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_a_row_of_several_images_yields_each(tmp_path: Path, kind: pa.DataType) -> None:
    column = pa.array([[png(1), png(2)], [png(3)], [], None], pa.list_(kind))
    found = read(write_parquet(tmp_path / "set.parquet", {"image": column, "prompt": ["a", "b", "c", "d"]}))
    assert [(i.key, i.prompt, i.data) for i in found[:3]] == [
        ("00000000/0", "a", png(1)), ("00000000/1", "a", png(2)), ("00000001", "b", png(3)),
    ]  # fmt: skip
    assert [bool(i.problem) for i in found[3:]] == [True, True]


def test_text_that_is_no_utf8_is_unreadable_in_its_row_alone(tmp_path: Path) -> None:
    raw = pa.array([b"monocyte", "für".encode("latin-1"), b"platelet"])
    text = pa.StringArray.from_buffers(3, raw.buffers()[1], raw.buffers()[2])
    table = {"image": [png(n) for n in range(3)], "prompt": text}
    first, second, third = read(write_parquet(tmp_path / "set.parquet", table))
    assert (first.prompt, second.prompt, third.prompt) == ("monocyte", "", "platelet")
    assert "not readable" in second.prompt_problem


def test_a_column_that_is_there_twice_is_refused_by_name(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array([png(1)]), pa.array(["a"]), pa.array(["b"])],
                                 names=["image", "prompt", "prompt"])  # fmt: skip
    pq.write_table(table, tmp_path / "set.parquet")
    with pytest.raises(InvalidInput, match="column 'prompt' twice, as columns 2 and 3"):
        read(tmp_path / "set.parquet")


def test_folders_of_a_partitioned_set_are_columns(tmp_path: Path) -> None:
    frame = pd.DataFrame({"image": [png(0), png(1)], "label": WORDS, "size": ["big", "big"]})
    frame.to_parquet(tmp_path / "set", partition_cols=["label"])
    (tmp_path / "set" / "prompt=a%20cell").mkdir()
    write_parquet(tmp_path / "set" / "prompt=a%20cell" / "0.parquet", {"image": [png(2)]})
    (tmp_path / "set" / "label=__HIVE_DEFAULT_PARTITION__").mkdir()
    write_parquet(tmp_path / "set" / "label=__HIVE_DEFAULT_PARTITION__" / "0.parquet", {"image": [png(3)]})
    assert sorted(image.prompt for image in read(tmp_path / "set")) == [
        "", "a cell", "monocyte, size big", "neutrophil, size big",
    ]  # fmt: skip


def test_class_numbers_of_any_column_are_named(tmp_path: Path) -> None:
    names = {"names": ["platelet", *WORDS], "_type": "ClassLabel"}
    features = {"text": names, "lineage": names, "image": {"_type": "Image"}, "gone": names}
    table = pa.table({"image": [png(1), png(2)], "text": [1, None], "lineage": [2, 0]})
    known = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    pq.write_table(table.replace_schema_metadata(known), tmp_path / "set.parquet")
    first, second = read(tmp_path / "set.parquet")
    assert (first.prompt, first.attributes) == ("neutrophil", {"lineage": "monocyte"})
    assert (second.prompt, second.attributes) == ("", {"lineage": "platelet"})


def test_paths_are_read_as_every_system_writes_them_and_never_outside_of_the_set(tmp_path: Path) -> None:
    root = write_files(tmp_path / "set", {"images/a b.png": png(1), "shards/beside.png": png(2)})
    write_files(tmp_path, {"outside.png": png(3)})
    inside = [
        "images/a b.png", "images\\a b.png", "../images/a b.png", str(root / "images" / "a b.png"),
        (root / "images" / "a b.png").as_uri(), "beside.png",
    ]  # fmt: skip
    outside = [
        "../../outside.png",
        "..\\..\\outside.png",
        str(tmp_path / "outside.png"),
        "file:///etc/hostname",
    ]
    write_parquet(root / "shards" / "0.parquet", {"image": [*inside, *outside]})
    rows = [image for image in read(root) if ".parquet/" in image.key]
    assert [image.data for image in rows[: len(inside)]] == [*[png(1)] * 5, png(2)]
    assert ["leads out of the set" in image.problem for image in rows[len(inside) :]] == [True] * len(outside)


def test_a_column_name_that_is_no_utf8_is_a_refusal(tmp_path: Path) -> None:
    sound = write_parquet(tmp_path / "sound", {"image": [png(1)], "prompt": ["monocyte"]}).read_bytes()
    (tmp_path / "set.parquet").write_bytes(sound.replace(b"prompt", b"pr\xffmpt"))
    with pytest.raises(InvalidInput, match="cannot be read as Parquet .*invalid start byte"):
        read(tmp_path / "set.parquet")
