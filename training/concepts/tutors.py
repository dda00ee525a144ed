"""Tutors of a concept: small networks that tell it from the rest of its class, and whose gradients can be followed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from sklearn.metrics import roc_auc_score

from training.concepts.sublabels import SubLabelled
from training.concepts.tutor import Tutor, TutorBackbone
from training.concepts.tutor_trainer import TutorTrainer
from training.data.augmentation import to_unit
from training.loop.session import TrainingSession
from training.loop.training_loop import TrainingLoop
from vouch.models.networks.attributes import AttributeNet
from vouch.models.networks.backbone import fit_size
from vouch.models.networks.reward import RewardEnsemble
from vouch.recipes import ConceptLearning

CHECKPOINT_EVERY = 100
HELD_OUT = 0.2
"""Share of either side's sub-labels that the last tutor does not learn."""


LEAST_AUROC = 0.6
"""Tutors that tell no better than this would lead practice anywhere; it is then left out."""


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
        trainer, session, message, folder, config.tutor_steps,
        checkpoint_every=CHECKPOINT_EVERY, metrics_prefix=f"tutor_{number}_",
    ).run()  # fmt: skip
    return trainer.tutor.eval().requires_grad_(False)


@torch.no_grad()
def _auroc(tutor: Tutor, held: SubLabelled) -> float:
    logits = tutor(to_unit(held.images)).numpy()
    return float(roc_auc_score(held.probability.numpy() > 0.5, logits))
