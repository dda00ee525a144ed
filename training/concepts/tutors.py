"""Tutors of a concept: small networks that tell it from the rest of its class, and whose gradients can be followed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional as F

from training.concepts.sublabels import SubLabelled
from training.data.augmentation import augment, to_unit
from training.loop.device_placement import place_on_device
from training.loop.gradient_step import gradient_step
from training.loop.learning_rates import cycle_momentum, one_cycle
from training.loop.session import TrainingSession
from training.loop.trainer import Trainer
from training.loop.training_loop import TrainingLoop
from training.randomness import tensors
from vouch.models.networks.attributes import AttributeNet
from vouch.models.networks.backbone import fit_size
from vouch.models.networks.reward import RewardEnsemble
from vouch.recipes import ConceptLearning

BATCH = 32
HELD_OUT = 0.2
"""Share of either side's sub-labels that the last tutor does not learn."""
LEAST_AUROC = 0.6
"""Tutors that tell no better than this would lead practice anywhere; it is then left out."""
LR, HEAD_LR = 3e-4, 5e-3
"""What knows cells already moves less than what knows nothing."""
DROPOUT, SMOOTHING = 0.3, 0.05
"""There are few sub-labels, and some are wrong."""


@dataclass(frozen=True)
class TutorBackbone:
    """What makes images [N, 3, S, S] in [-1, 1] ready for `backbone`, which turns them into features [N, width]."""

    look: Callable[[torch.Tensor], torch.Tensor]
    backbone: nn.Module
    width: int


class Tutor(nn.Module):
    """Images in [-1, 1] to the logit of the concept, [N]. It begins as a copy of a network that knows the cells."""

    def __init__(self, source: TutorBackbone) -> None:
        super().__init__()
        self._look = source.look
        self.backbone = copy.deepcopy(source.backbone).requires_grad_(True)
        self.head = nn.Sequential(nn.Dropout(DROPOUT), nn.Linear(source.width, 1))
        nn.init.zeros_(self.head[1].weight)
        nn.init.zeros_(self.head[1].bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.backbone(self._look(images)))
        return logits.squeeze(1)

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

    def teacher_logits(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [K, N] of those that teach; differentiable."""
        return torch.stack([member(images) for member in self._teach])

    @torch.no_grad()
    def validation_reward(self, images: torch.Tensor) -> torch.Tensor:
        """The probability [N] that the one gives which nothing is trained against."""
        return self._validate(images).sigmoid()


def tutor_backbones(reward: RewardEnsemble, rater: AttributeNet | None) -> list[TutorBackbone]:
    """Of every network at hand: the rater's, where there is one, and each of the reward's members'."""
    backbones = [TutorBackbone(reward.look, member.backbone, member.width) for member in reward.members]
    if rater is None:
        return backbones
    size = rater.size
    return [
        TutorBackbone(lambda images: fit_size(images, size), rater.backbone, rater.widths[-1]),
        *backbones,
    ]


def learn_tutors(
    backbones: Sequence[TutorBackbone], images: SubLabelled, config: ConceptLearning, session: TrainingSession
) -> tuple[Tutors, float]:
    """A tutor of each backbone, and the AUROC of the last on sub-labels that it did not learn: a fifth is held out from
    it, for what validates should know what the others do not. Each is kept in the run's folder."""
    known, held = images.apart(HELD_OUT, config.seed)
    last = len(backbones) - 1
    tutors = [
        _learned(
            TutorTrainer(number, backbone, known if number == last else images, config, session), session
        )
        for number, backbone in enumerate(backbones)
    ]
    return Tutors(tutors), _auroc(tutors[-1], held)


def _learned(trainer: TutorTrainer, session: TrainingSession) -> Tutor:
    config, number = trainer.config, trainer.number
    message = f"tutor {number + 1} learns to tell {config.concept} apart"
    folder = session.folder / "tutors" / str(number)
    TrainingLoop(
        trainer,
        session,
        message,
        folder,
        config.tutor_steps,
        None,
        config.checkpoint_every,
        f"tutor_{number}_",
    ).run()
    return trainer.tutor.eval().requires_grad_(False)


class TutorTrainer(Trainer):
    """One tutor. Batches hold as many of either side, whatever their share; every worker learns from the same ones."""

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
        random = tensors(f"{self.config.seed}/{self.number}", "tutor", step)
        torch.manual_seed(random.initial_seed())  # a resumed run drops the same
        rows = [side[torch.randint(len(side), (BATCH // 2,), generator=random)] for side in self.sides]
        logits = self.tutor(augment(self.images[torch.cat(rows)], self.config.symmetric, random))
        loss = F.binary_cross_entropy_with_logits(logits, _targets())
        gradient_step(loss, self.optimizer, self.parameters, self.group, limit=2.0)
        return {"loss": float(loss.detach())}


@torch.no_grad()
def _auroc(tutor: Tutor, held: SubLabelled) -> float:
    logits = tutor(to_unit(held.images)).numpy()
    return float(roc_auc_score(held.probability.numpy() > 0.5, logits))


def _targets() -> torch.Tensor:
    """Yes for the first half of a batch, no for the second, neither quite."""
    yes = (torch.arange(BATCH) < BATCH // 2).float()
    return yes * (1 - SMOOTHING) + SMOOTHING / 2
