"""What each way of guidance costs, and what it gives: plausible rate and coverage by method, scale and interval.

    python -m benchmarks.guidance --json FILE                       # rows and seconds per image on the starter
    python -m benchmarks.guidance --judge FOLDER --generator FOLDER [--adapter FOLDER] --per-class 64 --json FILE

With a judge every setting draws the same prompts from the same seeds, so that differences are the settings' own. Each
setting is printed as soon as it is measured.
"""

from __future__ import annotations

import argparse
import itertools
import queue
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import vouch
from benchmarks.machine import cores
from benchmarks.report import Figure, Report, arguments, median_figure
from services.generation.engine import Engine
from services.generation.observer import Observer
from training.evaluation.intervals import Estimate
from training.evaluation.judge import Judge
from vouch.models.captions import caption
from vouch.models.pipelines import Generator, load_generator
from vouch.types.generation import GenerationRequest
from vouch.types.guidance import METHODS, PLAIN, GuidanceOptions

STARTER = Path(vouch.__file__).parent / "starter" / "generator"
BATCH = 50
ROUNDS = 3
MIDDLE = (0.2, 0.7)


@dataclass(frozen=True)
class GuidanceSetting:
    """One way to draw."""

    scale: float
    options: GuidanceOptions = PLAIN

    def __str__(self) -> str:
        one = self.options
        late = f" adapter from {one.adapter_start:g}" if one.adapter_start else ""
        return f"{one.method} {self.scale:g} [{one.start:g}, {one.stop:g}){late}"


def main() -> int:
    given = parsed()
    torch.set_num_threads(given.threads or cores())
    generator = loaded(given)
    if given.judge is None:
        report = speed(generator, given)
    else:
        report = sweep(generator, Judge.load(given.judge), given)
    report.finish(given.json)
    return 0


def parsed() -> argparse.Namespace:
    parser = arguments("benchmarks.guidance", "Ways of guidance: what they cost and what they give.")
    parser.add_argument("--generator", type=Path, default=STARTER, help="its folder")
    parser.add_argument("--adapter", type=Path, help="folder of an aligned version of it")
    parser.add_argument(
        "--judge", type=Path, help="folder of the judge; without it only the cost is measured"
    )
    parser.add_argument("--per-class", type=int, default=32, help="images of each class and setting")
    parser.add_argument("--steps", type=int, help="instead of the generator's default")
    parser.add_argument("--threads", type=int, help="instead of all cores")
    parser.add_argument("--images", type=int, default=8, help="drawn together when the cost is measured")
    parser.add_argument("--methods", nargs="+", choices=METHODS, help="default: all that the generator has")
    parser.add_argument(
        "--scales", nargs="+", type=float, default=[1.5, 2.0, 3.0], help="of cfg, autoguidance"
    )
    parser.add_argument("--cfg-pp-scales", nargs="+", type=float, default=[0.3, 0.6, 0.9])
    parser.add_argument(
        "--intervals", nargs="+", type=interval, metavar="START-STOP", default=[(0.0, 1.0), MIDDLE],
        help="such as 0-1 0.2-0.7",
    )  # fmt: skip
    parser.add_argument("--adapter-starts", nargs="+", type=float, default=[0.0], help="need --adapter")
    return parser.parse_args()


def interval(text: str) -> tuple[float, float]:
    start, _, stop = text.partition("-")
    return float(start), float(stop)


def loaded(given: argparse.Namespace) -> Generator:
    if given.adapter is None:
        return load_generator(given.generator)
    return load_generator(given.adapter, given.generator)


# ---- what it costs


class GuidanceRows(Observer):
    """Counts evaluations of a network for one image."""

    def __init__(self) -> None:
        self.count = 0

    def stepped(self, images: int, rows: int) -> None:
        self.count += rows


def speed(generator: Generator, given: argparse.Namespace) -> Report:
    """Rows and seconds of each image in the engine; the settings in turns, so that a slow moment meets all of them."""
    # A guide of the generator's own size, where it has none: what autoguidance costs does not depend on the weights.
    generator.guide = generator.guide or loaded(given)
    steps = given.steps or generator.default_steps
    settings = [
        GuidanceSetting(1.0),
        *(GuidanceSetting(2.0, one) for one in ways("cfg")),
        *(GuidanceSetting(0.6, one) for one in ways("cfg_pp")),
    ]
    settings += [GuidanceSetting(2.0, one) for one in ways("autoguidance")]
    taken: dict[GuidanceSetting, list[tuple[float, float]]] = {setting: [] for setting in settings}
    for _, setting in itertools.product(range(ROUNDS + 1), settings):
        taken[setting].append(timed(generator, setting, steps, given.images))
    report = Report("guidance")
    for setting, rounds in taken.items():
        report.add(f"rows {setting}", Figure(rounds[0][0], "rows/image"))
        report.add(f"seconds {setting}", median_figure([seconds for _, seconds in rounds[1:]], "s/image"))
    whole, part = (taken[GuidanceSetting(2.0, one)][0][0] for one in ways("cfg"))
    report.add("rows_saved_by_interval", Figure(1 - part / whole, "share"))
    return report


