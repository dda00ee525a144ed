"""Real images are judged under prompts of the drawings' own form."""

from __future__ import annotations

import pytest
import torch

from tests.tiny import VOCABULARY
from training.data.examples import Examples
from training.evaluation.forms import prompts_of_form
from vouch.errors import InvalidInput

FULL = {"cell_size": "big", "nucleus_shape": "unsegmented-round"}


def cells(attributes: dict[str, str], count: int = 40) -> Examples:
    images = torch.zeros(count, 3, 2, 2, dtype=torch.uint8)
    return Examples(images, ("monocyte",) * count, (attributes,) * count, ({},) * count, "digest")


def test_bare_prompts_are_answered_by_bare_ones() -> None:
    assert set(prompts_of_form(["monocyte", "neutrophil"], cells(FULL), VOCABULARY)) == {"monocyte"}


def test_a_real_image_is_asked_for_the_same_attributes_by_its_own_values() -> None:
    asked = ["monocyte, cell size small, nucleus shape segmented-bilobed"]
    found = set(prompts_of_form(asked, cells(FULL), VOCABULARY))
    assert found == {"monocyte, cell size big, nucleus shape unsegmented-round"}


def test_sampled_captions_are_sampled_for_real_images_as_often() -> None:
    asked = ["monocyte"] * 3 + ["monocyte, cell size small"]
    found = prompts_of_form(asked, cells(FULL, 400), VOCABULARY)
    assert found.count("monocyte") / 400 == pytest.approx(0.75, abs=0.08)
    assert set(found) == {"monocyte", "monocyte, cell size big"}


def test_what_nobody_annotated_is_not_asked_for() -> None:
    found = prompts_of_form(["monocyte, cell size small"], cells({}), VOCABULARY)
    assert set(found) == {"monocyte"}


def test_a_class_of_which_nothing_was_drawn_is_asked_for_by_its_name() -> None:
    assert set(prompts_of_form(["neutrophil, cell size big"], cells(FULL), VOCABULARY)) == {"monocyte"}


def test_a_prompt_outside_the_vocabulary_is_refused() -> None:
    with pytest.raises(InvalidInput, match="unicorn"):
        prompts_of_form(["unicorn"], cells(FULL), VOCABULARY)
