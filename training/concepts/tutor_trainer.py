"""One tutor in training."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from training.concepts.sublabels import SubLabelled
from training.concepts.tutor import Tutor, TutorBackbone
from training.data.augmentation import augment
from training.loop.device_placement import place_on_device
from training.loop.gradient_step import gradient_step
from training.loop.learning_rates import cycle_momentum, one_cycle
from training.loop.session import TrainingSession
from training.loop.trainer import Trainer
from training.randomness import tensors
from vouch.recipes import ConceptLearning

BATCH = 32
LR, HEAD_LR = 3e-4, 5e-3
"""The backbone was trained before, the head was not."""
SMOOTHING = 0.05
"""Of the targets: some sub-labels are wrong."""


class TutorTrainer(Trainer):
    """One tutor. Batches hold as many of either side, whatever their share."""

    parts = ("tutor", "optimizer")

    def __init__(
        self,
        number: int,
        backbone: TutorBackbone,
        images: SubLabelled,
        config: ConceptLearning,
        session: TrainingSession,
    ) -> None:
        self.number, self.config, self.group = number, config, session.group
        self.images, self.sides = images.images, images.sides()
        self.tutor = Tutor(backbone)
        place_on_device([self.tutor.backbone, self.tutor.head], session.device)
        self.tutor.learns()
        self.parameters = list(self.tutor.parameters())
        groups = [
            {"params": list(self.tutor.backbone.parameters()), "lr": LR},
            {"params": list(self.tutor.head.parameters()), "lr": HEAD_LR},
        ]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=0.05)

    def rate(self, done: float, step: int) -> float:
        return one_cycle(done)

    def step(self, step: int, done: float) -> dict[str, float]:
        cycle_momentum(self.optimizer, one_cycle(done))
        random = tensors(f"{self.group.rank_seed(self.config.seed)}/{self.number}", "tutor", step)
        torch.manual_seed(random.initial_seed())  # a resumed run drops the same
        count = self.group.batch_share(BATCH // 2)
        rows = [side[torch.randint(len(side), (count,), generator=random)] for side in self.sides]
        logits = self.tutor(augment(self.images[torch.cat(rows)], self.config.symmetric, random))
        loss = F.binary_cross_entropy_with_logits(logits, _targets(count))
        gradient_step(loss, self.optimizer, self.parameters, self.group, limit=2.0)
        return {"loss": float(loss.detach())}


def _targets(count: int) -> torch.Tensor:
    """[2 · count]: yes for the first half of a batch, no for the second, neither quite."""
    yes = (torch.arange(2 * count) < count).float()
    return yes * (1 - SMOOTHING) + SMOOTHING / 2
