"""Compiled U-Nets: as true as eager ones, for every version of an architecture, and never in the way."""

from __future__ import annotations

import subprocess
from pathlib import Path
from shutil import which

import numpy as np
import pytest
import torch

from services.generation.engine import Engine
from services.generation.kernel_cache import KernelCache
from tests.inbox import Inbox
from tests.requests import image_request
from tests.tiny import save_generator
from vouch.models import compiling
from vouch.models.kernels import BUCKETS, MOST, Architecture, Compiled, Eager
from vouch.models.pipelines import Generator, load_generator

needs_compiler = pytest.mark.skipif(
    not any(map(which, compiling.COMPILERS)), reason=f"compiles C++: needs one of {compiling.COMPILERS}"
)


@pytest.fixture(scope="module")
def generators(tmp_path_factory: pytest.TempPathFactory) -> list[Generator]:
    """Two versions of one architecture."""
    folder = tmp_path_factory.mktemp("generators")
    return [load_generator(save_generator(folder / str(seed), seed)) for seed in (0, 1)]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory, generators: list[Generator]) -> Path:
    """A folder of packages with the one of the tiny architecture, made as a replica makes it."""
    folder = tmp_path_factory.mktemp("packages")
    cache = KernelCache(folder)
    cache.attach(generators[0])
    assert "being made" in generators[0].kernel
    cache.wait(560)
    cache.stop()
    assert "being made" not in generators[0].kernel
    return folder


@needs_compiler
@pytest.mark.timeout(600)
@pytest.mark.parametrize("rows", [1, 2, 7, MOST, MOST + 1, 2 * MOST + 2])
@pytest.mark.parametrize("version", [0, 1])
def test_compiled_code_says_what_eager_code_says_for_every_version(generators, packages, version, rows):
    pipe = generators[version].pipe
    architecture = Architecture.of(pipe)
    inputs = architecture.inputs(rows)
    with torch.inference_mode():
        compiled = Compiled(pipe.unet, packages / architecture.key)(*inputs)
        assert torch.allclose(compiled, Eager(pipe.unet)(*inputs), atol=1e-4)


@needs_compiler
@pytest.mark.timeout(600)
@pytest.mark.parametrize("guidance", [1.0, 2.5])
@pytest.mark.parametrize("count", [1, 3])
def test_an_image_of_compiled_code_is_the_one_of_diffusers(generators, packages, count, guidance):
    generator = Generator(generators[0].pipe, None, 4, 2.0)
    generator.network = Compiled(generator.pipe.unet, packages / Architecture.of(generator.pipe).key)
    engine, inbox, seeds = Engine(threads=1), Inbox(), tuple(range(count))
    engine.submit(*image_request(generator, "monocyte", seeds, 8, guidance), inbox)
    ours = {done.index: done.image.astype(int) for done in inbox.finished(count)}
    engine.stop()
    theirs = generator.generate(["monocyte"] * count, seeds, 8, guidance)
    assert all(np.abs(ours[place] - theirs[place]).max() <= 1 for place in range(count))


@needs_compiler
@pytest.mark.timeout(600)
def test_code_that_is_there_is_used_at_once_and_says_what_it_is_worth(generators, packages):
    cache = KernelCache(packages)
    cache.attach(generators[1])
    cache.stop()
    assert "times as fast" in generators[1].kernel
    drawn = generators[1].generate(["monocyte"], [3], 4, 2.0)
    assert drawn.dtype == np.uint8


@needs_compiler
@pytest.mark.timeout(600)
def test_code_that_cannot_be_used_leaves_the_eager_way(generators, packages, tmp_path):
    broken = tmp_path / Architecture.of(generators[0].pipe).key
    broken.mkdir()
    for file in (packages / broken.name).iterdir():
        (broken / file.name).write_bytes(file.read_bytes() if file.suffix == ".json" else b"no package")
    cache = KernelCache(tmp_path)
    cache.attach(generators[0])
    cache.stop()
    assert "cannot be used" in generators[0].kernel
    assert isinstance(generators[0].network, Eager)


def test_without_a_compiler_everything_stays_eager(generators, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    generator = Generator(generators[0].pipe, None, 4, 2.0)
    cache = KernelCache(tmp_path / "packages")
    cache.attach(generator)
    cache.stop()
    assert generator.kernel == "eager in float32: there is no C++ compiler to do better"
    assert isinstance(generator.network, Eager)


def test_bfloat16_is_a_few_grey_levels_away(generators):
    generator = Generator(generators[0].pipe, None, 4, 2.0)
    engine, drawn = Engine(threads=1), []
    for precision in ("float32", "bfloat16"):
        generator.network, inbox = Eager(generator.pipe.unet, precision), Inbox()
        engine.submit(*image_request(generator, "monocyte", (3,), 8, 2.0), inbox)
        drawn.append(inbox.finished(1)[0].image.astype(int))
    engine.stop()
    far = np.abs(drawn[0] - drawn[1])
    assert 0 < far.max() <= 16
    assert far.mean() < 4


@pytest.mark.parametrize(("units", "words"), [(True, "eager in bfloat16"), (False, "no units for bfloat16")])
def test_bfloat16_is_used_where_the_processor_has_units_for_it(generators, monkeypatch, units, words):
    monkeypatch.setattr("services.generation.kernel_cache.has_bfloat16_units", lambda device: units)
    generator = Generator(generators[0].pipe, None, 4, 2.0)
    KernelCache(None, "bfloat16").attach(generator)
    assert words in generator.kernel


def test_a_place_where_nothing_can_be_written_leaves_the_eager_way(generators, tmp_path):
    (tmp_path / "file").write_text("in the way")
    generator = Generator(generators[0].pipe, None, 4, 2.0)
    cache = KernelCache(tmp_path / "file" / "packages")
    cache.attach(generator)
    cache.wait(60)
    cache.stop()
    assert "compiling failed" in generator.kernel
    assert isinstance(generator.network, Eager)


def test_code_that_others_may_have_written_is_not_loaded(generators, tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    generator = Generator(generators[0].pipe, None, 4, 2.0)
    cache = KernelCache(shared)
    cache.attach(generator)
    cache.stop()
    assert "others may write there" in generator.kernel
    assert list(shared.iterdir()) == []


def test_a_compilation_ends_with_whoever_started_it(generators, tmp_path):
    process = compiling.start(Architecture.of(generators[0].pipe), tmp_path / "packages" / "one")
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(120) != 0
    assert not (tmp_path / "packages" / "one").exists()


def test_a_stopped_cache_leaves_no_process_behind(generators, tmp_path):
    cache = KernelCache(tmp_path)
    cache.attach(Generator(generators[0].pipe, None, 4, 2.0))
    cache.stop()
    left = subprocess.run(
        ["pgrep", "-f", f"vouch.models.compiling {tmp_path}"], capture_output=True, check=False
    )
    assert left.stdout == b""


def test_another_architecture_has_another_key(generators):
    architecture = Architecture.of(generators[0].pipe)
    wider = Architecture({**architecture.config, "layers_per_block": 2}, architecture.prompt)
    other = Architecture(architecture.config, architecture.prompt, "bfloat16")
    assert len({architecture.key, wider.key, other.key}) == 3
    assert set(BUCKETS) == {"one", "many"}
