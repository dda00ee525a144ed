"""What a GPU gives the engine: CUDA graphs beside eager calls, and images per second, at several sizes of image.

    python -m benchmarks.gpu --json gpu.json [--sizes 64 128 256 512]

The U-Net and the autoencoder have the starter's shape and random weights: speed does not depend on them. No Ray, no
gRPC: `benchmarks.serving` measures these. Without a GPU it says so and ends.
"""

from __future__ import annotations

import queue
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.kernels import gflop
from benchmarks.report import Figure, Report, arguments
from services.generation.engine import Engine
from services.generation.kernel_cache import KernelCache
from training.pretraining.config import PretrainConfig
from training.pretraining.networks import Networks, build_vae
from vouch.models.captions import Vocabulary
from vouch.models.graphs import Graphed
from vouch.models.kernels import Architecture, Eager
from vouch.models.pipelines import Generator, load_generator
from vouch.types.generation import GenerationRequest

ROWS = (1, 8, 64)
SIZES = (64, 128, 256, 512)
REPEATS = 15
IMAGES, STEPS, GUIDANCE = 32, 20, 2.0
"""Of each measured request; guided, so that 32 images are 64 rows of a step."""
CELL = "neutrophil"


def main() -> None:
    parser = arguments("benchmarks.gpu", "The engine on a GPU.")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="sides of images, pixels")
    given = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("There is no GPU with CUDA here: nothing is measured.")
    report = Report("gpu")
    for size in given.sizes:
        with tempfile.TemporaryDirectory(prefix="vouch-gpu-") as folder:
            measure(report, random_generator(Path(folder), size), size)
    report.finish(given.json)


def random_generator(folder: Path, size: int) -> Generator:
    """A generator of the starter's shape for images of `size` pixels, on the GPU."""
    config = PretrainConfig(data=folder, out=folder / "generator")
    words = Vocabulary.of([CELL], [{}])
    Networks(config, words, build_vae(config, size).eval(), size // 4, "cpu").save(config)
    return load_generator(config.out, device="cuda")


@torch.inference_mode()
def measure(report: Report, generator: Generator, size: int) -> None:
    unet, architecture = generator.pipe.unet, Architecture.of(generator.pipe)
    operations = gflop(Eager(unet), architecture)
    report.add(f"gflop_per_row {size} px", Figure(operations, unit="GFLOP"))
    for precision in ("float32", "bfloat16"):
        for name, network in {"eager": Eager(unet, precision), "graphs": Graphed(unet, precision)}.items():
            for rows in ROWS:
                inputs = architecture.inputs(rows)
                spent = _median_seconds(lambda: network(*inputs))  # noqa: B023 - called at once
                report.add(f"{name} {precision} {size} px {rows} rows", Figure(spent * 1000, unit="ms/step"))
        rate = operations * ROWS[-1] / spent / 1000  # the last is of graphs at the most rows
        report.add(f"useful {precision} {size} px", Figure(rate, unit="TFLOP/s"))
        report.add(
            f"images {precision} {size} px", Figure(images_per_s(generator, precision), unit="images/s")
        )


def images_per_s(generator: Generator, precision: str) -> float:
    """Of the engine, with decoding, at default serving: the second of two equal requests, for the first one captures
    graphs."""
    KernelCache(None, precision, "cuda").attach(generator)
    engine = Engine(max_batch=IMAGES, step_rows=2 * IMAGES)
    request = GenerationRequest(prompt=CELL, seeds=tuple(range(IMAGES)), steps=STEPS, guidance=GUIDANCE)
    seconds = 0.0
    for _ in range(2):
        ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        began = time.perf_counter()
        engine.submit(generator, request, ended.put)
        for _ in range(IMAGES):
            ended.get(timeout=300)
        seconds = time.perf_counter() - began
    engine.stop()
    return IMAGES / seconds


def _median_seconds(call: Callable[[], Any]) -> float:
    """Of calls that end when their result is on the CPU; the first few are not counted."""
    times = []
    for _ in range(3 + REPEATS):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times[3:])


if __name__ == "__main__":
    main()
