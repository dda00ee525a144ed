"""The sampler of alignment: the tables that serving walks, with gradients through the last steps where wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from training.alignment.student import Student
from vouch.guidance import PLAIN, GuidanceOptions
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


@dataclass(frozen=True)
class Captions:
    """Prompts as a U-Net reads them, [N, L, D], and what the network that guidance leads away from reads."""

    prompts: torch.Tensor
    without: torch.Tensor | None


class Walker:
    """Draws with the student by DDIM; steps, eta and guidance as of a request, and no guidance unless it is asked for.

    Guidance starts from what a network says without a caption, or from what a weaker one says. No gradient passes
    that: it would gain by spoiling what it is compared with. Nor does one pass the steps that the base draws.

    Raises:
        InvalidInput: autoguidance of a base that has no guide; a scale that the method does not take.
    """

    def __init__(
        self,
        student: Student,
        steps: int,
        eta: float = 0.0,
        guidance: float = 1.0,
        options: GuidanceOptions = PLAIN,
    ) -> None:
        options.check_scale(guidance)
        self._student, self._guidance, self._method = student, guidance, options.method
        self.path: Trajectory = trajectory(with_sampler(student.pipe.scheduler, "ddim"), steps, eta)
        self._guided = options.guided_steps(guidance, len(self.path))
        self._adapted_from = options.adapted_from(len(self.path))
        self._guide = student.guide if options.method == "autoguidance" else None

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
        x, taken = noise * self.path.start, list[Taken]()

        def go(x: torch.Tensor, steps: range, captions: Captions) -> torch.Tensor:
            for step in steps:
                with torch.set_grad_enabled(step >= len(self.path) - last):
                    after = self._after(x, step, captions, random, steer)
                taken.append(Taken(step, x.detach(), after.detach()))
                x = after
            return x

        if self._adapted_from:
            captions = self._captions(self._student.embed_as_base, prompts)
            with self._student.as_base():
                x = go(x, range(self._adapted_from), captions)
        captions = self._captions(self._student.embed, prompts)
        return Walk(go(x, range(self._adapted_from, len(self.path)), captions), tuple(taken))

    def _after(
        self, x: torch.Tensor, step: int, captions: Captions, random: torch.Generator, steer: Steer | None
    ) -> torch.Tensor:
        """The latents after a step. DDIM remembers nothing of the step before, so zeros stand for it."""
        rows, guided = self._rows(step, len(x)), step in self._guided
        clean = self.clean(x, step, captions.prompts)
        without = self._without(x, step, captions) if guided else clean
        # Clean latents are linear in the network's output, so guiding them is guiding it.
        clean = without + self._guidance * (clean - without) if guided else clean
        clean = steer(clean, self._noisiness(step)) if steer else clean
        along = without if guided and self._method == "cfg_pp" else clean
        noise = torch.randn(x.shape, generator=random)
        after = advance(rows, x, along, torch.zeros_like(x), noise)
        return after if along is clean else after + rows.signal * (clean - along)

    def _captions(self, embed: Callable[[Sequence[str]], torch.Tensor], prompts: Sequence[str]) -> Captions:
        return Captions(embed(prompts), self._read_without(embed, prompts) if self._guided else None)

    @torch.no_grad()
    def _read_without(
        self, embed: Callable[[Sequence[str]], torch.Tensor], prompts: Sequence[str]
    ) -> torch.Tensor:
        if self._guide is None:
            return embed([""] * len(prompts))
        _, encoder = self._guide
        return (encoder or self._student.embed_as_base)(prompts)

    @torch.no_grad()
    def _without(self, x: torch.Tensor, step: int, captions: Captions) -> torch.Tensor:
        """The clean latents that guidance leads away from."""
        assert captions.without is not None
        if self._guide is None:
            return self.clean(x, step, captions.without)
        rows, (unet, _) = self._rows(step, len(x)), self._guide
        return clean_of(rows, x, unet(rows.input * x, rows.timestep, captions.without).sample)

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
