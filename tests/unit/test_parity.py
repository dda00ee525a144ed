"""What the engine draws, against diffusers' own pipeline: one grey level at most, whoever shares the batch."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
)

from services.generation.engine import Engine
from services.generation.slots import Preview
from tests.inbox import Inbox
from tests.requests import image_request
from tests.tiny import save_generator
from vouch.errors import InvalidInput
from vouch.models.loading import load_pipeline
from vouch.models.pipelines import Generator
from vouch.types.generation import GenerationRequest

SCHEDULERS = {
    "ddim": DDIMScheduler,
    "euler": EulerDiscreteScheduler,
    "dpm++2m": DPMSolverMultistepScheduler,
}
SAMPLERS: dict[str, tuple[Any, dict[str, Any]]] = {
    name: (kind, {"clip_sample": False} if name == "ddim" else {}) for name, kind in SCHEDULERS.items()
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_generator(tmp_path_factory.mktemp("generator"), seed=0)


def generator(folder: Path, sampler: str, prediction: str) -> Generator:
    pipe = load_pipeline(folder)
    kind, config = SAMPLERS[sampler]
    pipe.scheduler = kind(beta_schedule="scaled_linear", prediction_type=prediction, **config)
    return Generator(pipe, None, 10, 2.0)


@pytest.fixture(params=[64])
def engine(request):
    """It has room for 32 images in a step, guided ones too, unless told otherwise."""
    engine = Engine(max_batch=32, step_rows=request.param, max_waiting=256, threads=1)
    yield engine
    engine.stop()


def drawn(engine: Engine, request: tuple[Any, GenerationRequest]) -> np.ndarray:
    inbox = Inbox()
    engine.submit(*request, inbox)
    return inbox.finished(1)[0].image.astype(int)


@pytest.mark.parametrize("guidance", [1.0, 2.5])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_image_is_the_one_of_diffusers(engine, folder, sampler, prediction, guidance):
    model = generator(folder, sampler, prediction)
    assert model.stepwise
    ours = drawn(engine, image_request(model, "monocyte", (7,), 8, guidance))
    theirs = model.generate(["monocyte"], [7], 8, guidance)[0].astype(int)
    assert theirs.std() > 1  # a flat image would agree with anything
    assert np.abs(ours - theirs).max() <= 1


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_request_may_choose_another_sampler_than_the_models_own(engine, folder, sampler):
    model = generator(folder, "ddim" if sampler == "euler" else "euler", "v_prediction")
    ours = drawn(engine, image_request(model, "monocyte", (7,), 8, 2.5, sampler=sampler))
    model.pipe.scheduler = SCHEDULERS[sampler].from_config(model.pipe.scheduler.config, clip_sample=False)
    theirs = model.generate(["monocyte"], [7], 8, 2.5)[0].astype(int)
    assert np.abs(ours - theirs).max() <= 1


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_ddim_adds_the_noise_that_diffusers_adds(engine, folder, eta):
    model = generator(folder, "ddim", "v_prediction")
    ours = drawn(engine, image_request(model, "monocyte", (7,), 8, 2.5, eta=eta))
    plain = drawn(engine, image_request(model, "monocyte", (7,), 8, 2.5))
    theirs = model.pipe(
        "monocyte", num_inference_steps=8, guidance_scale=2.5, eta=eta,
        generator=torch.Generator().manual_seed(7), output_type="np",
    )  # fmt: skip
    assert np.abs(ours - (theirs.images[0] * 255).round()).max() <= 1
    assert np.abs(ours - plain).max() > 1


def test_samplers_that_a_model_cannot_walk_are_refused(folder):
    model = generator(folder, "euler", "epsilon")
    for sampler, eta, complaint in (
        ("heun", 0.0, "choose one of ddim, euler, dpm"),
        ("", 0.5, "only the sampler ddim takes one, and this is euler"),
        ("dpm++2m", 0.5, "only the sampler ddim"),
    ):
        with pytest.raises(InvalidInput, match=complaint):
            model.check_sampler(sampler, eta)
    model.check_sampler("ddim", 0.5)
    assert model.samplers == ("ddim", "euler", "dpm++2m")


def test_a_preview_is_the_clean_image_that_the_network_predicts(engine, folder):
    model, inbox = generator(folder, "ddim", "v_prediction"), Inbox()
    engine.submit(*image_request(model, "monocyte", (7,), 8, 2.5, preview_every=3), inbox)
    final = inbox.finished(1)[0].image.astype(int)
    previews = [event for event in inbox.events if isinstance(event, Preview)]
    assert [(one.index, one.total) for one in previews] == [(0, 8)] * 2
    assert previews[0].step == 3
    assert previews[1].step in (6, 7)  # later while the first was still being made
    far = [np.abs(one.image.astype(int) - final).mean() for one in previews]
    assert far[0] > far[1]


@pytest.mark.parametrize("engine", [64, 3], indirect=True, ids=["all at once", "in turns"])
def test_an_image_does_not_mind_mates_that_join_and_leave_nor_a_swap(engine, folder):
    models = [generator(folder, "ddim", "v_prediction"), generator(folder, "dpm++2m", "epsilon")]
    alone = drawn(engine, image_request(models[0], "monocyte", (7,), 12, 2.5))
    chance, crowd, watched = random.Random(0), Inbox(), Inbox()
    for number in range(31):
        if number == 15:
            engine.submit(*image_request(models[0], "monocyte", (7,), 12, 2.5), watched)
        mate = image_request(
            models[number > 20],  # from here on another version serves
            chance.choice(["neutrophil", "basophil"]),
            (number,),
            chance.choice([2, 5, 9, 14]),
            chance.choice([1.0, 3.0]),
            client=str(number % 4),
        )
        engine.submit(*mate, crowd)
    among = watched.finished(1)[0]
    assert among.batch > 2
    assert np.abs(among.image.astype(int) - alone).max() <= 1
    assert len(crowd.finished(31)) == 31


def test_a_scheduler_without_a_table_is_drawn_whole_and_says_why(engine, folder):
    pipe = load_pipeline(folder)
    pipe.scheduler = EulerAncestralDiscreteScheduler()
    model = Generator(pipe, None, 10, 2.0)
    assert not model.stepwise
    assert "EulerAncestralDiscreteScheduler" in model.fallback_reason
    assert model.samplers == ()
    with pytest.raises(InvalidInput, match="Leave sampler and eta out"):
        model.check_sampler("ddim", 0.0)
    assert drawn(engine, image_request(model, "monocyte", (7,), 3, 2.0)).shape == (32, 32, 3)
