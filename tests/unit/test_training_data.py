from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.image_files import png, tiff, write_files
from training.data import examples
from training.data.digest import digest_of
from training.data.examples import load_examples
from vouch.errors import InvalidInput
from vouch.formats import images

TABLE = (
    "file_name,label,cell_size,patient\n0.png,neutrophil,big,p7\n1.png,monocyte,small,p8\n2.png,platelet,,\n"
)


def test_a_folder_with_a_table_of_labels_is_training_data(tmp_path: Path) -> None:
    files = {f"{n}.png": png(n) for n in range(3)}
    examples = load_examples(write_files(tmp_path, {**files, "metadata.csv": TABLE}))
    assert examples.labels == ("neutrophil", "monocyte", "platelet")
    assert examples.attributes == ({"cell_size": "big"}, {"cell_size": "small"}, {})
    assert examples.hidden[0] == {"patient": "p7"}


def test_what_teaches_nothing_is_left_out_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = {"0.png": png(0), "1.png": b"no image", "2.png": png(2)[:40], "3.png": png(3), "4.dcm": b"x"}
    write_files(tmp_path, {**files, "metadata.csv": TABLE})
    with caplog.at_level(logging.WARNING):
        assert len(load_examples(tmp_path)) == 1
    (line,) = caplog.messages
    for left_out in ("1.png", "2.png", "3.png", "4.dcm"):
        assert left_out in line
    assert "The image has no label." in line


def test_whatever_one_image_raises_leaves_it_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"{n}.png": png(n) for n in range(3)}
    write_files(tmp_path, {**files, "metadata.csv": TABLE})

    def decode(data: bytes) -> np.ndarray:
        if data == png(1):
            raise MemoryError("too large")
        return images.decode(data)

    monkeypatch.setattr(examples, "codec", SimpleNamespace(decode=decode, range_note=images.range_note))
    with caplog.at_level(logging.WARNING):
        assert load_examples(tmp_path).labels == ("neutrophil", "platelet")
    assert "Left out 1 (1.png, …): MemoryError: too large." in caplog.text


def test_images_that_are_nearly_black_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dark = tiff([[0, 4095], [2000, 3000]], 16, 1)
    write_files(tmp_path, {"0.tif": dark, "1.tif": tiff([[0, 65535], [2, 3]], 16, 1)})
    write_files(tmp_path, {"metadata.csv": "file_name,label\n0.tif,neutrophil\n1.tif,neutrophil\n"})
    with caplog.at_level(logging.WARNING):
        assert len(load_examples(tmp_path)) == 2
    (line,) = caplog.messages
    assert "1 images use a small part of their range. 0.tif: Nearly all grey values are 0 to 4095" in line


def test_data_without_any_label_is_refused_with_the_reasons(tmp_path: Path) -> None:
    write_files(tmp_path, {"0.png": png(0), "0.cls": b"\xff\xff", "1.png": b"x"})
    with pytest.raises(InvalidInput, match=r"no labelled image.*0\.cls is there, but not readable"):
        load_examples(tmp_path)


def test_a_digest_tells_linked_folders_with_other_images_apart(tmp_path: Path) -> None:
    write_files(tmp_path / "elsewhere", {"a.png": png(1)})
    write_files(tmp_path / "set" / "monocyte", {"b.png": png(2)})
    (tmp_path / "set" / "neutrophil").symlink_to(tmp_path / "elsewhere")
    before = digest_of(tmp_path / "set")
    (tmp_path / "elsewhere" / "a.png").write_bytes(png(3))
    assert digest_of(tmp_path / "set") != before


def test_a_digest_is_that_of_the_files_in_place_of_the_links(tmp_path: Path) -> None:
    write_files(tmp_path / "elsewhere", {"a.png": png(1)})
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "neutrophil").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "linked" / "circle").symlink_to(tmp_path / "linked")
    write_files(tmp_path / "plain" / "neutrophil", {"a.png": png(1)})
    assert digest_of(tmp_path / "linked") == digest_of(tmp_path / "plain")
