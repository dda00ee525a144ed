"""Diversity within a prompt, on images whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.tiny import VOCABULARY
from training.data.examples import Examples
from training.evaluation.diversity import within_class
from training.evaluation.repeats import DISTANCE, ENOUGH, Beside, Repeated, SeedRepeats, changes, rows_of

PROMPTS = ("neutrophil", "neutrophil, cell size big", "monocyte")
REPEATED = tuple(prompt for prompt in PROMPTS for _ in range(4))


def noise(count: int, seed: int, size: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def collapsed() -> np.ndarray:
    """Of each prompt one picture, whatever the seed."""
    return np.repeat(noise(len(PROMPTS), 0), 4, axis=0)


def as_features(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float64) / 255


def cells(big: int = 6, size: int = 16) -> Examples:
    """Real neutrophils, some of them big, and monocytes of which nothing is known."""
    labels = ("neutrophil",) * 20 + ("monocyte",) * 5
    attributes = tuple(
        {"cell_size": "big" if row < big else "small"} if row < 20 else {} for row in range(25)
    )
    images = torch.from_numpy(noise(25, 7, size)).permute(0, 3, 1, 2)
    return Examples(images, labels, attributes, ({},) * 25, "digest")


def repeated(images: np.ndarray, real: Examples | None = None) -> Repeated:
    drawn = SeedRepeats(images, REPEATED)
    return Repeated(drawn, Beside.of(drawn, real or cells(), VOCABULARY))


def test_a_collapse_within_prompts_shows_where_classes_look_varied() -> None:
    images = collapsed()
    found, unseen = repeated(images), as_features(noise(25, 7))
    assert found.figures(as_features(images), unseen)[DISTANCE].value == pytest.approx(0, abs=1e-5)
    assert found.similarities()["pairwise SSIM within a prompt"].value == pytest.approx(1.0)
    labels = [prompt.partition(",")[0] for prompt in REPEATED]
    real = as_features(noise(25, 7))
    assert within_class(as_features(images), labels, real, cells().labels).value > 0.2


def test_images_as_different_as_real_ones_stand_beside_them_with_the_same_figures() -> None:
    images = noise(12, 3)
    found = repeated(images)
    told = found.similarities() | found.figures(as_features(images), as_features(noise(25, 7)))
    assert set(told) == {
        f"{real}{name}" for real in ("", "real ") for name in (DISTANCE, found.drawn.similarity_name)
    }
    for name in (DISTANCE, found.drawn.similarity_name):
        assert told[name].value == pytest.approx(
            told[f"real {name}"].value, abs=0.5 if name == DISTANCE else 0.05
        )
        assert told[name].low <= told[name].value <= told[name].high
    assert abs(told[found.drawn.similarity_name].value) < 0.1


@pytest.mark.parametrize(("size", "name"), [(64, "SSIM"), (175, "SSIM"), (176, "MS-SSIM")])
def test_five_scales_are_measured_where_images_are_large_enough(size: int, name: str) -> None:
    same = np.repeat(noise(1, 0, size), 2, axis=0)
    found = SeedRepeats(np.concatenate([same, noise(2, 1, size)]), ("neutrophil",) * 2 + ("monocyte",) * 2)
    assert found.similarity_name == f"pairwise {name} within a prompt"
    assert found.similarity["neutrophil"] == pytest.approx(1.0, abs=1e-5)
    assert found.similarity["monocyte"] < 0.3


def test_a_prompt_of_one_image_has_no_pairs() -> None:
    assert set(SeedRepeats(noise(3, 0), ("neutrophil", "neutrophil", "monocyte")).similarity) == {
        "neutrophil"
    }


@pytest.mark.parametrize("big", [ENOUGH, ENOUGH - 1])
def test_real_images_share_the_attributes_where_enough_of_them_do_and_else_the_class(big: int) -> None:
    found = repeated(noise(12, 3), cells(big))
    rows = [row for row, prompt in zip(found.real.rows, found.real.prompts, strict=True) if "big" in prompt]
    assert ("neutrophil, cell size big" in found.real.alike) == (big >= ENOUGH)
    assert {row < big for row in rows} == ({True} if big >= ENOUGH else {True, False})
    assert f"Beside {3 if big >= ENOUGH else 2} of the prompts" in found.note


def test_real_images_beside_are_of_the_class_and_in_the_size_of_what_was_drawn() -> None:
    found = repeated(noise(12, 3), cells(size=32))
    assert found.real.images.shape[1:] == (16, 16, 3)
    assert all(
        cells().labels[row] == prompt.partition(",")[0]
        for row, prompt in zip(found.real.rows, found.real.prompts, strict=True)
    )
    assert rows_of(VOCABULARY.parse("monocyte, cell size big"), cells()) == []


def test_changes_are_paired_by_prompt() -> None:
    varied, same = repeated(noise(12, 3)), repeated(collapsed())
    features = as_features(noise(12, 3)), as_features(collapsed())
    gain = changes(varied, same, features)
    assert gain[DISTANCE].low > 0 and gain["pairwise SSIM within a prompt"].high < 0
    nothing = changes(varied, varied, (features[0], features[0]))
    assert all((one.value, one.low, one.high) == (0, 0, 0) for one in nothing.values())
