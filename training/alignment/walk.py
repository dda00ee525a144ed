"""The sampler of alignment: the tables that serving walks, with gradients through the last steps where wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from training.alignment.student import Student
from vouch.sampling import Rows, Trajectory, advance, clean_of, trajectory, with_sampler

Steer = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Clean latents [N, C, h, w] that a step predicted, and how noisy it was, to those that are wanted."""


@dataclass(frozen=True)
class Taken:
    """A step that was taken: from latents x [N, C, h, w] at place `step` of the table to `after`."""

    step: int
    x: torch.Tensor
    after: torch.Tensor


@dataclass(frozen=True)
class Walk:
    """Clean latents [N, C, h, w] and every step on the way to them."""

    clean: torch.Tensor
    taken: tuple[Taken, ...]


class Walker:
    """Draws with the student by DDIM; steps, eta and guidance as of a request, and no guidance unless it is asked for.

    Guidance (Ho & Salimans 2022, arXiv 2207.12598) starts from what the student says without a caption. No gradient
    passes that: it would gain by spoiling what it is compared with.
    """

    def __init__(self, student: Student, steps: int, eta: float = 0.0, guidance: float = 1.0) -> None:
        self._student, self._guidance = student, guidance
        self.path: Trajectory = trajectory(with_sampler(student.pipe.scheduler, "ddim"), steps, eta)

    def walk(
        self, prompts: Sequence[str], random: torch.Generator, last: int = 0, steer: Steer | None = None
    ) -> Walk:
        """From noise to clean latents; gradients pass the last `last` steps."""
        noise = torch.randn((len(prompts), *self.shape), generator=random)
        return self.walk_from(noise, prompts, random, last, steer)

    def walk_from(
        self,
        noise: torch.Tensor,
        prompts: Sequence[str],
        random: torch.Generator,
        last: int = 0,
        steer: Steer | None = None,
    ) -> Walk:
        """As `walk`, from standard normal noise [N, C, h, w]; `random` is for steps that add some."""
        embedded, without = self._student.embed(prompts), self._without(len(prompts))
        x = noise * self.path.start
        before, taken = torch.zeros_like(x), []
        for step in range(len(self.path)):
            with torch.set_grad_enabled(step >= len(self.path) - last):
                clean = self._guided(self.clean(x, step, embedded), x, step, without)
                clean = steer(clean, self._noisiness(step)) if steer else clean
                noise = torch.randn(x.shape, generator=random)
                after = advance(self._rows(step, len(prompts)), x, clean, before, noise)
            taken.append(Taken(step, x.detach(), after.detach()))
            x, before = after, clean
        return Walk(x, tuple(taken))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image's latents."""
        config = self._student.unet.config
        return config.in_channels, config.sample_size, config.sample_size

    def clean(
        self, x: torch.Tensor, step: int, embedded: torch.Tensor, of_parent: bool = False
    ) -> torch.Tensor:
        """The clean latents that the student, or its parent, predicts at a step, of prompts that it encoded."""
        rows = self._rows(step, len(x))
        unet = self._student.parent if of_parent else self._student.unet
        return clean_of(rows, x, unet(rows.input * x, rows.timestep, embedded).sample)

    @torch.no_grad()
    def _without(self, count: int) -> torch.Tensor | None:
        """No caption, encoded; None where nothing is guided."""
        return None if self._guidance == 1 else self._student.embed([""] * count)

    def _guided(
        self, clean: torch.Tensor, x: torch.Tensor, step: int, without: torch.Tensor | None
    ) -> torch.Tensor:
        """Clean latents are linear in the network's output, so guiding them is guiding it."""
        if without is None:
            return clean
        with torch.no_grad():
            unconditional = self.clean(x, step, without)
        return unconditional + self._guidance * (clean - unconditional)

    def distribution(
        self, taken: Taken, embedded: torch.Tensor, of_parent: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean [N, C, h, w] and deviation [N] of a step as it would be taken now; for samplers without memory."""
        rows, nothing = self._rows(taken.step, len(taken.x)), torch.zeros_like(taken.x)
        clean = self.clean(taken.x, taken.step, embedded, of_parent)
        return advance(rows, taken.x, clean, nothing, nothing), rows.noise_weight.flatten()

    def _noisiness(self, step: int) -> torch.Tensor:
        """1 - ᾱ, the share of noise in the variance of x_t."""
        return 1 - self._student.alphas[int(self.path.timestep[step])]

    def _rows(self, step: int, count: int) -> Rows:
        return Rows.of([(self.path, step)] * count)
