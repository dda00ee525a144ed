"""How long a request takes that has the plain pipeline to itself: what "in time" is measured by, for all contenders.

    python -m benchmarks.serving.alone --model FOLDER --threads 2 --counts 1 2 3 4 --steps 10 50

Prints [count, guided, steps, seconds] of every combination as JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.serving.asks import Ask
from benchmarks.serving.peers.drawing import draw, load
from benchmarks.serving.process import asked

REPEATS = 3


@dataclass(frozen=True)
class AloneTimes:
    """For each (images, guided) a line over the steps: (seconds without any, seconds for each)."""

    lines: Mapping[tuple[int, bool], tuple[float, float]]

    @classmethod
    def of(cls, rows: Iterable[Sequence[Any]]) -> AloneTimes:
        """From rows (count, guided, steps, seconds), two numbers of steps for each (count, guided)."""
        points: dict[tuple[int, bool], list[tuple[int, float]]] = {}
        for count, guided, steps, seconds in rows:
            points.setdefault((count, guided), []).append((steps, seconds))
        return cls({kind: _line(*pair) for kind, pair in points.items()})

    def seconds(self, ask: Ask) -> float:
        fixed, per_step = self.lines[ask.count, ask.guided]
        return fixed + per_step * ask.steps


def _line(one: tuple[int, float], other: tuple[int, float]) -> tuple[float, float]:
    slope = (other[1] - one[1]) / (other[0] - one[0])
    return one[1] - slope * one[0], slope


def alone_rows(model: Path, counts: Sequence[int], steps: Sequence[int]) -> list[list[Any]]:
    """Rows for `AloneTimes.of`, measured in a process of its own."""
    options = ("--model", model, "--counts", *counts, "--steps", *steps)
    return asked("benchmarks.serving.alone", *options)


def took_s(pipe: Any, ask: Ask) -> float:
    """Median seconds of a few drawings, PNGs included; the first call of this shape does not count."""
    draw(pipe, [Ask(ask.prompt, ask.count, 0, 1, ask.guidance)])
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        draw(pipe, [ask])
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--counts", type=int, nargs="+", required=True)
    parser.add_argument("--steps", type=int, nargs=2, required=True)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    pipe = load(given.model)
    asks = [Ask("", c, 0, s, g) for c in given.counts for g in (1.0, 3.0) for s in given.steps]
    print(json.dumps([[ask.count, ask.guided, ask.steps, took_s(pipe, ask)] for ask in asks]))


if __name__ == "__main__":
    main()
