"""Validation of an alignment while it runs: images from the same noise, scored by a reward that nothing is trained
against, and by statistics that no reward sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple
from typing import Any

import numpy as np
import torch

from training.alignment.pool import Pool
from training.alignment.served import ServingDefaults
from training.alignment.student import Student
from training.alignment.validation_point import ValidationPoint
from training.contact_sheet import contact_sheet
from training.evaluation.diversity import within_prompt
from training.evaluation.pixels import STATISTICS, statistics
from training.loop import checkpoint
from training.loop.session import TrainingSession
from training.randomness import tensors
from vouch.recipes import Alignment

SLACK = 1e-4  # smaller gains of the validation reward are none
SHOWN = 10  # columns of the image sheet


class ValidationMonitor:
    """Keeps the best weights, and says when to stop.

    A higher reward is no proof of better images: one public run's reward rose while its images turned dark, and a
    hundred copies of the best image have the best reward. So brightness, contrast, saturation, the share of dark pixels
    and the variety within a class are compared with the parent's, drawn from the same noise, and a step where one has
    gone too far does not count. All is drawn as requests are that say nothing: what is better without guidance, or in
    few steps, need not be better as it is served.
    """

    def __init__(self, student: Student, pool: Pool, config: Alignment) -> None:
        self._student, self._seed, self._settings = student, config.seed, config.validation
        self._sampler = ServingDefaults.of(student, config).sampler(student)
        every = max(1, len(pool) // config.validation.images)
        order = sorted(range(len(pool)), key=lambda row: pool.labels[row])
        self._prompts = pool.prompts_of(order[::every][: config.validation.images])
        self._labels = [pool.labels[row] for row in order[::every][: config.validation.images]]
        self.points: list[ValidationPoint] = []
        self._best: list[torch.Tensor] = []
        self._parent_statistics: torch.Tensor | None = None
        self._parent_variety = 0.0
        self._images: dict[str, torch.Tensor] = {}

    @property
    def best(self) -> ValidationPoint:
        """The point whose weights are kept: of those with sound images the last that was better than the best before;
        the first where none was."""
        best = self.points[0]
        for point in self.points[1:]:
            if self._sound(point) and point.reward > best.reward + SLACK:
                best = point
        return best

    @property
    def stop(self) -> bool:
        """Whether the reward has not risen for `patience` points, or the images have drifted or become alike."""
        if not self.points:
            return False
        waited = sum(point.step > self.best.step for point in self.points)
        return waited >= self._settings.patience or not self._sound(self.points[-1])

    def _sound(self, point: ValidationPoint) -> bool:
        return point.drift <= self._settings.max_drift and point.variety >= self._settings.min_variety

    def due(self, step: int) -> bool:
        """Whether a validation point is due after this step."""
        return bool(self._settings.every) and step % self._settings.every == 0

    def measure(self, step: int) -> ValidationPoint:
        """Draws, scores, and keeps the weights if they are the best so far. A step is measured once."""
        if self.points and self.points[-1].step == step:
            return self.points[-1]
        images, reward = self._drawn()
        pixels = ((images + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
        point = ValidationPoint(step, reward, self._drift(pixels), self._variety(images))
        self.points.append(point)
        if self.best is point:
            self._best = [weight.detach().clone() for weight in self._student.trained]
            self._images["best"] = torch.from_numpy(pixels)
            self._images.setdefault("first", self._images["best"])
        return point

    def _drift(self, pixels: np.ndarray) -> float:
        by_name = statistics(pixels)
        values = torch.from_numpy(np.stack([by_name[name] for name in STATISTICS], 1))
        if self._parent_statistics is None:
            self._parent_statistics = values
        mean, std = self._parent_statistics.mean(0), self._parent_statistics.std(0)
        shift = (values.mean(0) - mean).abs() / std.clamp(min=1e-3)
        return float(shift.max())

    def _variety(self, images: torch.Tensor) -> float:
        """By the mean distance of two images of a class, in the features of the member that nothing is trained against.

        Pixels hardly notice a collapse: ground and stain differ on, while every nucleus becomes the same one. The judge
        is not asked here, for it would teach when to stop.
        """
        features = self._student.validation_features(images).double().numpy()
        apart = within_prompt(features, self._labels)
        variety = float(np.mean(list(apart.values()))) if apart else 0.0
        self._parent_variety = self._parent_variety or variety
        return variety / self._parent_variety if self._parent_variety else 1.0

    def restore(self) -> None:
        """Gives the student its best weights back; nothing where there is no validation point."""
        if self.points:
            checkpoint.restore(self._student.trained, self._best)

    def save_sheet(self, session: TrainingSession) -> None:
        """Writes `images.png` into the run's folder: above the images of the first validation point, below those of
        the best, from the same noise. Nothing where there is no validation point."""
        if not self.points:
            return
        every = max(1, len(self._prompts) // SHOWN)
        rows = [self._images[name][::every][:SHOWN].numpy() for name in ("first", "best")]
        path = session.folder / "images.png"
        contact_sheet(np.concatenate(rows), columns=len(rows[0]), path=path)
        session.tracker.image(path, self.best.step)

    def figures(self) -> dict[str, float]:
        """What came of it; nothing where there is no validation point."""
        if not self.points:
            return {}
        return {
            "best_step": float(self.best.step),
            "validation_reward_before": self.points[0].reward,
            "validation_reward": self.best.reward,
            "drift": self.best.drift,
            "variety": self.best.variety,
        }

    @torch.no_grad()
    def _drawn(self) -> tuple[torch.Tensor, float]:
        random = tensors(self._seed, "watch")
        images = self._student.decode(self._sampler.sample(self._prompts, random).clean).clamp(-1, 1)
        return images, float(self._student.validation_reward(images, self._prompts).mean())

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        points = [list(astuple(point)) for point in self.points]
        return {
            "points": points,
            "best": self._best,
            "usual": self._parent_statistics,
            "varied": self._parent_variety,
            "images": self._images,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.points = [ValidationPoint(int(step), *rest) for step, *rest in state["points"]]
        self._best, self._parent_statistics, self._parent_variety = (
            list(state["best"]),
            state["usual"],
            state["varied"],
        )
        self._images = dict(state["images"])
