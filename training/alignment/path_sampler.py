"""The sampler of alignment: the trajectories that serving uses, any sampler of it, with gradients through the last
steps where wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from training.alignment.sample_path import SamplePath, Transition
from training.alignment.student import Student
from vouch.models.sampling import Rows, Trajectory, advance, clean_of, trajectory, with_sampler
from vouch.types.guidance import PLAIN, GuidanceOptions

Steer = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Clean latents [N, C, h, w] that a step predicted, and how noisy it was, to those that are wanted."""


State = tuple[torch.Tensor, torch.Tensor]
"""Latents on the way [N, C, h, w], and the clean ones of the step before, which multistep samplers use."""


@dataclass(frozen=True)
class Captions:
    """Prompts as a U-Net reads them, [N, L, D], and what the network that guidance leads away from reads."""

    prompts: torch.Tensor
    without: torch.Tensor | None


class PathSampler:
    """Draws with the student; steps, sampler, eta and guidance as of a request, and no guidance unless it is asked for.

    Guidance starts from the output without a caption, or from that of a weaker network. No gradient passes
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
        sampler: str = "ddim",
    ) -> None:
        options.check_scale(guidance)
        self._student, self._guidance, self._method = student, guidance, options.method
        self.trajectory: Trajectory = trajectory(with_sampler(student.pipe.scheduler, sampler), steps, eta)
        self._guided = options.guided_steps(guidance, len(self.trajectory))
        self.adapted_from = options.adapted_from(len(self.trajectory))
        """The first step that the student's adapter draws."""
        self._guide = student.guide if options.method == "autoguidance" else None

    def sample(
        self, prompts: Sequence[str], random: torch.Generator, last: int = 0, steer: Steer | None = None
    ) -> SamplePath:
        """From noise to clean latents; gradients pass the last `last` steps."""
        noise = torch.randn((len(prompts), *self.shape), generator=random)
        return self.sample_from(noise, prompts, random, last, steer)

    def sample_from(
        self,
        noise: torch.Tensor,
        prompts: Sequence[str],
        random: torch.Generator,
        last: int = 0,
        steer: Steer | None = None,
    ) -> SamplePath:
        """As `sample`, from standard normal noise [N, C, h, w]; `random` is for steps that add some."""
        x, transitions = noise * self.trajectory.start, list[Transition]()
        state = x, torch.zeros_like(x)

        def go(state: State, steps: range, captions: Captions) -> State:
            for step in steps:
                with torch.set_grad_enabled(step >= len(self.trajectory) - last):
                    fresh = torch.randn(x.shape, generator=random)
                    after = self._after(state, step, captions, fresh, steer)
                transitions.append(Transition(step, state[0].detach(), after[0].detach()))
                state = after
            return state

        if self.adapted_from:
            captions = self._captions(self._student.embed_as_base, prompts)
            with self._student.as_base():
                state = go(state, range(self.adapted_from), captions)
        captions = self._captions(self._student.embed, prompts)
        return SamplePath(
            go(state, range(self.adapted_from, len(self.trajectory)), captions)[0], tuple(transitions)
        )

    def _after(
        self,
        state: State,
        step: int,
        captions: Captions,
        noise: torch.Tensor,
        steer: Steer | None = None,
        of_parent: bool = False,
    ) -> State:
        """The latents after a step, and what the next one shall remember."""
        (x, before), rows, guided = state, self._rows(step, len(state[0])), step in self._guided
        clean = self.clean(x, step, captions.prompts, of_parent)
        without = self._without(x, step, captions, of_parent) if guided else clean
        # Clean latents are linear in the network's output, so guiding them is guiding it.
        clean = without + self._guidance * (clean - without) if guided else clean
        clean = steer(clean, self._noisiness(step)) if steer else clean
        along = without if guided and self._method == "cfg_pp" else clean
        after = advance(rows, x, along, before, noise)
        return (after if along is clean else after + rows.signal * (clean - along)), along

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
    def _without(
        self, x: torch.Tensor, step: int, captions: Captions, of_parent: bool = False
    ) -> torch.Tensor:
        """The clean latents that guidance leads away from."""
        assert captions.without is not None
        if self._guide is None:
            return self.clean(x, step, captions.without, of_parent)
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
        self, transition: Transition, prompts: Sequence[str], of_parent: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean [N, C, h, w] and deviation [N] of a step as student or parent would take it now, guided as it was taken;
        for samplers without memory."""
        captions = self._captions(self._student.parent_encoder if of_parent else self._student.embed, prompts)
        nothing = torch.zeros_like(transition.x)
        mean, _ = self._after(
            (transition.x, nothing), transition.step, captions, nothing, of_parent=of_parent
        )
        return mean, self._rows(transition.step, len(transition.x)).noise_weight.flatten()

    def _noisiness(self, step: int) -> torch.Tensor:
        """1 - ᾱ, the share of noise in the variance of x_t."""
        return 1 - self._student.alphas[int(self.trajectory.timestep[step])]

    def _rows(self, step: int, count: int) -> Rows:
        return Rows.of([(self.trajectory, step)] * count)
