"""Fresh images: drawn by the student as it is served, learned from for some steps, and then drawn anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from training.alignment.pool import Pool
from training.alignment.served import ServingDefaults
from training.alignment.step_rng import StepRng
from training.alignment.student import Noised, Student
from training.objectives.guards import dispersion
from training.objectives.nft import normalised
from training.objectives.reward_gradient import conservative
from vouch.recipes.alignment import Alignment, RoundSettings

DRAWN_AT_ONCE = 32


@dataclass(frozen=True)
class Round:
    """Latents [N, C, h, w] of N images with their prompts, how good each is among those of its prompt, in [0, 1] [N],
    how far the members disagree about it [N], and the weights that drew them."""

    latents: torch.Tensor
    prompts: tuple[str, ...]
    goodness: torch.Tensor
    disagreement: torch.Tensor
    weights: tuple[torch.Tensor, ...]


class Rounds:
    """`groups` prompts of the rated images, several seeds each.

    An image is as good as its cautious reward, plus `novelty` times its mean distance to the others of its prompt in
    the reward's features, each in standard deviations (diversity within a group, after DRIFT, arXiv 2601.12401).
    """

    def __init__(self, student: Student, pool: Pool, config: Alignment, settings: RoundSettings) -> None:
        self._student, self._pool = student, pool
        self._settings, self._std_penalty = settings, config.std_penalty
        self.served = ServingDefaults.of(student, config)
        self._sampler = self.served.sampler(student, settings.sample_steps)
        self._round: Round | None = None
        self._used = 0

    def now(self, rng: StepRng) -> Round:
        """The round that this step learns from."""
        if self._round is None or self._used >= self._settings.round_steps:
            self._round, self._used = self._drawn(rng), 0
        self._used += 1
        return self._round

    @torch.no_grad()
    def _drawn(self, rng: StepRng) -> Round:
        settings, student = self._settings, self._student
        chosen = self._pool.prompts_of(rng.rows(self._pool, settings.groups))
        prompts = [chosen[place % settings.groups] for place in range(settings.round_images)]
        latents, logits, features = [], [], []
        for first in range(0, len(prompts), DRAWN_AT_ONCE):
            some = prompts[first : first + DRAWN_AT_ONCE]
            latents.append(self._sampler.sample(some, rng.torch).clean)
            images = student.decode(latents[-1])
            logits.append(student.teacher_logits(images, some))
            features.append(student.features(images))
        rewards, groups = torch.cat(logits, 1), torch.arange(len(prompts)) % settings.groups
        return Round(
            torch.cat(latents),
            tuple(prompts),
            goodness(conservative(rewards, self._std_penalty), torch.cat(features), groups, settings.novelty),
            rewards.std(0, unbiased=False),
            tuple(weight.detach().clone() for weight in student.trained),
        )

    def outputs(self, round_: Round, rows: list[int], rng: StepRng) -> Outputs:
        """What the student and the version that drew the images say of them, guided as they were drawn."""
        student, clean = self._student, round_.latents[rows]
        prompts = [round_.prompts[row] for row in rows]
        timesteps, noise = student.noise(clean, rng.torch)
        scale = self.served.scales(timesteps, len(student.alphas))
        with torch.no_grad(), student.with_weights(round_.weights):
            old = student.predict(student.noised(clean, prompts, timesteps, noise))
            # Guidance leads away from what the old weights say: no gradient may gain by spoiling that.
            without = student.predict(student.noised(clean, [""] * len(rows), timesteps, noise))
        noised = student.noised(clean, prompts, timesteps, noise)
        output = student.predict(noised)
        guided = [without + scale * (own - without) for own in (output, old)]
        return Outputs(noised, output, *guided)

    def state_dict(self) -> dict[str, Any]:
        return {"round": None if self._round is None else vars(self._round), "used": self._used}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._round = Round(**state["round"]) if state["round"] else None
        self._used = state["used"]


@dataclass(frozen=True)
class Outputs:
    """Of the same noised latents: what the student says without guidance, and guided [N, C, h, w]; what the version
    that drew them said, guided."""

    noised: Noised
    plain: torch.Tensor
    guided: torch.Tensor
    old: torch.Tensor


def goodness(
    rewards: torch.Tensor, features: torch.Tensor, groups: torch.Tensor, novelty: float
) -> torch.Tensor:
    """How good each image is among those of its group, [N] in [0, 1]; rewards and groups [N], features [N, D]."""
    value = _standard(rewards, groups)
    if novelty:
        value = value + novelty * _standard(dispersion(features, groups), groups)
    return normalised(value, groups, 1.0)


def _standard(values: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """Less their group's mean, in the standard deviation that is left over all groups."""
    count = torch.bincount(groups).clamp(min=1)
    centred = values - (torch.bincount(groups, values) / count)[groups].to(values.dtype)
    return centred / centred.std(unbiased=False).clamp(min=1e-6)
