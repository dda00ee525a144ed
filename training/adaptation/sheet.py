"""Sheets of images that a model draws while it is adapted: the same captions and seeds every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from training.adaptation.data import CaptionedSet
from training.adaptation.tuning import Tuning
from training.contact_sheet import contact_sheet
from training.evaluation.copies import CopyAlarm
from training.loop.session import TrainingSession
from training.randomness import numbers

COLUMNS, ROWS = 4, 4
MOST_COPIES = 0.1
"""Share of a sheet that may be near copies of training images: of unseen real images a hundredth is."""


class SheetDrawer:
    """Draws one image of each of some captions, with the steps and guidance of serving, and looks for copies."""

    def __init__(
        self,
        tuning: Tuning,
        data: CaptionedSet,
        alarm: CopyAlarm | None,
        seed: int,
        session: TrainingSession,
    ) -> None:
        self._generator, self._alarm, self._session = tuning.base.generator, alarm, session
        known = sorted({captions[0] for captions in data.captions})
        chosen = numbers(seed, "sheet").sample(known, min(ROWS, len(known)))
        self._captions = [tuning.worded(caption) for caption in chosen for _ in range(COLUMNS)]

    @property
    def looks_for_copies(self) -> bool:
        """Whether an alarm compares what is drawn with the training images."""
        return self._alarm is not None

    def __call__(self, step: int) -> float:
        """Shows the sheet of a step to the tracker; the share of it that is copied, 0 where nobody looks."""
        path = self._session.folder / f"grid-{step:06d}.png"
        figures = self.draw(path)
        self._session.tracker.image(path, step)
        self._session.tracker.metrics(figures, step)
        return figures.get("copies", 0.0)

    def draw(self, path: Path) -> dict[str, float]:
        """Writes the sheet; `copies`, the share of it that is copied, where somebody looks."""
        own = self._generator
        seeds = [torch.Generator().manual_seed(number) for number in range(len(self._captions))]
        images = own.pipe(
            self._captions, num_inference_steps=own.default_steps, guidance_scale=own.default_guidance,
            generator=seeds, output_type="np",
        ).images  # fmt: skip
        pixels = (images * 255).round().astype(np.uint8)
        contact_sheet(pixels, COLUMNS, path)
        return {"copies": float(self._alarm.alarmed(pixels).mean())} if self._alarm else {}
