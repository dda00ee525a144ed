"""What an image costs beside what it cost by an earlier generator, on the same processor in turns."""

from __future__ import annotations

import time

import numpy as np

from benchmarks.report import Figure, Report
from benchmarks.starter.bench import Bench
from vouch.models.pipelines import Generator, load_generator

COUNT, REPEATS = 8, 5


def measure(report: Report, bench: Bench) -> None:
    """Default serving of both: each with its own steps and guidance."""
    old = bench.options.old
    ours = [bench.generator]
    if old is not None and (old / "model_index.json").is_file():
        ours.append(load_generator(old))
    seconds = np.array(
        [[_seconds(generator) for generator in ours] for _ in range(REPEATS + 1)][1:]
    )  # the first warms
    report.add("image_seconds", Figure(float(np.median(seconds[:, 0])), "s"))
    if len(ours) == 1:
        report.add("image_cost_of_old", Figure(None, "of the old: give --old-vae GENERATOR", must="<= 2.0"))
        return
    shares = seconds[:, 0] / seconds[:, 1]
    low, high = float(shares.min()), float(shares.max())
    report.add(
        "image_cost_of_old", Figure(float(np.median(shares)), "of the old's", low, high, "<= 2.0", "<= 1.0")
    )


def _seconds(generator: Generator) -> float:
    """Of an image in a batch of COUNT."""
    assert generator.vocabulary is not None
    prompts = [generator.vocabulary.labels[n % len(generator.vocabulary.labels)] for n in range(COUNT)]
    started = time.perf_counter()
    generator.generate(prompts, list(range(COUNT)), generator.default_steps, generator.default_guidance)
    return (time.perf_counter() - started) / COUNT
