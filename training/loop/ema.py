"""Exponential moving average of weights."""

from __future__ import annotations

import torch
from torch import nn


class Ema:
    """Averages a module's parameters; the average is what is published.

    The decay warms up as (1+n)/(10+n), so that the first steps' random weights are soon forgotten.
    """

    def __init__(self, modules: list[nn.Module], decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.sources = [p for m in modules for p in m.parameters() if p.requires_grad]
        self.shadow = [p.detach().clone() for p in self.sources]

    @torch.no_grad()
    def update(self) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self.shadow, [p.detach() for p in self.sources], 1.0 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchanges live weights and averages; call it again to go back."""
        for source, shadow in zip(self.sources, self.shadow, strict=True):
            kept = source.detach().clone()
            source.copy_(shadow)
            shadow.copy_(kept)

    def state_dict(self) -> dict[str, object]:
        return {"updates": self.updates, "shadow": list(self.shadow)}

    def load_state_dict(self, state: dict) -> None:
        self.updates = int(state["updates"])
        for shadow, saved in zip(self.shadow, state["shadow"], strict=True):
            shadow.copy_(saved)
