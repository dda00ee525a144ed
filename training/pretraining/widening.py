"""More latent channels for an autoencoder and a U-Net that are trained already.

What they know stays: channels that exist keep their weights, whatever reads a new channel begins with weights of zero,
and whatever writes one with random weights. So a widened autoencoder restores at first what the narrow one did, and
the U-Net predicts the same for the channels that it knew.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from vouch.errors import InvalidInput

MOMENTS = ("encoder.conv_out", "quant_conv")
"""Layers of an `AutoencoderKL` that write means and log variances, one half after the other."""
WIDER = (*MOMENTS, "post_quant_conv", "decoder.conv_in", "conv_in", "conv_out")


@torch.no_grad()
def widen(module: nn.Module, narrow: Mapping[str, torch.Tensor]) -> None:
    """Gives an `AutoencoderKL` or a U-Net the weights `narrow` of one with as many or fewer latent channels.

    Raises:
        InvalidInput: the two differ in more than their latent channels.
    """
    own = module.state_dict()
    if own.keys() != narrow.keys():
        raise InvalidInput(
            "The weights to begin with are of another architecture: give the settings they had."
        )
    for name, weights in narrow.items():
        if own[name].shape == weights.shape:
            own[name].copy_(weights)
        elif name.rpartition(".")[0] in WIDER and _fits(own[name], weights):
            _widen(name.rpartition(".")[0], own[name], weights)
        else:
            raise InvalidInput(
                f"{name} has the shape {tuple(weights.shape)} in the weights to begin with and "
                f"{tuple(own[name].shape)} by these settings. Only the number of latent channels may differ, and only "
                "grow."
            )


def _fits(wide: torch.Tensor, narrow: torch.Tensor) -> bool:
    return wide.shape[2:] == narrow.shape[2:] and all(
        old <= new for old, new in zip(narrow.shape, wide.shape, strict=True)
    )


def _widen(layer: str, wide: torch.Tensor, narrow: torch.Tensor) -> None:
    rows = _places(narrow.shape[0], wide.shape[0], layer in MOMENTS)
    if narrow.dim() == 1:
        wide[rows] = narrow
        return
    known = torch.zeros_like(wide[rows])
    known[:, _places(narrow.shape[1], wide.shape[1], layer == "quant_conv")] = narrow
    wide[rows] = known


def _places(old: int, new: int, halves: bool) -> list[int]:
    """Where the channels of a narrow layer stand in a wide one."""
    if not halves:
        return list(range(old))
    return [*range(old // 2), *range(new // 2, new // 2 + old // 2)]
