"""Dropout in the residual blocks of a U-Net that learns, as in pre-training.

`UNet2DConditionModel.from_pretrained(folder, dropout=p)` puts it into the same layers. It acts in training steps alone:
validation, drawing, and what the base says of its own images see all activations.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from diffusers.models.resnet import ResnetBlock2D
from torch import nn


@contextmanager
def dropping(network: nn.Module, probability: float) -> Iterator[None]:
    """Within it the network's residual blocks drop activations with this probability; 0 leaves them as they are."""
    layers: list[Any] = (
        [block.dropout for block in network.modules() if isinstance(block, ResnetBlock2D)]
        if probability
        else []
    )
    before = [(layer.p, layer.training) for layer in layers]
    for layer in layers:
        layer.p, layer.training = probability, True
    try:
        yield
    finally:
        for layer, (own, training) in zip(layers, before, strict=True):
            layer.p, layer.training = own, training
