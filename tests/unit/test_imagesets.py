from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.image_files import png, write_parquet, write_tar
from vouch.datasets.imagesets import MAX_IMAGE_BYTES, open_image_set, sampled
from vouch.errors import InvalidInput
from vouch.models.captions import Vocabulary


def test_a_folder_is_read_in_sorted_order_with_the_prompts_beside_the_images(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "2.jpg").write_bytes(png(2))
    (tmp_path / "b" / "2.json").write_text(json.dumps({"prompt": "monocyte", "seed": 4}))
    (tmp_path / "a.PNG").write_bytes(png(1))
    (tmp_path / "a.txt").write_text("neutrophil\n")
    (tmp_path / "notes.md").write_text("not an image")
    images = open_image_set(tmp_path)
    assert [(i.key, i.prompt, i.data) for i in images.images()] == [
        ("a.PNG", "neutrophil", png(1)),
        ("b/2.jpg", "monocyte", png(2)),
    ]
    assert images.count() == 2


def test_a_metadata_file_gives_prompts_to_a_whole_folder(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "1.png").write_bytes(png(1))
    (tmp_path / "2.png").write_bytes(png(2))
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "b/1.png", "text": "monocyte"}\n\n')
    assert [i.prompt for i in open_image_set(tmp_path).images()] == ["", "monocyte"]
    (tmp_path / "metadata.jsonl").write_text("not json\n")
    with pytest.raises(InvalidInput, match="damaged"):
        list(open_image_set(tmp_path).images())


def test_skipped_keys_are_not_read(tmp_path: Path) -> None:
    for name in ("1.png", "2.png", "3.png"):
        (tmp_path / name).write_bytes(png(3))
    assert [i.key for i in open_image_set(tmp_path).images({"1.png", "3.png"}.__contains__)] == ["2.png"]


def test_an_empty_or_oversized_file_is_a_problem_of_that_image_alone(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"")
    with (tmp_path / "2.png").open("wb") as big:
        big.truncate(MAX_IMAGE_BYTES + 1)
    (tmp_path / "3.png").write_bytes(png(3))
    empty, large, good = open_image_set(tmp_path).images()
    assert "empty" in empty.problem
    assert str(MAX_IMAGE_BYTES) in large.problem
    assert not large.data
    assert good.data
    assert not good.problem


@pytest.mark.parametrize(("suffix", "mode"), [(".tar", "w"), (".tar.gz", "w:gz")])
def test_a_webdataset_tar_yields_its_samples_with_prompts(tmp_path: Path, suffix: str, mode: str) -> None:
    members = {
        "s/0001.png": png(1), "s/0001.json": b'{"text": "basophil"}',
        "s/0002.cls": b"platelet", "s/0002.jpg": png(2),
        "s/0003.png": png(3), "s/0003.cls": b"7",
        "s/readme.txt": b"a sample without an image",
    }  # fmt: skip
    images = open_image_set(write_tar(tmp_path / f"set{suffix}", members, mode))
    assert [(i.key, i.prompt, i.data) for i in images.images()] == [
        ("s/0001.png", "basophil", png(1)),
        ("s/0002.jpg", "platelet", png(2)),
        ("s/0003.png", "", png(3)),
    ]
    assert images.count() is None


def test_tars_in_a_folder_are_shards_of_one_set_with_distinct_keys(tmp_path: Path) -> None:
    write_tar(tmp_path / "part-0.tar", {"1.png": png(1)})
    write_tar(tmp_path / "part-1.tar", {"1.png": png(2)})
    assert [i.key for i in open_image_set(tmp_path).images()] == ["part-0.tar/1.png", "part-1.tar/1.png"]


@pytest.mark.parametrize("keep", [600, 1024, 1536, 2048, 2100])
def test_a_truncated_tar_is_refused_wherever_it_was_cut(tmp_path: Path, keep: int) -> None:
    whole = write_tar(tmp_path / "whole.tar", {"1.png": png(1), "2.png": png(2)})
    cut = tmp_path / "cut.tar"
    cut.write_bytes(whole.read_bytes()[:keep])
    with pytest.raises(InvalidInput, match="truncated"):
        list(open_image_set(cut).images())


def test_a_truncated_gzip_tar_and_a_tar_that_is_none_are_refused(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "whole.tar.gz", {"1.png": png(1), "2.png": png(2)}, "w:gz").read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.tar").write_text("hello")
    for name in ("cut.tar.gz", "text.tar"):
        with pytest.raises(InvalidInput, match="truncated or is not a tar"):
            list(open_image_set(tmp_path / name).images())


