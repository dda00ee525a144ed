"""A loaded generator draws the same picture for the same request, whatever it is batched with."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest

from tests.tiny import save_generator
from vouch.errors import Cancelled, InvalidInput
from vouch.models.pipelines import Generator, adapt, load_generator


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


def lora(folder: Path, base: Path, seed: int) -> Path:
    """An adapter of every attention of the base, with random weights."""
    import torch
    from diffusers import StableDiffusionPipeline
    from peft import LoraConfig, get_peft_model_state_dict

    torch.manual_seed(seed)
    pipe = StableDiffusionPipeline.from_pretrained(str(base))
    pipe.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    StableDiffusionPipeline.save_lora_weights(str(folder), get_peft_model_state_dict(pipe.unet))
    return folder


def test_adapted_generators_share_what_their_adapters_leave_alone(tmp_path: Path) -> None:
    base_folder = save_generator(tmp_path / "base", seed=3)
    base = load_generator(base_folder)
    before = base.generate(["monocyte"], [7], 4, 2.0)
    ones = [adapt(base, lora(tmp_path / str(seed), base_folder, seed)) for seed in (1, 2)]
    weights = [dict(generator.pipe.unet.named_parameters()) for generator in (base, *ones)]
    changed = {name for name in weights[0] if len({at[name].data_ptr() for at in weights}) > 1}
    assert {name.split(".")[-2] for name in changed} == {"to_q", "to_v"}
    assert all(len({at[name].data_ptr() for at in weights}) == 3 for name in changed)
    assert ones[0].pipe.vae is ones[1].pipe.vae is base.pipe.vae
    drawn = [one.generate(["monocyte"], [7], 4, 2.0).astype(int) for one in ones]
    assert np.abs(drawn[0] - drawn[1]).max() > 1
    assert np.abs(drawn[0] - before).max() > 1
    assert (base.generate(["monocyte"], [7], 4, 2.0) == before).all()


def test_an_adapted_generator_draws_what_diffusers_draws_with_the_adapter(tmp_path: Path) -> None:
    import torch
    from diffusers import StableDiffusionPipeline

    base = save_generator(tmp_path / "base", seed=3)
    adapter = lora(tmp_path / "lora", base, 1)
    pipe = StableDiffusionPipeline.from_pretrained(str(base))
    pipe.load_lora_weights(str(adapter))
    theirs = pipe(
        "monocyte", num_inference_steps=4, guidance_scale=2.0,
        generator=torch.Generator().manual_seed(7), output_type="np",
    ).images[0]  # fmt: skip
    ours = load_generator(adapter, base).generate(["monocyte"], [7], 4, 2.0)[0]
    assert np.abs(ours.astype(int) - (theirs * 255).round()).max() <= 1


def test_the_base_is_let_go_with_the_last_version_that_adapts_it(tmp_path: Path) -> None:
    folder = save_generator(tmp_path / "base", seed=3)
    base = load_generator(folder)
    one = adapt(base, lora(tmp_path / "lora", folder, 1))
    gone = weakref.ref(base)
    del base
    assert gone() is not None
    del one
    gc.collect()  # PEFT leaves circles in the modules
    assert gone() is None
