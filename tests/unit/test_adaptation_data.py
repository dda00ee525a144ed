"""Captioned images as tensors, and the captions and prompts of the adaptation experiment."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.adaptation.captions import cell_captions, kind_captions, light_of, prompts, training_captions
from benchmarks.adaptation.sets import CHEST_LABELS, Sets, joined
from tests.image_files import encoded, png, write_files
from tests.real import CXR224, needs_cxr224, needs_mednist64, needs_pbc64
from training.adaptation.data import load_set, square, stream
from training.adaptation.images import Reading
from vouch.domains.criteria import load_domain
from vouch.errors import InvalidInput

CHEST = Reading(load_domain("chest_xray"))


def write_set(folder: Path, count: int = 40) -> Path:
    """Every image has its own colour and its own caption, and the caption names the colour."""
    write_files(folder, {f"{n:02d}.png": png(n * 6, 8) for n in range(count)})
    rows = "\n".join(f"{n:02d}.png,colour {n * 6},{'ab'[n % 2]},p{n // 2}" for n in range(count))
    return write_files(folder, {"metadata.csv": f"file_name,caption,label,patient\n{rows}\n"})


def test_every_image_keeps_its_own_caption_whatever_the_order(tmp_path: Path) -> None:
    images = load_set(write_set(tmp_path), 8, CHEST)
    order = list(range(len(images)))
    random.Random(1).shuffle(order)
    for one in (images, images.subset(order), images.of("train"), images.few(12)):
        for row in range(len(one)):
            assert one.captions[row] == (f"colour {int(one.images[row, 0, 0, 0])}",)
            assert one.keys[row] == f"{int(one.images[row, 0, 0, 0]) // 6:02d}.png"
    assert images.images.dtype == torch.uint8 and images.images.shape == (40, 3, 8, 8)


def test_splits_are_divided_by_patients(tmp_path: Path) -> None:
    images = load_set(write_set(tmp_path), 8, Reading(CHEST.domain, share=0.3))
    train, val = images.of("train"), images.of("val")
    assert len(train) + len(val) == 40 and len(val) > 0
    assert not set(train.patients) & set(val.patients)


def test_few_images_grow_from_each_other_and_take_labels_in_turn(tmp_path: Path) -> None:
    images = load_set(write_set(tmp_path), 8, CHEST)
    few, more = images.few(6), images.few(10)
    assert set(few.keys) < set(more.keys)
    assert sorted(few.labels) == ["a", "a", "a", "b", "b", "b"]
    assert images.few(6, seed=1).keys != few.keys and images.few(6).keys == few.keys
    assert set(images.few(1000).splits) == {"train"}


def test_the_digest_follows_images_captions_and_splits(tmp_path: Path) -> None:
    images = load_set(write_set(tmp_path), 8, CHEST)
    assert load_set(tmp_path, 8, CHEST).digest == images.digest
    text = (tmp_path / "metadata.csv").read_text()
    (tmp_path / "metadata.csv").write_text(text.replace("colour 6,", "colour six,"))
    assert load_set(tmp_path, 8, CHEST).digest != images.digest


def test_a_set_streams_one_image_at_a_time_and_says_what_it_left_out(tmp_path: Path, caplog) -> None:
    write_files(write_set(tmp_path), {"99.png": b"no image", "99.txt": "a cell", "98.png": png(3)})
    rows = stream(tmp_path, 16, CHEST)
    first, pixels = next(rows)
    assert first.key == "00.png" and pixels.shape == (3, 16, 16)
    assert len([first, *(image for image, _ in rows)]) == 40
    assert "99.png" in caplog.text and "no caption" in caplog.text


def test_a_set_without_captions_is_refused_with_what_to_do(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.png": png(1)})
    with pytest.raises(InvalidInput, match="--check-only"):
        load_set(tmp_path, 8, CHEST)


@pytest.mark.parametrize(("fit", "shown"), [("crop", [1, 1]), ("pad", [0, 0]), ("squash", [1, 1])])
def test_an_image_becomes_a_square_as_is_asked(fit, shown) -> None:
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 200  # the middle
    made = square(wide, 20, fit)
    assert made.shape == (20, 20, 3)
    assert [int(made[0, 10, 0] > 100), int(made[19, 10, 0] > 100)] == shown
    assert (made.mean() > 150) == (fit == "crop")


def test_findings_are_asked_for_in_five_ways_of_which_one_is_held_out() -> None:
    domain = CHEST.domain
    asked = prompts(domain, CHEST_LABELS)
    for label in CHEST_LABELS:
        own = [prompt for prompt in asked if prompt.label == label and prompt.kind != "negation"]
        assert [prompt.kind for prompt in own].count("held out") == 1 and len(own) == 5
        assert len({prompt.text for prompt in own}) == 5
        taught = training_captions(domain, label, CHEST_LABELS)
        assert not {prompt.text for prompt in own if prompt.kind == "held out"} & set(taught)
    negations = [prompt for prompt in asked if prompt.kind == "negation"]
    assert {prompt.label for prompt in negations} == {"normal"} and len(negations) == 4
    taught = set(training_captions(domain, "normal", CHEST_LABELS))
    assert 0 < len(taught & {prompt.text for prompt in negations}) < len(negations)


def test_no_caption_of_the_foundation_names_an_x_ray_of_the_chest() -> None:
    labels = ("x-ray of the hand", "computed tomography of the chest", "magnetic resonance of the breast")
    told = [
        text for label in labels for seed in range(200) for text in kind_captions(label, "bright", 6, seed)
    ]
    assert any("x-ray" in text for text in told) and any("chest" in text for text in told)
    assert not [text for text in told if "chest" in text and ("x-ray" in text or "radiograph" in text)]
    assert len(set(told)) > 60


def test_cells_are_told_with_none_some_and_all_of_their_attributes() -> None:
    attributes = {"cell_size": "big", "nucleus_shape": "irregular", "granularity": "yes"}
    told = cell_captions("monocyte", attributes, 6, seed=3)
    assert (
        told
        == cell_captions("monocyte", attributes, 6, seed=3)
        != cell_captions("monocyte", attributes, 6, seed=4)
    )
    assert sorted({text.count(",") - text.count("smear,") for text in told}) == [0, 2, 3]
    assert all("monocyte" in text for text in told)


def test_light_is_measured_within_a_label() -> None:
    brightness = np.array([1, 2, 3, 101, 102, 103], float)
    assert light_of(brightness, ["a"] * 3 + ["b"] * 3) == ("dark", "", "bright") * 2


@needs_cxr224
def test_real_chest_radiographs_load_small_with_patients_apart() -> None:
    sets = Sets(CXR224.parent)
    val, test = sets.chests("val"), sets.chests("test")
    assert (len(val), len(test), val.images.shape[1:]) == (584, 775, (3, 64, 64))
    assert not set(val.patients) & set(test.patients) and all(val.patients)
    chroma = val.images.amax(1).int() - val.images.amin(1).int()
    assert int(chroma.max()) <= 1
    assert set(val.labels) == set(CHEST_LABELS) and set(val.splits) == {"val"}


@needs_mednist64
@needs_pbc64
def test_the_foundation_learns_of_cells_and_five_kinds_of_image() -> None:
    sets = Sets(CXR224.parent)
    kinds, cells = sets.kinds("val"), sets.cells("val", without=("basophil", "platelet"))
    both = joined(kinds, cells)
    assert len(kinds) == 1500 and len(both) == len(kinds) + len(cells)
    assert len(set(cells.labels)) == 6 and not {"basophil", "platelet"} & set(cells.labels)
    told = {text for captions in both.captions for text in captions}
    assert not [text for text in told if "chest" in text and "x-ray" in text]
    assert not [text for text in told if "BNE" in text or "cream" in text]
    assert set(sets.cells("val", only=("basophil",)).labels) == {"basophil"}


def test_a_grey_image_stays_grey() -> None:
    grey = np.repeat(np.arange(100, dtype=np.uint8).reshape(10, 10)[..., None], 3, 2)
    made = square(np.asarray(Image.fromarray(grey).resize((30, 20))), 8)
    assert (made[..., 0] == made[..., 1]).all() and encoded(Image.fromarray(made))
