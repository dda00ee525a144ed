"""Batches of noised latents with what is said of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class NoisedBatch:
    """Latents x_t [N, C, h, w] on the way to noise, their timesteps [N] and captions, what the network should say of
    them, and how much each counts [N]."""

    x: torch.Tensor
    timesteps: torch.Tensor
    captions: list[str]
    wanted: torch.Tensor
    weight: torch.Tensor

    def __len__(self) -> int:
        return len(self.captions)

    def part(self, rows: slice) -> NoisedBatch:
        """Some of its images."""
        return NoisedBatch(
            self.x[rows], self.timesteps[rows], self.captions[rows], self.wanted[rows], self.weight[rows]
        )

    def and_(self, other: NoisedBatch) -> NoisedBatch:
        """Both, one after the other."""
        tensors = ("x", "timesteps", "wanted", "weight")
        both = {name: torch.cat([getattr(self, name), getattr(other, name)]) for name in tensors}
        return NoisedBatch(captions=[*self.captions, *other.captions], **both)
