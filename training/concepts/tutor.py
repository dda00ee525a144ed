"""A tutor: a small network that tells a concept from the rest of its class."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

DROPOUT = 0.3
"""There are few sub-labels."""


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
