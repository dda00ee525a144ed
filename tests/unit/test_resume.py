"""A training that was killed at any moment goes on to what one that was left alone comes to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from diffusers import AutoencoderKL

from tests.tiny import SIZE, VOCABULARY, save_generator
from training.attributes import fit as attributes
from training.attributes.config import AttributesConfig
from training.loop.progress import TrainingProgress
from training.loop.session import TrainingSession
from training.pretraining import decoder
from training.pretraining.config import DecoderConfig, PretrainConfig
from training.pretraining.fit import fit as pretrain
from training.pretraining.tokens import train_tokenizer
from vouch.errors import Cancelled
from vouch.formats import images as codec

Figures = dict[str, Any]


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled noise."""
    rng, path = np.random.default_rng(0), tmp_path_factory.mktemp("cells") / "cells.parquet"
    rows = [
        {
            "image": codec.encode_png(rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)),
            "label": VOCABULARY.labels[number % len(VOCABULARY.labels)],
            "cell_size": "big" if number % 2 else "small",
        }
        for number in range(40)
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


class Killer:
    """Lets a run go on to its first word with `message` at `step` or later, and kills it there."""

    def __init__(self, message: str, step: int) -> None:
        self.message, self.step = message, step

    def __call__(self, progress: TrainingProgress) -> bool:
        return not (progress.message.startswith(self.message) and progress.step >= self.step)


def killed_and_resumed(fit: Callable[[TrainingSession], Figures], folder: Path, *killers: Killer) -> Figures:
    """The figures of a run that is killed by each of `killers` in turn, then left alone."""
    for killer in killers:
        with pytest.raises(Cancelled):
            fit(TrainingSession(folder, killer, every_s=0))
    return timeless(fit(TrainingSession(folder, every_s=0)))


def timeless(figures: Figures) -> Figures:
    """Without the seconds that things took."""
    return {name: value for name, value in figures.items() if "seconds" not in name}


def files(folder: Path) -> dict[str, Any]:
    """Everything in it, but where its parts were loaded from."""
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {
        name: settings(path) if path.suffix == ".json" else path.read_bytes() for name, path in found.items()
    }


def settings(path: Path) -> Any:
    """A tokenizer also writes down whether it was ever asked to pad, which no caller relies on."""
    told = json.loads(path.read_text())
    return {
        key: value for key, value in told.items() if key not in ("_name_or_path", "padding", "truncation")
    }


def test_the_same_words_have_the_same_numbers_whenever_a_tokenizer_is_learned() -> None:
    """Else a resumed run, or another worker, would read its captions as other words."""
    told = {json.dumps(train_tokenizer(VOCABULARY).get_vocab(), sort_keys=True) for _ in range(8)}
    assert len(told) == 1


# --- pre-training --------------------------------------------------------------------------------------------


def pretraining(cells: Path, out: Path) -> PretrainConfig:
    return PretrainConfig(
        data=cells, held_out=cells, out=out, threads=1, precision="float32", vae_steps=7, vae_batch=4, vae_crop=16,
        vae_channels=(16, 16), views=2, steps=7, batch=4, channels=(32, 32), text_width=16, text_layers=1, warmup=2,
        checkpoint_every=2, validate_every=3, validated=8, grid_every=1000,
    )  # fmt: skip


@pytest.fixture(scope="module")
def pretrained(cells: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Figures]:
    """What a run that was left alone comes to."""
    root = tmp_path_factory.mktemp("whole")
    figures = pretrain(pretraining(cells, root / "out"), TrainingSession(root / "run"))
    return files(root / "out"), timeless(figures)


@pytest.mark.parametrize(
    "killers",
    [
        [Killer("autoencoder", 4)],
        [Killer("autoencoder", 7)],
        [Killer("encoding", 40)],
        [Killer("U-Net", 5)],
        [Killer("U-Net", 7)],
        [Killer("autoencoder", 3), Killer("encoding", 0), Killer("U-Net", 3), Killer("U-Net", 6)],
    ],
    ids=lambda killers: " ".join(f"{killer.message} {killer.step}" for killer in killers),
)
def test_pretraining_that_was_killed_in_any_phase_goes_on_to_the_same_generator(
    cells: Path, pretrained: tuple[dict[str, Any], Figures], tmp_path: Path, killers: list[Killer]
) -> None:
    config = pretraining(cells, tmp_path / "out")
    figures = killed_and_resumed(lambda session: pretrain(config, session), tmp_path / "run", *killers)
    assert (files(tmp_path / "out"), figures) == pretrained


