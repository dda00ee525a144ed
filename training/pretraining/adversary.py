"""The adversarial term of an autoencoder: a discriminator, its optimiser, and how strongly it pulls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from training.loop.gradient_step import gradient_step
from training.loop.worker_group import WorkerGroup
from training.objectives import reconstruction
from training.pretraining.discriminator import Discriminator, Observed
from training.pretraining.precision import Precision, autocast


class Adversary:
    """Tells real patches from restored ones, and says which way restored images look more real (Esser et al. 2021,
    arXiv 2012.09841, equation 7)."""

    def __init__(
        self,
        discriminator: Discriminator,
        *,
        lr: float,
        weight: float,
        precision: Precision,
        device: str,
        group: WorkerGroup,
    ) -> None:
        self.lr, self.weight, self.precision, self.device, self.group = lr, weight, precision, device, group
        self.discriminator = discriminator.to(device, memory_format=torch.channels_last)
        self.parameters = list(self.discriminator.parameters())
        self.optimizer = torch.optim.AdamW(self.parameters, lr=lr, betas=(0.5, 0.9))

    def gradient(
        self,
        fake: Observed,
        restored: torch.Tensor,
        reconstruction_gradient: torch.Tensor,
        last: torch.Tensor,
    ) -> torch.Tensor:
        """Of the weighted adversarial loss with respect to `fake.images` [N, 3, H, W], a leaf of its own graph.

        Args:
            restored: the same images, in the graph of the decoder.
            reconstruction_gradient: of the other losses, likewise. The weight balances both at `last`.
            last: weights of the last layer of the decoder.
        """
        with autocast(self.precision, self.device):
            scores = self.discriminator(fake)
        score = balanced([one.float().mean() for one in scores])
        (gradient,) = torch.autograd.grad(-score, fake.images)
        at_last = [
            torch.autograd.grad(restored, last, one, retain_graph=True)[0]
            for one in (reconstruction_gradient, gradient)
        ]
        return self.weight * reconstruction.adaptive_weight(*at_last) * gradient

    def update(self, real: Observed, fake: Observed) -> torch.Tensor:
        """One step of the discriminator; returns its hinge loss: 2 where it sees no difference, 0 where it sees all."""
        with autocast(self.precision, self.device):
            pairs = zip(self.discriminator(real), self.discriminator(fake.detach()), strict=True)
            losses = [reconstruction.hinge_discriminator_loss(a.float(), b.float()) for a, b in pairs]
        loss = balanced(losses)
        for parameters in self.optimizer.param_groups:  # a resumed run may have another setting
            parameters["lr"] = self.lr
        gradient_step(loss, self.optimizer, self.parameters, self.group)
        return loss.detach()

    def state_dict(self) -> dict[str, Any]:
        return {"discriminator": self.discriminator.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.discriminator.load_state_dict(state["discriminator"])
        self.optimizer.load_state_dict(state["optimizer"])


def balanced(values: Sequence[torch.Tensor]) -> torch.Tensor:
    """The mean of what the pixels say (the first) and of what all levels of features say together. In a plain mean the
    pixels of four levels' company count a fifth, and the finest frequencies keep 0.62 of real's power."""
    pixels, *features = values
    return (pixels + torch.stack(features).mean()) / 2 if features else pixels
