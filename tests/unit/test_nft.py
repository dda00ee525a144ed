"""DiffusionNFT's anchor: dearer where the ensemble disagrees, and nothing at all at 0."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from training.alignment.methods.nft import Nft
from training.alignment.pool import Pool
from training.alignment.step_rng import StepRng
from vouch.recipes.alignment import Alignment, NftSettings


@dataclass
class Noised:
    wanted: torch.Tensor


class FakeStudent:
    """Says 2 of everything where its parent says 0 and 1 is wanted."""

    def noise(self, clean: torch.Tensor, random: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.zeros(len(clean)), torch.zeros_like(clean)

    def noised(self, clean: torch.Tensor, prompts: Sequence[str], *random: torch.Tensor) -> Noised:
        return Noised(torch.ones_like(clean))

    def predict(self, noised: Noised) -> torch.Tensor:
        return 2 * torch.ones_like(noised.wanted)

    def predict_parent(self, noised: Noised) -> torch.Tensor:
        return torch.zeros_like(noised.wanted)


STUDENT: Any = FakeStudent()
BARE = 2.0
"""Of an image that is as good as its class: half of (0.5·2 - 1)² and half of (-0.5·2 - 1)²."""


@pytest.mark.parametrize(
    ("anchor", "disagreement", "expected"),
    [
        (0.0, 3.0, BARE),
        (0.1, 0.0, BARE + 0.1 * 4),
        (0.1, 3.0, BARE + 0.1 * (1 + 0.5 * 3.0) * 4),
        (0.1, None, BARE + 0.1 * 4),  # nobody was asked
    ],
)
def test_the_anchor_is_dearer_where_the_members_disagree(
    anchor: float, disagreement: float | None, expected: float
) -> None:
    doubts = None if disagreement is None else torch.tensor([disagreement])
    half = torch.tensor([0.5])
    pool = Pool(torch.zeros(1, 1, 2, 2), ("monocyte",), half, half, disagreement=doubts)
    config = Alignment(
        method="nft", nft=NftSettings(round_steps=0, beta=0.5), anchor=anchor, anchor_uncertainty_scale=0.5
    )
    assert Nft(STUDENT, pool, config).loss(StepRng.of(0, 1)).item() == pytest.approx(expected)
