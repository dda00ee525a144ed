"""Networks on a GPU, and everything else where it is: what goes into one is moved to it, what comes out moved back.

Losses, samplers and random numbers so stay on the CPU, where they are small, and need not know of any device.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map

CPU = torch.device("cpu")


def place_on_device(networks: Iterable[nn.Module | None], device: str) -> None:
    """Moves each network to `device`, "cpu" or "cuda", and with it whatever is given to it from now on. Gradients pass.
    A network that is moved home later works there."""
    for network in networks:
        if network is not None and device != CPU.type:
            network.to(device)
            network.register_forward_pre_hook(_bring, with_kwargs=True)
            network.register_forward_hook(_take_home)


def device_of(network: nn.Module) -> torch.device:
    """Where its weights are; the CPU, if it has none."""
    return next((parameter.device for parameter in network.parameters()), CPU)


def _bring(network: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any]:
    device = device_of(network)
    return tree_map(lambda one: _moved(one, device), (inputs, named))  # type: ignore[no-any-return]


def _take_home(network: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
    del network, inputs
    return tree_map(lambda one: _moved(one, CPU), output)


def _moved(value: Any, device: torch.device) -> Any:
    return value.to(device) if isinstance(value, torch.Tensor) else value
