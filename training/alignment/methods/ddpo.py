"""DDPO: policy gradients on the steps of the sampler, for any reward (Black et al. 2023, arXiv 2305.13301)."""

from __future__ import annotations

import torch

from training.alignment.methods.method import Method
from training.alignment.pool import Pool
from training.alignment.sample_path import Transition
from training.alignment.served import ServingDefaults
from training.alignment.step_rng import StepRng
from training.alignment.student import Student
from training.objectives.ddpo import advantages, ddpo_loss, log_probability
from training.objectives.reward_gradient import conservative
from vouch.recipes import Alignment


class Ddpo(Method):
    """Every step draws afresh, so the policy that is improved is the one that drew. `gradient_steps` of the sampler's
    steps, chosen at random, carry the gradient. Rewards are cautious; advantages are counted within each of the
    `groups` of one prompt.

    The policy is the guided sampler: images are drawn, and a step's probability is counted, with guidance as it is
    served.
    """

    def __init__(self, student: Student, pool: Pool, config: Alignment) -> None:
        self._student, self._pool, self._config = student, pool, config
        served = ServingDefaults.of(student, config)
        self._sampler = served.sampler(student, config.ddpo.sample_steps, eta=1.0)

    def loss(self, rng: StepRng) -> torch.Tensor:
        batch, groups = self._config.batch, self._config.ddpo.groups
        chosen = self._pool.prompts_of(rng.rows(self._pool, groups))
        prompts = [chosen[place % groups] for place in range(batch)]
        path = self._sampler.sample(prompts, rng.torch)
        gains = advantages(self._rewards(path.clean, prompts), torch.arange(batch) % groups)
        # A step without noise has no probability to change, and what the base draws is not the student's.
        noisy = [
            transition
            for transition in path.transitions
            if self._sampler.trajectory.noise_weight[transition.step] > 0
            and transition.step >= self._sampler.adapted_from
        ]
        steps = rng.python.sample(noisy, min(self._config.ddpo.gradient_steps, len(noisy)))
        return torch.stack([self._improved(transition, prompts, gains) for transition in steps]).mean()

    @torch.no_grad()
    def _rewards(self, latents: torch.Tensor, prompts: list[str]) -> torch.Tensor:
        logits = self._student.teacher_logits(self._student.decode(latents), prompts)
        return conservative(logits, self._config.std_penalty)

    def _improved(self, transition: Transition, prompts: list[str], gains: torch.Tensor) -> torch.Tensor:
        mean, deviation = self._sampler.distribution(transition, prompts)
        loss = ddpo_loss(log_probability(transition.after, mean, deviation), gains)
        if not self._config.anchor:
            return loss
        with torch.no_grad():
            usual, _ = self._sampler.distribution(transition, prompts, of_parent=True)
        # The Kullback-Leibler divergence of two normal distributions of one deviation, per dimension.
        divergence = ((mean - usual) ** 2).flatten(1).mean(1) / (2 * deviation**2)
        return loss + self._config.anchor * divergence.mean()
