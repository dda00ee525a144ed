"""Tutors of a concept: small networks that tell it from the rest of its class, and whose gradients can be followed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from training.attributes import augment
from training.concepts.sublabels import SubLabelled
from training.placing import place
from training.randomness import tensors
from vouch.networks.attributes import AttributeNet
from vouch.networks.backbone import fit_size
from vouch.networks.reward import RewardEnsemble

BATCH = 32
LR, HEAD_LR = 3e-4, 5e-3
"""What knows cells already moves less than what knows nothing."""
DROPOUT, SMOOTHING = 0.3, 0.05
"""There are few sub-labels, and some are wrong."""


@dataclass(frozen=True)
class Eye:
    """What makes images [N, 3, S, S] in [-1, 1] ready for `backbone`, which turns them into features [N, width]."""

    look: Callable[[torch.Tensor], torch.Tensor]
    backbone: nn.Module
    width: int


class Tutor(nn.Module):
    """Images in [-1, 1] to the logit of the concept, [N]. It begins as a copy of a network that knows the cells."""

    def __init__(self, eye: Eye) -> None:
        super().__init__()
        self._look = eye.look
        self.backbone = copy.deepcopy(eye.backbone).requires_grad_(True)
        self.head = nn.Sequential(nn.Dropout(DROPOUT), nn.Linear(eye.width, 1))
        nn.init.zeros_(self.head[1].weight)
        nn.init.zeros_(self.head[1].bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(self.backbone(self._look(images)))
        return found.squeeze(1)

    def learns(self) -> None:
        """Dropout is on; batch statistics stay those of the many images that the network learned from before."""
        self.train()
        for part in self.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.eval()


class Tutors:
    """An ensemble. Of three or more the last teaches nothing: it validates, as of a reward's members the last does."""

    def __init__(self, members: Sequence[Tutor]) -> None:
        self._teach = list(members[:-1] if len(members) > 2 else members)
        self._validate = members[-1]

    def verdicts(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [K, N] of those that teach; differentiable."""
        return torch.stack([member(images) for member in self._teach])

    @torch.no_grad()
    def examined(self, images: torch.Tensor) -> torch.Tensor:
        """The probability [N] that the one gives which nothing is trained against."""
        return self._validate(images).sigmoid()


def eyes(reward: RewardEnsemble, rater: AttributeNet | None) -> list[Eye]:
    """Of every network at hand: the rater's, where there is one, and each of the reward's members'."""
    found = [Eye(reward.look, member.backbone, member.width) for member in reward.members]
    if rater is None:
        return found
    size = rater.size
    return [Eye(lambda images: fit_size(images, size), rater.backbone, rater.widths[-1]), *found]


def learn_tutors(
    seeing: Sequence[Eye], found: SubLabelled, steps: int, symmetric: bool, seed: int, device: str = "cpu"
) -> Iterator[Tutor]:
    """One of each eye, learned from the sub-labels."""
    for number, eye in enumerate(seeing):
        yield _learned(Tutor(eye), found, steps, symmetric, f"{seed}/{number}", device)


def _learned(tutor: Tutor, found: SubLabelled, steps: int, symmetric: bool, seed: str, device: str) -> Tutor:
    """Batches hold as many of either side, whatever their share."""
    torch.manual_seed(tensors(seed, "tutor").initial_seed())  # of dropout
    place([tutor.backbone, tutor.head], device)
    tutor.learns()
    groups = [
        {"params": tutor.backbone.parameters(), "lr": LR},
        {"params": tutor.head.parameters(), "lr": HEAD_LR},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [LR, HEAD_LR], total_steps=steps + 1, pct_start=0.2
    )
    sides = [found.told[found.said[found.told] > 0.5], found.told[found.said[found.told] <= 0.5]]
    for step in range(1, steps + 1):
        random = tensors(seed, "tutor", step)
        rows = [side[torch.randint(len(side), (BATCH // 2,), generator=random)] for side in sides]
        said = tutor(augment(found.images[torch.cat(rows)], symmetric, random))
        loss = F.binary_cross_entropy_with_logits(said, _wanted())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(tutor.parameters(), 2.0)
        optimizer.step()
        schedule.step()
    return tutor.eval().requires_grad_(False)


def _wanted() -> torch.Tensor:
    """Yes for the first half of a batch, no for the second, neither quite."""
    yes = (torch.arange(BATCH) < BATCH // 2).float()
    return yes * (1 - SMOOTHING) + SMOOTHING / 2
