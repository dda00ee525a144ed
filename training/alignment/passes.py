"""What an alignment computes, counted: the currency in which methods are compared."""

from __future__ import annotations

from typing import Any

from torch import nn


class Passes:
    """Images that went forward through the networks, and those of them whose gradient is to come back."""

    def __init__(self, *networks: nn.Module) -> None:
        self.forward = self.backward = 0
        for network in networks:
            network.register_forward_hook(self._count)

    def _count(self, network: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        del network
        self.forward += len(inputs[0])
        self.backward += len(inputs[0]) if output.sample.requires_grad else 0
