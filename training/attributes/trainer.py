"""An attribute network in training."""

from __future__ import annotations

import torch

from training.attributes.annotations import Annotations
from training.attributes.config import AttributesConfig
from training.data.augmentation import augment
from training.data.examples import Examples
from training.loop.ema import Ema
from training.loop.gradient_step import gradient_step
from training.loop.learning_rates import cycle_momentum, one_cycle
from training.loop.session import TrainingSession
from training.loop.trainer import Trainer
from training.randomness import tensors
from vouch.models.networks.attributes import AttributeNet


class AttributeTrainer(Trainer):
    """An attribute network, its optimiser and its average."""

    parts = ("net", "optimizer", "ema")

    def __init__(self, config: AttributesConfig, examples: Examples, session: TrainingSession) -> None:
        self.config, self.images, self.group = config, examples.images, session.group
        self.net = AttributeNet(examples.vocabulary, config.size, config.widths)
        self.net.to(memory_format=torch.channels_last)
        self.annotations = Annotations(examples, self.net.vocabulary)
        self.parameters = list(self.net.parameters())
        self.optimizer = torch.optim.AdamW(self.parameters, lr=config.lr, weight_decay=0.05)
        self.ema = Ema([self.net], 0.99)

    def rate(self, done: float, step: int) -> float:
        return one_cycle(done)

    def step(self, step: int, done: float) -> dict[str, float]:
        cycle_momentum(self.optimizer, one_cycle(done))
        random_ = tensors(self.config.seed, self.config.split, step)
        rows = torch.randint(0, len(self.images), (self.config.batch,), generator=random_)
        images = augment(self.images[rows], self.config.symmetric, random_)
        loss = self.annotations.loss(self.net(images), rows)
        gradient_step(loss, self.optimizer, self.parameters, self.group, limit=2.0)
        self.ema.update()
        return {"loss": float(loss.detach())}
