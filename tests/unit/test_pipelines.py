"""A loaded generator draws the same picture for the same request, whatever it is batched with."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest

from tests.tiny import save_generator
from vouch.errors import Cancelled, InvalidInput
from vouch.pipelines import Generator, load_generator


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    return load_generator(save_generator(tmp_path_factory.mktemp("generator"), seed=0))


def test_an_image_does_not_depend_on_its_batch_mates(generator: Generator) -> None:
    alone = generator.generate(["monocyte"], [7], 4, 2.0)[0]
    among = generator.generate(["neutrophil", "monocyte", "basophil"], [1, 7, 9], 4, 2.0)[1]
    assert np.abs(alone.astype(int) - among).max() <= 1


def test_it_draws_what_plain_diffusers_draws(tmp_path: Path) -> None:
    import torch
    from diffusers import StableDiffusionPipeline

    folder = save_generator(tmp_path / "generator", seed=1)
    pipe = StableDiffusionPipeline.from_pretrained(str(folder))
    theirs = pipe(
        "monocyte",
        num_inference_steps=4,
        guidance_scale=2.0,
        generator=torch.Generator().manual_seed(7),
        output_type="np",
    ).images[0]
    ours = load_generator(folder).generate(["monocyte"], [7], 4, 2.0)[0]
    assert np.abs(ours.astype(int) - (theirs * 255).round()).max() <= 1


def test_a_step_that_says_no_stops_the_drawing(generator: Generator) -> None:
    seen: list[int] = []

    def stop_after_two(step: int, total: int) -> bool:
        seen.append(step)
        return step < 2

    with pytest.raises(Cancelled):
        generator.generate(["monocyte"], [0], 10, 1.0, stop_after_two)
    assert seen == [1, 2]


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"no model_index\.json"):
        load_generator(tmp_path)


def test_a_generator_is_freed_without_waiting_for_the_garbage_collector(tmp_path: Path) -> None:
    generator = load_generator(save_generator(tmp_path / "generator", seed=2))
    generator.encode("monocyte"), generator.trajectory(3)
    gone = weakref.ref(generator)
    gc.disable()
    try:
        del generator
        assert gone() is None
    finally:
        gc.enable()
