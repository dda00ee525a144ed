"""An eye on an alignment while it runs: what is drawn from the same noise again and again, by a reward that nothing is
trained against, and by statistics that no reward sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from training import checkpoint
from training.alignment.pool import Pool
from training.alignment.student import Student
from training.alignment.walk import Walker
from training.evaluation.pixels import STATISTICS, statistics
from training.randomness import tensors
from vouch.recipes import Alignment

SLACK = 1e-4  # smaller gains of the validation reward are none


@dataclass(frozen=True)
class Look:
    """What was seen after `step` steps. reward: mean validation reward in [0, 1]. drift: of the statistic that moved
    most, how many standard deviations of the parent's images."""

    step: int
    reward: float
    drift: float


class Watch:
    """Keeps the best weights, and says when to stop.

    A higher reward is no proof of better images: one public run's reward rose while its images turned dark. So
    brightness, contrast, saturation and the share of dark pixels are compared with the parent's, and a step where one
    has gone too far does not count.
    """

    def __init__(self, student: Student, pool: Pool, config: Alignment) -> None:
        self._student, self._config = student, config
        self._walker = Walker(student, config.sample_steps)
        every = max(1, len(pool) // config.watched)
        order = sorted(range(len(pool)), key=lambda row: pool.labels[row])
        self._prompts = pool.prompts_of(order[::every][: config.watched])
        self.looks: list[Look] = []
        self._best: list[torch.Tensor] = []
        self._usual: torch.Tensor | None = None

    @property
    def best(self) -> Look:
        """Of the looks at images that have not drifted, the one with the highest reward; the first where all have."""
        sound = [look for look in self.looks if look.drift <= self._config.drift]
        return max(sound or self.looks[:1], key=lambda look: look.reward)

    @property
    def stop(self) -> bool:
        """Whether the reward has not risen for `patience` looks, or the images have drifted."""
        if not self.looks:
            return False
        last = self.looks[-1]
        waited = sum(look.step > self.best.step for look in self.looks)
        return waited >= self._config.patience or last.drift > self._config.drift

    def due(self, step: int) -> bool:
        """Whether it is time to look."""
        return bool(self._config.watch_every) and step % self._config.watch_every == 0

    def look(self, step: int) -> Look:
        """Draws, judges, and keeps the weights if they are the best so far."""
        images, reward = self._drawn()
        seen = statistics(((images + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())
        found = torch.from_numpy(np.stack([seen[name] for name in STATISTICS], 1))
        self._usual = found if self._usual is None else self._usual
        shift = (found.mean(0) - self._usual.mean(0)).abs() / self._usual.std(0).clamp(min=1e-3)
        look = Look(step, reward, float(shift.max()))
        better = not self.looks or (
            look.drift <= self._config.drift and look.reward > self.best.reward + SLACK
        )
        self.looks.append(look)
        if better:
            self._best = [weight.detach().clone() for weight in self._student.trained]
        return look

    def restore(self) -> None:
        """Gives the student its best weights back; nothing, if nobody ever looked."""
        if self.looks:
            checkpoint.restore(self._student.trained, self._best)

    def figures(self) -> dict[str, float]:
        """What came of it; nothing, if nobody ever looked."""
        if not self.looks:
            return {}
        return {
            "best_step": float(self.best.step),
            "validation_reward_before": self.looks[0].reward,
            "validation_reward": self.best.reward,
            "drift": self.best.drift,
        }

    @torch.no_grad()
    def _drawn(self) -> tuple[torch.Tensor, float]:
        random = tensors(self._config.seed, "watch")
        images = self._student.decode(self._walker.walk(self._prompts, random).clean).clamp(-1, 1)
        return images, float(self._student.examined(images, self._prompts).mean())

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        looks = [[look.step, look.reward, look.drift] for look in self.looks]
        return {"looks": looks, "best": self._best, "usual": self._usual}

    def resume(self, state: Mapping[str, Any]) -> None:
        self.looks = [Look(int(step), reward, drift) for step, reward, drift in state["looks"]]
        self._best, self._usual = list(state["best"]), state["usual"]
