"""What the engine draws, against diffusers' own pipeline: one grey level at most, whoever shares the batch."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
)

from services.generation.engine import Engine
from services.generation.slots import ImageRequest
from tests.inbox import Inbox
from tests.tiny import save_generator
from vouch.pipelines import Generator, load_pipeline

SAMPLERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ddim": (DDIMScheduler, {"clip_sample": False}),
    "euler": (EulerDiscreteScheduler, {}),
    "dpm": (DPMSolverMultistepScheduler, {}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_generator(tmp_path_factory.mktemp("generator"), seed=0)


def generator(folder: Path, sampler: str, prediction: str) -> Generator:
    pipe = load_pipeline(folder)
    kind, config = SAMPLERS[sampler]
    pipe.scheduler = kind(beta_schedule="scaled_linear", prediction_type=prediction, **config)
    return Generator(pipe, None, 10, 2.0)


@pytest.fixture
def engine():
    engine = Engine(max_batch=32, max_waiting=256, threads=1)
    yield engine
    engine.stop()


def drawn(engine: Engine, request: ImageRequest) -> np.ndarray:
    inbox = Inbox()
    engine.submit(request, inbox)
    return inbox.finished(1)[0].image.astype(int)


@pytest.mark.parametrize("guidance", [1.0, 2.5])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_image_is_the_one_of_diffusers(engine, folder, sampler, prediction, guidance):
    model = generator(folder, sampler, prediction)
    assert model.stepwise
    ours = drawn(engine, ImageRequest(model, "monocyte", (7,), 8, guidance))
    theirs = model.generate(["monocyte"], [7], 8, guidance)[0].astype(int)
    assert theirs.std() > 1  # a flat image would agree with anything
    assert np.abs(ours - theirs).max() <= 1


def test_an_image_does_not_mind_mates_that_join_and_leave_nor_a_swap(engine, folder):
    models = [generator(folder, "ddim", "v_prediction"), generator(folder, "dpm", "epsilon")]
    alone = drawn(engine, ImageRequest(models[0], "monocyte", (7,), 12, 2.5))
    chance, crowd, watched = random.Random(0), Inbox(), Inbox()
    for number in range(31):
        if number == 15:
            engine.submit(ImageRequest(models[0], "monocyte", (7,), 12, 2.5), watched)
        mate = ImageRequest(
            models[number > 20],  # from here on another version serves
            chance.choice(["neutrophil", "basophil"]),
            (number,),
            chance.choice([2, 5, 9, 14]),
            chance.choice([1.0, 3.0]),
            client=str(number % 4),
        )
        engine.submit(mate, crowd)
    among = watched.finished(1)[0]
    assert among.batch > 2
    assert np.abs(among.image.astype(int) - alone).max() <= 1
    assert len(crowd.finished(31)) == 31


def test_a_scheduler_without_a_table_is_drawn_whole_and_says_why(engine, folder):
    pipe = load_pipeline(folder)
    pipe.scheduler = EulerAncestralDiscreteScheduler()
    model = Generator(pipe, None, 10, 2.0)
    assert not model.stepwise
    assert "EulerAncestralDiscreteScheduler" in model.whole_because
    assert drawn(engine, ImageRequest(model, "monocyte", (7,), 3, 2.0)).shape == (32, 32, 3)
