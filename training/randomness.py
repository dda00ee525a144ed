"""Randomness by name: the same step of the same run draws the same numbers, resumed or not, in any process."""

from __future__ import annotations

import random

import torch


def numbers(*name: object) -> random.Random:
    """Python's generator for `name`. Example: ``numbers(config.seed, "unet", step)``."""
    return random.Random("/".join(map(str, name)))


def tensors(*name: object, device: torch.device | str = "cpu") -> torch.Generator:
    """Torch's generator for `name`, for tensors on `device`; each kind of device has numbers of its own."""
    return torch.Generator(device).manual_seed(numbers(*name).getrandbits(62))