def ways(method: str) -> tuple[GuidanceOptions, GuidanceOptions]:
    """In every step, and in the middle ones."""
    return GuidanceOptions(method=method), GuidanceOptions(method=method, start=MIDDLE[0], stop=MIDDLE[1])


def timed(generator: Generator, setting: GuidanceSetting, steps: int, images: int) -> tuple[float, float]:
    """Rows and seconds for each of some images that are drawn together."""
    rows, ended = GuidanceRows(), queue.SimpleQueue[Any]()
    engine = Engine(
        max_batch=images,
        step_rows=2 * images,
        threads=torch.get_num_threads(),
        observer=rows,
        background=False,
    )
    options = setting.options
    request = GenerationRequest(
        prompt=prompts_of(generator)[0],
        seeds=tuple(range(images)),
        steps=steps,
        guidance=setting.scale,
        guidance_method=options.method,
        guidance_start=options.start,
        guidance_stop=options.stop,
        adapter_start=options.adapter_start,
    )
    began = time.perf_counter()
    engine.submit(generator, request, ended.put)
    for _ in range(images):
        ended.get(timeout=600)
    seconds = time.perf_counter() - began
    engine.stop()
    return rows.count / images, seconds / images


# ---- what it gives


def sweep(generator: Generator, judge: Judge, given: argparse.Namespace) -> Report:
    """Plausible rate and coverage of every setting."""
    report = Report("guidance")
    prompts = [prompt for prompt in prompts_of(generator) for _ in range(given.per_class)]
    steps = given.steps or generator.default_steps
    for setting in settings_of(generator, given):
        began = time.perf_counter()
        images = draw(generator, setting, prompts, steps)
        seconds = (time.perf_counter() - began) / len(images)
        found = judge.measure(images, prompts)
        for name, one in (("plausible", found.plausible), ("coverage", found.coverage)):
            report.add(f"{name} {setting}", Figure(one.value, "share", one.low, one.high))
        report.add(f"seconds {setting}", Figure(seconds, "s/image"))
        told = (
            f"plausible {rated(found.plausible)}, coverage {rated(found.coverage)}, {seconds:.2f} s an image"
        )
        print(f"{setting}: {told}", flush=True)
    return report


def rated(one: Estimate) -> str:
    """A rate with its 95 % interval."""
    return f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})"


def settings_of(generator: Generator, given: argparse.Namespace) -> Iterator[GuidanceSetting]:
    """No guidance once, then every method with its scales and intervals."""
    for adapter_start in given.adapter_starts:
        yield GuidanceSetting(1.0, GuidanceOptions(adapter_start=adapter_start))
        for method in given.methods or generator.guidance_methods:
            scales = given.cfg_pp_scales if method == "cfg_pp" else given.scales
            for scale, (start, stop) in itertools.product(scales, given.intervals):
                if scale == 1.0 and method == "cfg":
                    continue  # that is no guidance
                options = GuidanceOptions(method=method, start=start, stop=stop, adapter_start=adapter_start)
                yield GuidanceSetting(scale, options)


def prompts_of(generator: Generator) -> list[str]:
    """One for each class."""
    if generator.vocabulary is None:
        raise SystemExit("This generator has no vocabulary, so there is no class to draw.")
    return [caption(label) for label in generator.vocabulary.labels]


def draw(generator: Generator, setting: GuidanceSetting, prompts: Sequence[str], steps: int) -> np.ndarray:
    """Image i from seed i, uint8 [N, H, W, 3]."""
    parts = []
    for first in range(0, len(prompts), BATCH):
        some = prompts[first : first + BATCH]
        seeds = range(first, first + len(some))
        parts.append(generator.generate(some, seeds, steps, setting.scale, options=setting.options))
    return np.concatenate(parts)


if __name__ == "__main__":
    sys.exit(main())
