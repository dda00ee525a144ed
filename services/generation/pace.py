"""How fast the engine gets through its images, to tell who is refused when to come again."""

from __future__ import annotations

WEIGHT = 0.1  # of the newest image


class Pace:
    """A running mean of the busy seconds for each image. Nothing is known before the first: then one second."""

    def __init__(self) -> None:
        self._busy_s = 0.0
        self._image_s: float | None = None

    def busy(self, seconds: float) -> None:
        self._busy_s += seconds

    def done(self, images: int) -> None:
        """So many images have ended since this was called last."""
        for _ in range(images):
            newest = self._busy_s / images
            self._image_s = (
                newest if self._image_s is None else (1 - WEIGHT) * self._image_s + WEIGHT * newest
            )
        if images:
            self._busy_s = 0.0

    def seconds_for(self, images: int) -> float:
        """When so many images will have made room, at least a tenth of a second."""
        return max(0.1, images * (1.0 if self._image_s is None else self._image_s))
