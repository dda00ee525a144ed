"""Tutors of a concept: small networks that tell it from the rest of its class, and whose gradients can be followed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional as F

from training import checkpoint
from training.attributes import augment
from training.concepts.sublabels import SubLabelled
from training.data import to_unit
from training.placing import place
from training.randomness import tensors
from training.session import Session
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
    seeing: Sequence[Eye], found: SubLabelled, config: ConceptLearning, session: Session
) -> tuple[Tutors, float]:
    """A tutor of each eye, and the AUROC of the last on sub-labels that it did not learn: a fifth is held out from it,
    for what validates should know what the others do not. Each is kept in the run's folder."""
    known, held = found.apart(HELD_OUT, config.seed)
    tutors = [
        _kept(number, eye, known if number == len(seeing) - 1 else found, config, session)
        for number, eye in enumerate(seeing)
    ]
    return Tutors(tutors), _auroc(tutors[-1], held)


def _kept(number: int, eye: Eye, found: SubLabelled, config: ConceptLearning, session: Session) -> Tutor:
    """One tutor, learned or as an earlier attempt left it."""
    session.report(0, config.tutor_steps, f"tutor {number + 1} learns to tell {config.concept} apart")
    torch.manual_seed(tensors(config.seed, "tutor", number).initial_seed())  # of dropout
    tutor, folder = Tutor(eye), session.folder / "tutors" / str(number)
    place([tutor.backbone, tutor.head], session.device)
    before = checkpoint.load_latest(folder)
    if session.team.agree(before is not None):
        assert before is not None, f"{folder} has to be the same folder for every worker"
        tutor.load_state_dict(before[1])
    else:
        _learn(tutor, found, config, f"{config.seed}/{number}")
        if session.team.leads:
            checkpoint.save(folder, config.tutor_steps, tutor.state_dict())
    return tutor.eval().requires_grad_(False)


def _learn(tutor: Tutor, found: SubLabelled, config: ConceptLearning, seed: str) -> None:
    """Batches hold as many of either side, whatever their share."""
    tutor.learns()
    groups = [
        {"params": tutor.backbone.parameters(), "lr": LR},
        {"params": tutor.head.parameters(), "lr": HEAD_LR},
    ]
    steps = config.tutor_steps
    optimizer = torch.optim.AdamW(groups, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [LR, HEAD_LR], total_steps=steps + 1, pct_start=0.2
    )
    sides = found.sides()
    for step in range(1, steps + 1):
        random = tensors(seed, "tutor", step)
        rows = [side[torch.randint(len(side), (BATCH // 2,), generator=random)] for side in sides]
        said = tutor(augment(found.images[torch.cat(rows)], config.symmetric, random))
        loss = F.binary_cross_entropy_with_logits(said, _wanted())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(tutor.parameters(), 2.0)
        optimizer.step()
        schedule.step()


@torch.no_grad()
def _auroc(tutor: Tutor, held: SubLabelled) -> float:
    said = tutor(to_unit(held.images)).numpy()
    return float(roc_auc_score(held.said.numpy() > 0.5, said))


def _wanted() -> torch.Tensor:
    """Yes for the first half of a batch, no for the second, neither quite."""
    yes = (torch.arange(BATCH) < BATCH // 2).float()
    return yes * (1 - SMOOTHING) + SMOOTHING / 2
