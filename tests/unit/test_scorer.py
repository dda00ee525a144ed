"""What waits is scored together, as far as memory goes."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from services.reward.scorer import BATCH_PIXELS, Scorer


@dataclass(frozen=True)
class Scores:
    overall: np.ndarray
    std: np.ndarray
    criteria: Mapping[str, np.ndarray]


class Brightness:
    """Scores by brightness; notes the shapes that it was given. Its first batch waits until it is told."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.started, self.go_on = threading.Event(), threading.Event()

    def score(self, images: np.ndarray, prompts: list[str]) -> Scores:
        self.shapes.append(images.shape)
        self.started.set()
        assert self.go_on.wait(20)
        mean = images.mean(axis=(1, 2, 3), dtype=np.float64) / 255
        return Scores(mean, np.zeros(len(mean)), {})


def scored(*images: np.ndarray) -> tuple[list[float], list[tuple[int, ...]]]:
    """The scores, and the batches in which they were made while one small image was in work."""
    scorer, model = Scorer(max_batch=64), Brightness()
    first = scorer.submit(model, [np.zeros((1, 1, 3), np.uint8)], ["first"])
    assert model.started.wait(20)
    futures = scorer.submit(model, images, ["x"] * len(images))
    model.go_on.set()
    values = [round(future.result(20).score, 2) for future in (*first, *futures)][1:]
    scorer.stop()
    return values, model.shapes[1:]


def grey(side: int, level: int) -> np.ndarray:
    return np.full((side, side, 3), level, np.uint8)


def test_small_images_of_one_size_are_one_batch() -> None:
    values, shapes = scored(*[grey(8, 51 * i) for i in range(5)])
    assert values == [0, 0.2, 0.4, 0.6, 0.8]
    assert shapes == [(5, 8, 8, 3)]


def test_large_images_are_batches_that_memory_holds() -> None:
    side = int((BATCH_PIXELS / 2) ** 0.5)
    values, shapes = scored(*[grey(side, 51 * i) for i in range(5)])
    assert values == [0, 0.2, 0.4, 0.6, 0.8]
    assert [shape[0] for shape in shapes] == [2, 2, 1]


def test_an_image_larger_than_a_batch_is_one_alone() -> None:
    side = int((BATCH_PIXELS * 2) ** 0.5)
    assert scored(grey(side, 255), grey(side, 0)) == ([1.0, 0.0], [(1, side, side, 3)] * 2)
