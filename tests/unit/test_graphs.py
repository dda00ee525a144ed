"""The U-Net on a GPU. Without one, only what needs none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from services.generation.engine import Engine
from services.generation.kernel_cache import KernelCache
from tests.inbox import Inbox
from tests.requests import image_request
from tests.tiny import save_generator
from vouch.models.graphs import SIZES, size_for
from vouch.models.kernels import Eager
from vouch.models.pipelines import Generator, load_generator

TOLERANCE = 1e-4
"""Without TF32: with it, an H200 differed by more than 1e-3 for 66 rows, which go in two calls of other sizes."""
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU with CUDA")


@pytest.mark.parametrize(("rows", "size"), [(1, 1), (2, 2), (3, 4), (33, 64), (64, 64)])
def test_a_call_takes_the_next_larger_graph(rows, size):
    assert size_for(rows) == size


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_generator(tmp_path_factory.mktemp("generator") / "0", 0)


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products and convolutions in single precision, whatever algorithm a size takes."""
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture
def generator(exact: None, folder: Path) -> Generator:
    generator = load_generator(folder, device="cuda")
    KernelCache(None, device="cuda").attach(generator)
    return generator


@needs_gpu
@pytest.mark.parametrize("rows", [1, 3, 8, SIZES[-1] + 2])
def test_graphs_say_what_the_eager_network_says(generator, rows):
    assert "CUDA graphs" in generator.kernel
    config, random = generator.pipe.unet.config, torch.Generator().manual_seed(rows)
    x = torch.randn(rows, config.in_channels, config.sample_size, config.sample_size, generator=random)
    prompts = torch.cat([generator.encode("monocyte")] * rows)
    inputs = x, torch.linspace(1, 900, rows), prompts
    for _ in range(2):  # the second replays what the first has captured
        output = generator.predict(*inputs)
        assert torch.allclose(output, Eager(generator.pipe.unet)(*inputs), atol=TOLERANCE)
        inputs = x.flip(0), *inputs[1:]


@needs_gpu
@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_an_image_of_the_gpu_is_the_one_of_the_cpu(generator, folder, guidance):
    engine, inbox = Engine(), Inbox()
    engine.submit(*image_request(generator, "monocyte", (7, 8, 9), 8, guidance), inbox)
    ours = {done.index: done.image.astype(int) for done in inbox.finished(3)}
    engine.stop()
    theirs = load_generator(folder).generate(["monocyte"] * 3, (7, 8, 9), 8, guidance).astype(int)
    assert all(np.abs(ours[place] - theirs[place]).max() <= 1 for place in range(3))
