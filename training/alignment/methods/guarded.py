"""A differentiable reward with the guards against its errors."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from training.alignment.methods.method import Chance
from training.alignment.student import Noised, Student
from training.data import dihedral
from training.objectives.guards import anchor_loss, dispersion, narrowing
from training.objectives.reward_gradient import reward_loss
from vouch.recipes import Alignment


class GuardedReward:
    """The cautious reward of clean latents, an anchor to the parent that is stronger where the ensemble disagrees, and
    a price on drawing less variety than the parent does. usual_spread: how different images of one prompt are before
    anything is learned, in the reward's features; 0: nothing is asked of that."""

    def __init__(self, student: Student, config: Alignment, usual_spread: float = 0.0) -> None:
        self._student, self._config, self._usual_spread = student, config, usual_spread

    def loss(
        self,
        latents: torch.Tensor,
        prompts: Sequence[str],
        noised: Noised,
        output: torch.Tensor,
        chance: Chance,
    ) -> torch.Tensor:
        """latents [N, C, h, w]: what the reward is asked about. output: what the student says of `noised`, where it is
        compared with its parent."""
        config, student = self._config, self._student
        images = student.decode(latents)
        # Turned at random, no pattern that fools the reward in one position pays.
        images = dihedral(images, chance.random) if config.symmetric else images
        logits = student.verdicts(images, prompts)
        reference = student.parent_says(noised)
        anchor = anchor_loss(output, reference, logits.std(0, unbiased=False), config.doubt)
        ours, theirs = (student.clean(said, noised.x, noised.timesteps) for said in (output, reference))
        lost = config.diversity * narrowing(ours, theirs, numbered(prompts))
        if self._usual_spread:
            spread = dispersion(student.features(images), numbered(prompts)).mean()
            lost = lost + config.novelty * torch.relu(1 - spread / self._usual_spread)
        return reward_loss(logits, config.caution) + config.anchor * anchor + lost


def numbered(prompts: Sequence[str]) -> torch.Tensor:
    """Equal numbers for equal classes."""
    labels = [prompt.partition(",")[0].strip() for prompt in prompts]
    known = sorted(set(labels))
    return torch.tensor([known.index(label) for label in labels])