def test_a_parquet_file_is_read_row_by_row_with_its_prompt_column(tmp_path: Path) -> None:
    cells = [{"bytes": png(n), "path": f"{n}.png"} for n in range(5)]
    path = write_parquet(
        tmp_path / "set.parquet", {"image": cells, "prompt": ["neutrophil"] * 5, "n": [*range(5)]}
    )
    images = open_image_set(path)
    rows = list(images.images({"00000001"}.__contains__))
    assert [r.key for r in rows] == ["00000000", "00000002", "00000003", "00000004"]
    assert rows[1].data == png(2)
    assert rows[1].prompt == "neutrophil"
    assert images.count() == 5


def test_labels_and_attributes_become_the_prompt_where_there_is_none(tmp_path: Path) -> None:
    columns = {
        "image": [png(1), png(2)],
        "label": ["neutrophil", "platelet"],
        "nucleus_shape": ["irregular", None],
    }
    first, second = open_image_set(write_parquet(tmp_path / "set.parquet", columns)).images()
    assert first.label == "neutrophil"
    assert first.attributes == {"nucleus_shape": "irregular"}
    assert first.prompt.startswith("neutrophil, ")
    assert "irregular" in first.prompt
    assert second.prompt == "platelet"
    assert second.attributes == {}


def test_columns_that_the_model_was_never_told_about_stay_out_of_the_prompt(tmp_path: Path) -> None:
    columns = {"image": [png(1)], "label": ["neutrophil"], "slide": ["B7"], "nucleus_shape": ["irregular"]}
    known = Vocabulary(("neutrophil",), {"nucleus_shape": ("irregular", "round"), "cell_size": ("big",)})
    (image,) = open_image_set(write_parquet(tmp_path / "set.parquet", columns), known).images()
    assert image.prompt == "neutrophil, nucleus shape irregular"
    assert image.attributes["slide"] == "B7"


def test_a_row_without_bytes_is_a_problem_of_that_row_alone(tmp_path: Path) -> None:
    cells = [{"bytes": None, "path": "gone.png"}, {"bytes": png(1), "path": None}]
    bad, good = open_image_set(write_parquet(tmp_path / "set.parquet", {"image": cells})).images()
    assert "gone.png" in bad.problem
    assert not good.problem


@pytest.mark.parametrize(
    "columns", [{"picture": [b"x"]}, {"image": [[1, 2, 3]]}, {"image": [{"url": "a"}]}, {"image": [1.5]}]
)
def test_a_parquet_file_without_an_image_column_says_what_it_has(
    tmp_path: Path, columns: dict[str, list[object]]
) -> None:
    images = open_image_set(write_parquet(tmp_path / "set.parquet", columns))
    with pytest.raises(InvalidInput, match=f"no image column.*{next(iter(columns))}"):
        list(images.images())
    with pytest.raises(InvalidInput, match="no image column"):
        images.count()


def test_damaged_and_empty_parquet_files_are_refused(tmp_path: Path) -> None:
    whole = write_parquet(tmp_path / "whole.parquet", {"image": [png(n) for n in range(50)]}).read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidInput, match="cannot be read as Parquet"):
        list(open_image_set(tmp_path / "cut.parquet").images())
    empty = pa.table({"image": pa.array([], pa.binary())})
    pq.write_table(empty, tmp_path / "empty.parquet")
    with pytest.raises(InvalidInput, match="no row"):
        list(open_image_set(tmp_path / "empty.parquet").images())


def test_nothing_to_read_is_said_with_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no file or folder"):
        open_image_set(tmp_path / "missing")
    with pytest.raises(InvalidInput, match="holds no image"):
        open_image_set(tmp_path)
    (tmp_path / "x.zip").write_bytes(b"PK")
    with pytest.raises(InvalidInput, match="not an image set"):
        open_image_set(tmp_path / "x.zip")


def test_some_images_are_drawn_at_random_the_same_ones_for_the_same_seed(tmp_path: Path) -> None:
    parquet = write_parquet(
        tmp_path / "a.parquet", {"image": [png(i) for i in range(40)], "label": ["monocyte"] * 40}
    )
    tar = write_tar(tmp_path / "a.tar", {f"{i:02d}.png": png(i) for i in range(40)})
    for path in (parquet, tar):
        first, same, other = (
            [image.key for image in sampled(open_image_set(path), 10, seed)] for seed in (0, 0, 1)
        )
        assert first == same != other
        assert first == sorted(first)
        assert len(set(first)) == 10
        assert len(list(sampled(open_image_set(path), 100, 0))) == 40
