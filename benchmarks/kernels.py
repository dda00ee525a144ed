"""What the way of computing the U-Net is worth: eager as diffusers loads it, channels last, and compiled.

    python -m benchmarks.kernels --json kernels.json
    python -m benchmarks.kernels --quick         # only shows that it runs; its figures mean nothing

Beside them the rate of this processor's matrix product, which no way of computing the same numbers can beat by much.
"""

from __future__ import annotations

import queue
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

import vouch
from benchmarks.machine import cores
from benchmarks.report import Figure, Report, arguments
from services.generation.engine import Engine
from training.evaluation.intervals import bootstrap_ratio
from vouch.models import compiling
from vouch.models.kernels import Architecture, Compiled, Eager, Network, has_bfloat16_units
from vouch.models.loading import load_pipeline
from vouch.models.pipelines import Generator, load_generator
from vouch.types.generation import GenerationRequest

MODEL = Path(vouch.__file__).parent / "starter" / "generator"


@dataclass(frozen=True)
class KernelPlan:
    """How much is measured."""

    rows: tuple[int, ...] = (1, 2, 4, 8, 16, 24, 32)
    rounds: int = 25  # of every way at every number of rows, in turns
    images: int = 8  # of each precision


QUICK = KernelPlan(rows=(1, 2), rounds=3, images=1)


def main() -> None:
    parser = arguments("benchmarks.kernels", "Eager and compiled U-Nets, in turns.")
    parser.add_argument(
        "--quick", action="store_true", help="only show that it runs; the figures mean nothing"
    )
    given = parser.parse_args()
    plan, report = QUICK if given.quick else KernelPlan(), Report("kernels")
    with tempfile.TemporaryDirectory(prefix="vouch-kernels-") as folder:
        ways, architecture = prepared(report, Path(folder))
        torch.set_num_threads(cores())
        measure(report, ways, architecture, plan)
        report.add("matrix_product", Figure(matrix_rate(), unit="GFLOP/s"))
        add_bfloat16(report, plan)
    report.finish(given.json)


def prepared(report: Report, folder: Path) -> tuple[dict[str, Network], Architecture]:
    """Every way of computing, all upon the same weights. The first is what diffusers does by itself."""
    pipe = load_pipeline(MODEL)
    architecture = Architecture.of(pipe)
    began = time.perf_counter()
    compiling.make(architecture, folder / "package")
    report.add("compile_s", Figure(time.perf_counter() - began, unit="s"))
    began = time.perf_counter()
    compiled = Compiled(pipe.unet, folder / "package")
    report.add("load_compiled_ms", Figure((time.perf_counter() - began) * 1000, unit="ms"))
    plain = load_pipeline(MODEL).unet.to(memory_format=torch.contiguous_format)
    return {"eager": Eager(plain), "channels_last": Eager(pipe.unet), "compiled": compiled}, architecture


@torch.inference_mode()
def measure(
    report: Report, ways: Mapping[str, Network], architecture: Architecture, plan: KernelPlan
) -> None:
    found = {rows: seconds(ways, architecture.inputs(rows), plan.rounds) for rows in plan.rows}
    best = {way: min(plan.rows, key=lambda rows: statistics.median(found[rows][way]) / rows) for way in ways}
    report.add("cpu_speedup", speedup(found, best, must=">= 1.5", aim=">= 3"))
    report.add("gflop_per_row", Figure(gflop(ways["eager"], architecture), unit="GFLOP"))
    for rows, times in found.items():
        for way, spent in times.items():
            report.add(f"{way}_{rows}", Figure(statistics.median(spent) * 1000, unit="ms/step"))
        low, high = bootstrap_ratio(_each(times["eager"]), _each(times["compiled"]), np.median)
        ratio = statistics.median(times["eager"]) / statistics.median(times["compiled"])
        report.add(f"speedup_{rows}", Figure(ratio, "ratio", low, high))


def seconds(ways: Mapping[str, Network], inputs: Sequence[Any], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call, the ways in turns so that a slow moment meets all of them."""
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds + 2):
        for way, network in ways.items():
            began = time.perf_counter()
            network(*inputs)
            times[way].append(time.perf_counter() - began)
    return {way: spent[2:] for way, spent in times.items()}


def speedup(found: Mapping[int, dict[str, list[float]]], best: Mapping[str, int], **limits: str) -> Figure:
    """Image-steps per second of compiled over eager code, each at the number of rows that suits it best."""
    eager = [spent / best["eager"] for spent in found[best["eager"]]["eager"]]
    compiled = [spent / best["compiled"] for spent in found[best["compiled"]]["compiled"]]
    low, high = bootstrap_ratio(_each(eager), _each(compiled), np.median)
    return Figure(statistics.median(eager) / statistics.median(compiled), "ratio", low, high, **limits)


def _each(times: Sequence[float]) -> list[list[float]]:
    """Every call is a sample of its own."""
    return [[one] for one in times]


def gflop(network: Network, architecture: Architecture) -> float:
    """Billions of floating point operations that one row takes."""
    with FlopCounterMode(display=False) as counter:
        network(*architecture.inputs(1))
    return float(counter.get_total_flops()) / 1e9


def matrix_rate(size: int = 2048) -> float:
    """GFLOP/s of a large single-precision matrix product: the median of a few."""
    one = torch.randn(size, size)
    return 2 * size**3 / statistics.median(_timed(lambda: one @ one) for _ in range(15)) / 1e9


def add_bfloat16(report: Report, plan: KernelPlan) -> None:
    """How far from float32 its images are, in grey levels; it is computed here even where it is not fast."""
    report.add("bfloat16_units", Figure(float(has_bfloat16_units()), unit="0 or 1"))
    generator = load_generator(MODEL)
    drawn = []
    for precision in ("float32", "bfloat16"):
        generator.network = Eager(generator.pipe.unet, precision)
        drawn.append(draw(generator, plan.images))
    far = np.abs(drawn[0] - drawn[1])
    report.add("bfloat16_mean_difference", Figure(float(far.mean()), unit="grey levels"))
    report.add("bfloat16_largest_difference", Figure(float(far.max()), unit="grey levels"))


def draw(generator: Generator, images: int) -> np.ndarray:
    """The first images of one prompt as the engine draws them, int [N, H, W, 3]."""
    engine, ended = Engine(max_batch=images, step_rows=2 * images, threads=cores()), queue.SimpleQueue()
    request = GenerationRequest(prompt="neutrophil", seeds=tuple(range(images)), steps=20, guidance=2.0)
    engine.submit(generator, request, ended.put)
    found = sorted((ended.get(timeout=600) for _ in range(images)), key=lambda event: event.index)
    engine.stop()
    return np.stack([event.image for event in found]).astype(int)


def _timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
