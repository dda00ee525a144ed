"""The miniature foundation model: what it reads, how it spells, and that its training goes on where it stopped."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from benchmarks.adaptation import base
from benchmarks.adaptation.sets import Sets, without_repeats
from tests.image_files import write_parquet
from tests.real import MEDNIST64, needs_mednist64
from training.adaptation.data import CaptionedSet
from training.adaptation.duplicates import near_pairs, thumbnail
from training.pretraining.tokens import START, train_open_tokenizer
from vouch.errors import FailedPrecondition
from vouch.models.pipelines import load_generator

SENTENCES = ("x-ray of the hand, dark", "a photo of a neutrophil", "stained blood smear, platelet") * 3
CELLS = ("basophil", "neutrophil", "platelet")
KINDS = ("x-ray of the hand", "computed tomography of the chest")
SMALL = {
    "size": 16, "vae_channels": (16, 16), "latent_channels": 4, "vae_crop": 16, "vae_steps": 2, "vae_batch": 4,
    "vae_features": None, "batch": 4, "channels": (32, 32), "text_width": 16, "text_layers": 1, "steps": 4,
    "ema": (0.9,), "validated": 4, "warmup": 0, "precision": "float32", "threads": 1, "checkpoint_every": 2,
}  # fmt: skip


def write_split(path: Path, labels: tuple[str, ...], seed: int) -> None:
    """Two images of noise for each label."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng, every = np.random.default_rng(seed), labels * 2
    rows = [{"bytes": _png(rng), "path": f"{path.stem}-{n}.png"} for n in range(len(every))]
    write_parquet(path, {"image": rows, "label": list(every)})


def _png(rng: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for number, split in enumerate(("train", "val", "test")):
        write_split(tmp_path / "data" / "pbc64" / f"{split}.parquet", CELLS, number)
        write_split(tmp_path / "data" / "mednist64" / f"{split}.parquet", KINDS, 10 + number)
    return tmp_path / "data"


def set_of(images: np.ndarray) -> CaptionedSet:
    names = tuple(map(str, range(len(images))))
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    return CaptionedSet(
        pixels, tuple((n,) for n in names), names, ("",) * len(names), ("train",) * len(names), names, names
    )


def test_any_text_is_spelled_and_what_is_frequent_is_one_token() -> None:
    tokenizer = train_open_tokenizer(SENTENCES, 700)
    assert tokenizer.tokenize("X-RAY of the hand") == [
        "x</w>",
        "-</w>",
        "ray</w>",
        "of</w>",
        "the</w>",
        "hand</w>",
    ]
    for text in ("pneumothorax", "≥ 3 mm", "Übersichtsaufnahme", "胸部"):
        tokens = tokenizer.tokenize(text)
        assert len(tokens) > 1 and tokenizer.unk_token not in tokens
        assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text.lower()
    assert tokenizer.model_max_length == 77 and tokenizer("").input_ids[0] == tokenizer.convert_tokens_to_ids(
        START
    )


def test_the_same_sentences_make_the_same_tokens_in_any_order() -> None:
    one, other = train_open_tokenizer(SENTENCES, 700), train_open_tokenizer(SENTENCES[::-1], 700)
    assert one.get_vocab() == other.get_vocab()


def test_images_that_nearly_repeat_one_of_another_split_are_left_out() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 200, (6, 32, 32, 3), np.uint8)
    val = np.concatenate([images[2:3] + 20, rng.integers(0, 200, (3, 32, 32, 3), np.uint8)])
    kept = without_repeats(set_of(images), (set_of(val),))
    assert kept.keys == ("0", "1", "3", "4", "5")


@pytest.mark.slow
@needs_mednist64
def test_no_radiological_image_that_teaches_nearly_repeats_one_that_validates() -> None:
    sets = Sets(MEDNIST64.parent)
    train, val = sets.kinds("train"), sets.kinds("val")
    kept = without_repeats(train, (val, sets.kinds("test")))
    assert len(train) * 0.5 < len(kept) < len(train)
    both = [thumbnail(array) for one in (kept, val) for array in one.arrays]
    assert not any(min(pair) < len(kept) <= max(pair) for pair in near_pairs(both))


def test_the_model_is_a_plain_folder_that_takes_any_prompt(data: Path, tmp_path: Path) -> None:
    figures = base.train(data, tmp_path / "out", tmp_path / "run", ("basophil",), SMALL)
    assert figures["unet_steps"] == 4 and figures["images"] == 8  # two labels of cells, two kinds
    pipe = StableDiffusionPipeline.from_pretrained(tmp_path / "out")
    assert len(pipe.tokenizer) == pipe.text_encoder.config.vocab_size
    generator = load_generator(tmp_path / "out")
    assert generator.vocabulary is None
    drawn = generator.generate(["chest x-ray without effusion"], [0], 2, 2.0)
    assert drawn.shape == (1, 16, 16, 3)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Never seen: basophil" in card and "CC BY-SA" in card


def test_cells_that_are_left_out_are_in_no_caption(data: Path) -> None:
    images = base.BaseData.load(Sets(data, 16), ("basophil",))
    words = [text for one in (images.train, images.val) for texts in one.captions for text in texts]
    assert words and not any("basophil" in text for text in words)
    assert any("x-ray" in text for text in words)


def test_a_training_that_stopped_goes_on_to_the_same_weights(data: Path, tmp_path: Path) -> None:
    base.train(data, tmp_path / "whole", tmp_path / "run", (), SMALL)
    for lost in (tmp_path / "run" / "unet").glob("step-*4"):
        shutil.rmtree(lost)
    base.train(data, tmp_path / "resumed", tmp_path / "run", (), SMALL)
    assert _unet(tmp_path / "resumed") == _unet(tmp_path / "whole")


def _unet(folder: Path) -> bytes:
    return (folder / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()


def test_a_run_does_not_go_on_with_other_images(data: Path, tmp_path: Path) -> None:
    base.train(data, tmp_path / "out", tmp_path / "run", (), SMALL)
    with pytest.raises(FailedPrecondition, match="other images or captions"):
        base.train(data, tmp_path / "out", tmp_path / "run", ("basophil",), SMALL)


@pytest.mark.parametrize(("name", "value"), [("channels", (16, 32)), ("text_width", 32), ("seed", 1)])
def test_settings_reach_the_training(data: Path, tmp_path: Path, name: str, value: Any) -> None:
    config = base.settings_of(data, tmp_path, {**SMALL, name: value})
    assert getattr(config, name) == value
    assert config.symmetric is False and config.out == tmp_path
