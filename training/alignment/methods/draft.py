"""DRaFT: the reward's gradient through the last steps of the sampler (Clark et al. 2023, arXiv 2309.17400)."""

from __future__ import annotations

import torch

from training.alignment.methods.guarded import GuardedReward, numbered
from training.alignment.methods.method import Chance
from training.alignment.pool import Pool
from training.alignment.served import Served
from training.alignment.student import Student
from training.objectives.guards import dispersion
from vouch.recipes import Alignment


class Draft:
    """DRaFT-K passes the gradient through the last `gradient_steps`. With views > 0 it is DRaFT-LV (section 3.3):
    through the last step alone, from so many noised copies of each clean image, for less variance at the cost of one
    sampling.

    Prompts are those of the rated images. Images are drawn as they are served, in `sample_steps` where that is set.
    With `novelty` a batch is of few prompts, and pays for differing less, in the reward's features, than images of one
    prompt did before.
    """

    def __init__(self, student: Student, pool: Pool, config: Alignment) -> None:
        self._student, self._pool, self._config = student, pool, config
        self._walker = Served.of(student, config).walker(student, config.sample_steps)
        self._reward = GuardedReward(student, config, self._usual_spread() if config.novelty else 0.0)

    def loss(self, chance: Chance) -> torch.Tensor:
        prompts = self._prompts(chance, self._config.batch)
        last = 0 if self._config.views else self._config.gradient_steps
        drawn = self._walker.walk(prompts, chance.random, last).clean
        found = [self._again(drawn, prompts, chance) for _ in range(self._config.views)] or [drawn]
        return torch.stack([self._guarded(one, prompts, chance) for one in found]).mean()

    def _prompts(self, chance: Chance, count: int) -> list[str]:
        if not self._config.novelty:
            return self._pool.prompts_of(chance.rows(self._pool, count))
        groups = min(self._config.groups, max(1, count // 2))
        asked = self._pool.prompts_of(chance.rows(self._pool, groups))
        return [asked[place % groups] for place in range(count)]

    @torch.no_grad()
    def _usual_spread(self) -> float:
        """How different images of one prompt are before anything is learned."""
        chance = Chance.of(self._config.seed, 0)
        prompts = self._prompts(chance, self._config.watched)
        images = self._student.decode(self._walker.walk(prompts, chance.random).clean)
        return float(dispersion(self._student.features(images), numbered(prompts)).mean())

    def _again(self, drawn: torch.Tensor, prompts: list[str], chance: Chance) -> torch.Tensor:
        """One view: noised to where the last step begins, and predicted clean again."""
        timesteps = torch.full((len(drawn),), max(int(self._walker.path.timestep[-1]), 1))
        noise = torch.randn(drawn.shape, generator=chance.random)
        noised = self._student.noised(drawn, prompts, timesteps, noise)
        return self._student.clean(self._student.says(noised), noised.x, timesteps)

    def _guarded(self, found: torch.Tensor, prompts: list[str], chance: Chance) -> torch.Tensor:
        """With the guards on the image noised to any timestep, for all of them share the weights."""
        clean = found.detach()
        noised = self._student.noised(clean, prompts, *self._student.noise(clean, chance.random))
        return self._reward.loss(found, prompts, noised, self._student.says(noised), chance)
