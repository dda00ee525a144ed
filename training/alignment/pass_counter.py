"""What an alignment computes, counted: the currency in which methods are compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn


class PassCounter:
    """Images that went forward through the networks, and those of them whose gradient is to come back."""

    def __init__(self, *networks: nn.Module) -> None:
        self.forward = self.backward = 0
        for network in networks:
            network.register_forward_hook(self._count)

    def _count(self, network: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        del network
        self.forward += len(inputs[0])
        self.backward += len(inputs[0]) if output.sample.requires_grad else 0

    def state_dict(self) -> dict[str, int]:
        return {"forward": self.forward, "backward": self.backward}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        self.forward, self.backward = state["forward"], state["backward"]
