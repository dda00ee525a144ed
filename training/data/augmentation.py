"""Images as network inputs: their range, their orientation, their random changes."""

from __future__ import annotations

import torch


def to_unit(images: torch.Tensor) -> torch.Tensor:
    """uint8 [N, 3, H, W] to float in [-1, 1], as diffusers' pipelines expect."""
    return images.float().div_(127.5).sub_(1.0)


def turned(images: torch.Tensor, turn: int) -> torch.Tensor:
    """Images [N, C, S, S] in one of the eight orientations of a square; 0 leaves them as they are."""
    part = torch.rot90(images, turn % 4, (2, 3))
    return part.flip(3) if turn >= 4 else part


def dihedral(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Flips and quarter turns, one drawn for each image [N, C, S, S]: cells have no up and no left."""
    turns = torch.randint(0, 8, (len(images),), generator=generator)
    out = torch.empty_like(images)
    for turn in range(8):
        rows = (turns == turn).nonzero().flatten()
        if len(rows):
            out[rows] = turned(images[rows], turn)
    return out


def augment(images: torch.Tensor, symmetric: bool, random_: torch.Generator) -> torch.Tensor:
    """uint8 [N, 3, S, S] to float in [-1, 1], turned, shifted, with brightness and contrast changed a little.

    Never blurred: blur removes granules and chromatin, and a network that learned to ignore it cannot see that they are
    missing.
    """
    images = dihedral(images, random_) if symmetric else images
    x = to_unit(images)
    n = len(x)
    shift = torch.randint(-3, 4, (2,), generator=random_).tolist()
    x = torch.roll(x, shift, (2, 3))
    gain = 1.0 + 0.1 * torch.randn(n, 1, 1, 1, generator=random_)
    offset = 0.08 * torch.randn(n, 3, 1, 1, generator=random_)
    x = (x * gain + offset).clamp_(-1, 1)
    return x.contiguous(memory_format=torch.channels_last)
