"""Which parts of a foundation model learn, how they read captions, and how the result is written.

A recipe is a `Tuning`; `TUNINGS` names them. Everything else of a training is the same for all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from training.adaptation.config import AdaptConfig
from training.adaptation.foundation import Foundation
from vouch.models.defaults import Defaults


class Tuning(ABC):
    """The parts of a foundation model that learn.

    `groups` are the optimiser's: weights with a learning rate each. A subclass that trains no weight of the U-Net or of
    the text encoder leaves both frozen, as `Foundation` made them.
    """

    def __init__(self, base: Foundation, config: AdaptConfig) -> None:
        self.base, self.config = base, config
        self.groups: list[dict[str, Any]] = []
        if config.checkpointing:  # whatever learns, its gradients pass through the U-Net
            base.pipe.unet.enable_gradient_checkpointing()

    @property
    def weights(self) -> list[nn.Parameter]:
        """All that is trained."""
        return [weight for group in self.groups for weight in group["params"]]

    def worded(self, caption: str) -> str:
        """The caption of a training image as this recipe says it: after the rare word, where there is one."""
        return f"{self.config.token} {caption}" if self.config.token and caption else caption

    def check_captions(self, captions: Iterable[str]) -> None:
        """Raises InvalidInput where the recipe could not learn from these; by default it can from any."""
        del captions

    def embed(self, captions: Sequence[str]) -> torch.Tensor:
        """[N, L, D] of captions that are worded already."""
        return self.base.embed(captions)

    def predict(self, x: torch.Tensor, timesteps: torch.Tensor, captions: Sequence[str]) -> torch.Tensor:
        """The U-Net's output [N, C, h, w], with gradients."""
        embedded = self.embed(captions)
        output: torch.Tensor = self.base.pipe.unet(x, timesteps.to(x.device), embedded).sample
        return output

    @abstractmethod
    def as_base(self) -> AbstractContextManager[None]:
        """Within it the model is what it was before it learned."""

    def after_update(self) -> None:
        """What has to hold of the weights after every update is restored here; nothing by default."""
        return

    @abstractmethod
    def save(self, out: Path) -> None:
        """Writes what is published: a LoRA, or a whole diffusers folder."""


def write_defaults(defaults: Defaults, out: Path) -> None:
    """What the result draws with: as its base, but guided by the empty caption where that was guided by a weaker
    network, which has not learned the domain."""
    from dataclasses import replace

    if defaults.options.method == "autoguidance":
        defaults = replace(defaults, options=replace(defaults.options, method="cfg"))
    defaults.save(out)
