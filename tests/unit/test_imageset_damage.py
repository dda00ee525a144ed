"""Damaged files of others: an image, an item with its reason or a refusal, and never another error."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.mutants import damaged
from tests.image_files import png, tiff, write_files, write_parquet, write_tar
from vouch.datasets.imagesets import open_image_set
from vouch.datasets.ratings import COLUMNS, read_ratings
from vouch.errors import InvalidInput

FEW, MANY = 60, 5_000
NOTE = json.dumps({"prompt": "monocyte", "label": "monocyte", "seed": 7}).encode()
ROWS = {"file_name": ["a.png", "b.png"], "prompt": ["monocyte", None], "label": ["x", "y"]}


def dicom_file(folder: Path) -> bytes:
    pytest.importorskip("pydicom")
    from tests.dicom_files import dicom, write

    return write(dicom(np.arange(64, dtype=np.uint16).reshape(8, 8)), folder / "sound").read_bytes()


def tar_file(folder: Path) -> bytes:
    return write_tar(folder / "sound", {"a.png": png(1), "a.json": NOTE, "b.png": png(2)}).read_bytes()


def parquet_of_images(folder: Path) -> bytes:
    columns = {"image": [{"bytes": png(1), "path": "a"}, None], "prompt": ["monocyte", "platelet"]}
    return write_parquet(folder / "sound", columns).read_bytes()


def parquet_table(folder: Path) -> bytes:
    return write_parquet(folder / "sound", ROWS).read_bytes()


def csv_table(_: Path) -> bytes:
    return b"".join(
        b"%s,%s,%s\r\n" % row
        for row in [(b"file_name", b"prompt", b"class")] + [(b"a.png", b'"a, b"', b"")] * 9
    )


def json_lines(_: Path) -> bytes:
    return b'{"file_name": "a.png", "prompt": ["monocyte"], "label": 3}\n' * 9


SETS: dict[str, Callable[[Path], bytes]] = {
    "a.dcm": dicom_file,
    "a.tar": tar_file,
    "a.tar.gz": lambda folder: gzip.compress(tar_file(folder), mtime=0),
    "a.parquet": parquet_of_images,
    "metadata.parquet": parquet_table,
    "metadata.csv": csv_table,
    "metadata.jsonl": json_lines,
    "a.json": lambda _: NOTE,
    "a.txt.gz": lambda _: gzip.compress(b"monocyte " * 9, mtime=0),
    "a.tif": lambda _: tiff([[1, 2], [3, 4]], 16, 0, ">"),
}


def mutants(sound: bytes, count: int) -> Iterator[bytes]:
    rng = np.random.default_rng(0)
    for _ in range(count):
        yield damaged(sound, rng)


def check_sets(folder: Path, name: str, count: int) -> None:
    sound = SETS[name](folder)
    images = write_files(folder / "set", {"a.png": png(1), "b.png": png(2)})
    for mutant in mutants(sound, count):
        (images / name).write_bytes(mutant)
        try:
            keys = [image.key for image in open_image_set(images).images()]
        except InvalidInput:  # a damaged table concerns all its images
            continue
        assert {"a.png", "b.png"} <= set(keys)
        assert len(keys) == len(set(keys))


@pytest.mark.parametrize("name", SETS)
def test_a_damaged_file_ends_no_reading_in_another_way_than_a_refusal(tmp_path: Path, name: str) -> None:
    check_sets(tmp_path, name, FEW)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", SETS)
def test_thousands_of_damaged_files_end_no_reading_in_another_way(tmp_path: Path, name: str) -> None:
    check_sets(tmp_path, name, MANY)


def ratings(suffix: str) -> bytes:
    row = {"id": "r1", "request_id": "q1", "image": "a" * 64, "rater": "ada", "kind": "human", "domain": "blood_cells",
           "verdict": "plausible", "created_at": "2026-01-31T12:00:00+00:00", "duration_ms": "1200"}  # fmt: skip
    if suffix == ".csv":
        return "\n".join([",".join(COLUMNS), *[",".join(row.get(name, "") for name in COLUMNS)] * 5]).encode()
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(pa.table({name: [row.get(name, "")] * 5 for name in COLUMNS}), sink)
    return sink.getvalue()


def check_ratings(folder: Path, suffix: str, count: int) -> None:
    file = folder / f"ratings{suffix}"
    for mutant in mutants(ratings(suffix), count):
        file.write_bytes(mutant)
        try:
            assert len(read_ratings(file)) <= 5
        except InvalidInput as refusal:
            assert refusal.message


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_damaged_file_of_ratings_is_read_or_refused(tmp_path: Path, suffix: str) -> None:
    check_ratings(tmp_path, suffix, FEW)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_thousands_of_damaged_files_of_ratings_are_read_or_refused(tmp_path: Path, suffix: str) -> None:
    check_ratings(tmp_path, suffix, MANY)
