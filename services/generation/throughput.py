"""The throughput estimator: how long what waits will take, and when a refused caller should try again."""

from __future__ import annotations

SMOOTHING = 0.1
"""Weight of the newest image in the moving average."""
UNKNOWN_S = 1.0
"""Seconds per image before the first image is done."""
SHORTEST_S = 0.1


class ThroughputEstimator:
    """Exponential moving averages of the busy seconds for each image, and for each row of a step."""

    def __init__(self) -> None:
        self._busy_s = 0.0
        self._image_s: float | None = None
        self._row_s: float | None = None

    def add_busy(self, seconds: float) -> None:
        """Count seconds of computing."""
        self._busy_s += seconds

    def add_images(self, images: int) -> None:
        """Count images that are done since the last call."""
        for _ in range(images):
            newest = self._busy_s / images
            self._image_s = (
                newest if self._image_s is None else (1 - SMOOTHING) * self._image_s + SMOOTHING * newest
            )
        if images:
            self._busy_s = 0.0

    def add_rows(self, rows: int, seconds: float) -> None:
        """Count rows that were computed in so long, with the pixels of the images that they ended."""
        if rows:
            newest = seconds / rows
            self._row_s = (
                newest if self._row_s is None else (1 - SMOOTHING) * self._row_s + SMOOTHING * newest
            )

    def seconds_for_rows(self, rows: float) -> float:
        """Estimated seconds until so many rows are computed; 0 before the first step."""
        return rows * (self._row_s or 0.0)

    def seconds_for(self, images: int) -> float:
        """Estimated seconds until so many images are done, at least 0.1."""
        return max(SHORTEST_S, images * (UNKNOWN_S if self._image_s is None else self._image_s))
