"""What brings the words of another text encoder into a U-Net's space: a projection of each token.

A linear one is diffusers' own (`encoder_hid_dim_type="text_proj"`), and a folder with it loads in plain diffusers. One
with a hidden layer (Chambon et al. 2022, arXiv 2210.04133) diffusers does not know: it lies in ``text_projection``, and
`load_pipeline` puts it in its place.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

PROJECTION_FOLDER = "text_projection"
CONFIG, WEIGHTS_FILE = "config.json", "model.safetensors"
_TYPE = "text_proj"


class HiddenProjection(nn.Module):
    """Tokens [N, L, width] to [N, L, out] through one hidden layer."""

    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.sizes = {"width": width, "hidden": hidden, "out": out}
        self.first, self.second = nn.Linear(width, hidden), nn.Linear(hidden, out)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        projected: torch.Tensor = self.second(nn.functional.gelu(self.first(tokens)))
        return projected


def new_projection(unet: Any, width: int, hidden: int) -> nn.Module:
    """A projection with random weights. hidden: of its hidden layer; 0: it is linear."""
    out = int(unet.config.cross_attention_dim)
    return HiddenProjection(width, hidden, out) if hidden else nn.Linear(width, out)


def put_in(unet: Any, projection: nn.Module | None) -> None:
    """Makes the U-Net read prompts through `projection`; None: as they are."""
    unet.encoder_hid_proj = projection
    width = None if projection is None else next(projection.parameters()).shape[1]
    unet.register_to_config(encoder_hid_dim=width, encoder_hid_dim_type=_TYPE if width else None)


def load_projection(unet: Any, folder: Path) -> None:
    """Puts in the projection with a hidden layer that lies in a diffusers folder; nothing where there is none.

    Raises:
        OSError, ValueError, KeyError, RuntimeError: its files are damaged or fit no such U-Net.
    """
    place = folder / PROJECTION_FOLDER
    if not place.is_dir():
        return
    projection = HiddenProjection(**json.loads((place / CONFIG).read_text("utf-8")))
    projection.load_state_dict(
        {name: value.float() for name, value in load_file(place / WEIGHTS_FILE).items()}
    )
    if projection.sizes["out"] != unet.config.cross_attention_dim:
        raise ValueError(
            f"it leads to {projection.sizes['out']} values, not {unet.config.cross_attention_dim}"
        )
    put_in(unet, projection.eval().requires_grad_(False))


@contextmanager
def saved_apart(unet: Any, out: Path) -> Iterator[None]:
    """Within it the U-Net has no projection that diffusers cannot save; that one is written into `out`."""
    projection = unet.encoder_hid_proj
    if not isinstance(projection, HiddenProjection):
        yield
        return
    place = out / PROJECTION_FOLDER
    place.mkdir(parents=True, exist_ok=True)
    (place / CONFIG).write_text(json.dumps(projection.sizes, indent=1) + "\n", "utf-8")
    weights = {name: value.detach().cpu().contiguous() for name, value in projection.state_dict().items()}
    save_file(weights, place / WEIGHTS_FILE, {"format": "pt"})
    put_in(unet, None)
    try:
        yield
    finally:
        put_in(unet, projection)
