"""How requests that say nothing are drawn: what an alignment draws, watches and improves is drawn the same way."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from training.alignment.path_sampler import PathSampler
from training.alignment.student import Student
from vouch.recipes import Alignment
from vouch.types.guidance import GuidanceOptions


@dataclass(frozen=True)
class ServingDefaults:
    """Denoising steps, and scale and interval of guidance: the generator's own, but for what the settings name."""

    steps: int
    guidance: float
    options: GuidanceOptions

    @classmethod
    def of(cls, student: Student, config: Alignment) -> ServingDefaults:
        own = student.defaults
        guidance = own.guidance if config.guidance is None else config.guidance
        return cls(own.steps, guidance, own.options)

    def sampler(self, student: Student, steps: int | None = None, eta: float = 0.0) -> PathSampler:
        """Draws so; steps: fewer of them, for training."""
        sampler = "ddim" if eta else student.sampler  # the only one that takes an eta
        return PathSampler(student, steps or self.steps, eta, self.guidance, self.options, sampler)

    def scales(self, timesteps: torch.Tensor, levels: int) -> torch.Tensor:
        """The scale of guidance [N, 1, 1, 1] at timesteps [N] of `levels` noise levels: 1 outside of the interval, and
        where guidance leads away from another network than the student itself."""
        done = 1 - (timesteps + 1) / levels
        guided = (done >= self.options.start) & (done < self.options.stop)
        if self.options.method == "autoguidance":
            guided = torch.zeros_like(guided)
        return torch.where(guided, self.guidance, 1.0).view(-1, 1, 1, 1)