def test_a_generator_can_be_built_upon_an_autoencoder_that_is_given(cells: Path, tmp_path: Path) -> None:
    """Its latents may have other channels than the recipe's, and what it decodes stays the same."""
    given = AutoencoderKL.from_pretrained(str(save_generator(tmp_path / "given", 3) / "vae"))
    config = pretraining(cells, tmp_path / "out").model_copy(
        update={"vae": tmp_path / "given" / "vae", "latent_channels": 8, "steps": 1}
    )
    figures = pretrain(config, TrainingSession(tmp_path / "run"))
    made = AutoencoderKL.from_pretrained(str(tmp_path / "out" / "vae"), torch_dtype=torch.float32)
    images = torch.rand(1, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        before, after = (vae.decode(vae.encode(images).latent_dist.mode()).sample for vae in (given, made))
    assert torch.allclose(before, after, atol=2e-2) and "vae_steps" not in figures
    assert made.config.latent_channels == 4


def test_pretraining_that_was_killed_after_its_last_step_has_the_same_figures(
    cells: Path, pretrained: tuple[dict[str, Any], Figures], tmp_path: Path
) -> None:
    """As where the process ends between the files and the news of them."""
    config = pretraining(cells, tmp_path / "out")
    pretrain(config, TrainingSession(tmp_path / "run"))
    figures = timeless(pretrain(config, TrainingSession(tmp_path / "run")))
    assert (files(tmp_path / "out"), figures) == pretrained


# --- the attribute network -----------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 4, 5, 9])
def test_an_attribute_network_that_was_killed_goes_on_to_the_same_weights(
    cells: Path, tmp_path: Path, step: int
) -> None:
    def config(name: str) -> AttributesConfig:
        return AttributesConfig(
            data=cells, out=tmp_path / name, split="teach", threads=1, size=SIZE, widths=(8, 16), steps=9,
            batch=8, checkpoint_every=2,
        )  # fmt: skip

    whole = timeless(attributes.fit(config("whole"), TrainingSession(tmp_path / "whole-run")))
    broken = killed_and_resumed(
        lambda session: attributes.fit(config("broken"), session),
        tmp_path / "broken-run",
        Killer("attribute", step),
    )
    assert broken == whole
    assert files(tmp_path / "broken") == files(tmp_path / "whole")


# --- the decoder ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def critic(cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("critic")
    config = AttributesConfig(
        data=cells, out=root / "net", split="all", threads=1, size=SIZE, widths=(8, 16), steps=1, batch=4
    )
    attributes.fit(config, TrainingSession(root / "run"))
    return root / "net"


def sharpening(folder: Path, cells: Path, critic: Path) -> DecoderConfig:
    return DecoderConfig(
        generator=folder,
        features=critic,
        data=cells,
        threads=1,
        steps=7,
        batch=4,
        crop=16,
        adversarial_after=2,
        drawn=3,
        checkpoint_every=2,
        precision="float32",
    )


@pytest.fixture(scope="module")
def sharpened(
    cells: Path, critic: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Figures]:
    root = tmp_path_factory.mktemp("sharpened")
    config = sharpening(save_generator(root / "generator", seed=0), cells, critic)
    figures = decoder.fit(config, TrainingSession(root / "run"))
    return files(root / "generator"), timeless(figures)


@pytest.mark.parametrize("step", [1, 4, 5, 7])
def test_a_decoder_that_was_killed_goes_on_to_the_same_weights(
    cells: Path, critic: Path, sharpened: tuple[dict[str, Any], Figures], tmp_path: Path, step: int
) -> None:
    config = sharpening(save_generator(tmp_path / "generator", seed=0), cells, critic)
    figures = killed_and_resumed(
        lambda session: decoder.fit(config, session), tmp_path / "run", Killer("decoder", step)
    )
    assert (files(tmp_path / "generator"), figures) == sharpened


def test_a_decoder_that_was_replaced_already_is_not_sharpened_again(
    cells: Path, critic: Path, sharpened: tuple[dict[str, Any], Figures], tmp_path: Path
) -> None:
    """The process may end between the files and the news of them: they stand where training began."""
    config = sharpening(save_generator(tmp_path / "generator", seed=0), cells, critic)
    decoder.fit(config, TrainingSession(tmp_path / "run"))
    figures = timeless(decoder.fit(config, TrainingSession(tmp_path / "run")))
    assert (files(tmp_path / "generator"), figures) == sharpened
