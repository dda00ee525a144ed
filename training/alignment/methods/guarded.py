"""A differentiable reward with the guards against its errors."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from training.alignment.step_rng import StepRng
from training.alignment.student import Noised, Student
from training.data.augmentation import dihedral
from training.objectives.guards import anchor_loss, dispersion, narrowing
from training.objectives.reward_gradient import reward_loss
from vouch.recipes import Alignment


class GuardedReward:
    """The reward of clean latents less its standard deviation over the ensemble, an anchor to the parent that is
    stronger where the ensemble disagrees, and prices on drawing too little variety.

    Args:
        diversity: price of a batch that varies less than the parent's of the same noise.
        novelty: price of images of one prompt that differ less, in the reward's features, than `usual_spread`, the
            mean distance that they had before training.
    """

    def __init__(
        self,
        student: Student,
        config: Alignment,
        diversity: float,
        novelty: float = 0.0,
        usual_spread: float = 0.0,
    ) -> None:
        self._student, self._config, self._diversity = student, config, diversity
        self._novelty, self._usual_spread = novelty, usual_spread

    def loss(
        self,
        latents: torch.Tensor,
        prompts: Sequence[str],
        noised: Noised,
        output: torch.Tensor,
        rng: StepRng,
    ) -> torch.Tensor:
        """latents [N, C, h, w]: what the reward is asked about. output: what the student says of `noised`, where it is
        compared with its parent."""
        config, student = self._config, self._student
        images = student.decode(latents)
        # Turned at random, no pattern that fools the reward in one position pays.
        images = dihedral(images, rng.torch) if config.symmetric else images
        logits = student.teacher_logits(images, prompts)
        reference = student.predict_parent(noised)
        std = logits.std(0, unbiased=False)
        anchor = anchor_loss(output, reference, std, config.anchor_uncertainty_scale)
        ours, theirs = (student.clean(v, noised.x, noised.timesteps) for v in (output, reference))
        lost = self._diversity * narrowing(ours, theirs, numbered(prompts))
        if self._usual_spread:
            spread = dispersion(student.features(images), numbered(prompts)).mean()
            lost = lost + self._novelty * torch.relu(1 - spread / self._usual_spread)
        return reward_loss(logits, config.std_penalty) + config.anchor * anchor + lost


def numbered(prompts: Sequence[str]) -> torch.Tensor:
    """Equal numbers for equal classes."""
    labels = [prompt.partition(",")[0].strip() for prompt in prompts]
    known = sorted(set(labels))
    return torch.tensor([known.index(label) for label in labels])
