"""The reward ensemble in training: what its members learn at one step, and at which rate."""

from __future__ import annotations

from typing import Any

import torch

from training.loop.device_placement import place_on_device
from training.loop.ema import Ema
from training.loop.gradient_step import gradient_step
from training.loop.learning_rates import half_cosine, warm_up
from training.loop.session import TrainingSession
from training.loop.trainer import Trainer
from training.objectives.comparison import bradley_terry
from training.objectives.plausibility import masked_cross_entropy
from training.reward.batches import Batches, ComparisonBatch, PairBatches
from training.reward.config import RewardConfig
from training.reward.recognition import Recognisers
from vouch.models.networks.reward import BACKBONE, RewardEnsemble

PRETRAINED_RATE = 0.1
"""The learning rate of a backbone that was trained before, relative to that of the heads."""


class RewardTrainer(Trainer):
    """The ensemble, the recognisers beside it, their optimiser and the ensemble's average.

    pairs: compared images, None where there are none.
    """

    parts = ("recognisers", "optimizer", "ema")

    def __init__(
        self,
        model: RewardEnsemble,
        batches: Batches,
        pairs: PairBatches | None,
        config: RewardConfig,
        session: TrainingSession,
    ) -> None:
        self.model, self.config, self.group = model, config, session.group
        self.batches, self.pairs = batches, pairs
        self.recognisers = Recognisers(model.vocabulary, model.members[0].width, len(model.members))
        place_on_device((*model.parts(), *self.recognisers.parts()), session.device)
        self.parameters = [*model.parameters(), *self.recognisers.parameters()]
        self.optimizer = torch.optim.AdamW(self._groups(), weight_decay=config.weight_decay)
        self.ema = Ema([model], 0.98)
        model.train()
        if model.backbone is not None and not config.fine_tune:
            model.backbone.eval()

    @property
    def _frozen(self) -> bool:
        """Whether the members stand on a backbone that does not learn."""
        return self.model.backbone is not None and not self.config.fine_tune

    def _groups(self) -> list[dict[str, Any]]:
        """Heads train at the full rate, a backbone that was trained before (a parent's or a foreign one) at
        `PRETRAINED_RATE` of it."""
        model, config = self.model, self.config
        backbones = (
            [] if model.backbone is None else [p for p in model.backbone.parameters() if p.requires_grad]
        )
        if config.parent is not None and config.backbone is None:
            backbones += [p for member in model.members for p in member.backbone.parameters()]
        pretrained = set(map(id, backbones))
        trained = (*model.members.parameters(), *self.recognisers.parameters())
        groups = [{"params": [p for p in trained if id(p) not in pretrained], "lr": config.lr}]
        return [*groups, {"params": backbones, "lr": config.lr * PRETRAINED_RATE}] if backbones else groups

    def rate(self, done: float, step: int) -> float:
        return warm_cosine(step, self.config.steps)

    def step(self, step: int, done: float) -> dict[str, float]:
        del done
        losses = [loss for number in range(len(self.model.members)) for loss in self._losses(number, step)]
        loss = torch.stack(losses).sum()
        clipped = list(self.model.parameters())
        gradient_step(loss, self.optimizer, self.parameters, self.group, 2.0, clipped)
        self.ema.update()
        return {"loss": float(loss.detach())}

    def _losses(self, number: int, step: int) -> list[torch.Tensor]:
        """Of one member: verdict and criteria, class and attributes, and comparisons where there are some."""
        member, batch = self.model.members[number], self.batches.batch(number, step)
        features = member.backbone(self._backbone_input(batch.seen))
        losses = [
            masked_cross_entropy(member.judge(features, batch.prompts), batch.targets),
            self.config.recognise * self.recognisers.loss(number, features, batch.facts),
        ]
        return (
            losses
            if self.pairs is None
            else [*losses, self._preference(member, self.pairs.batch(number, step))]
        )

    def _backbone_input(self, batch: torch.Tensor) -> torch.Tensor:
        """Features that are known already are [N, F]; images pass the backbone that the members share."""
        return batch if batch.ndim == 2 else self.model.look(batch)

    def _preference(self, member: torch.nn.Module, pair: ComparisonBatch) -> torch.Tensor:
        first = member(self._backbone_input(pair.first), pair.first_prompts)[:, 0]
        second = member(self._backbone_input(pair.second), pair.second_prompts)[:, 0]
        return bradley_terry(first, second, pair.preferred)

    def state_dict(self) -> dict[str, Any]:
        """Without a frozen backbone: that is read from its own folder again."""
        model = self.model.state_dict()
        learned = {k: v for k, v in model.items() if not (self._frozen and k.startswith(f"{BACKBONE}."))}
        return super().state_dict() | {"model": learned}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.model.load_state_dict(state["model"], strict=False)


def warm_cosine(step: int, steps: int) -> float:
    """Share of the peak learning rate: 20 steps up, then half a cosine down to a fiftieth."""
    return warm_up(step, 20) * half_cosine(step / steps, 0.02)
