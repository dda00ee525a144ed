"""The settings of a reward training."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from vouch.recipes.base import Recipe, Sizes, Words


class RewardTraining(Recipe):
    """A reward ensemble from ratings and labelled real images."""

    data: Path | None = Field(None, description="labelled real images for the pseudo-labels; optional")
    split: Literal["teach", "all"] = Field(
        "all",
        description="part of data that may be learned from; teach: the half that the judge has not seen",
    )
    criteria: Words = ()
    members: int = Field(3, ge=1, le=64, description="networks of the ensemble")
    backbone: Path | None = Field(
        None,
        description="folder of a transformers vision model (DINOv2, RAD-DINO, …) in place of small networks of its own",
    )
    fine_tune: bool = Field(False, description="let the backbone learn too")
    views: int = Field(
        4, ge=1, le=256, description="augmented copies of an image that a frozen backbone sees"
    )
    size: int | None = Field(
        None,
        ge=16,
        le=1024,
        description="resize to so many pixels square; default: 64, a backbone's own size",
    )
    widths: Sizes = (24, 48, 96, 128)
    steps: int = Field(200, ge=1, le=10_000_000, description="steps")
    batch: int = Field(64, ge=4, le=4096, description="images a step")
    lr: float = Field(
        2e-3,
        gt=0,
        le=10,
        description="learning rate of heads; a backbone that was trained before learns at 0.1 times it",
    )
    weight_decay: float = Field(0.05, ge=0, le=1e6)
    real_share: float = Field(
        0.4, ge=0, le=1, description="share of a batch that is real or swapped when there are ratings too"
    )
    recognise: float = Field(
        1.0, ge=0, le=1e6, description="weight of naming the class and attributes of real images"
    )
    held_out: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="share of the rated images that no member learns from, while the review queue has drawn fewer than "
        "20 of them uniformly; those never teach. They calibrate and measure",
    )
    checkpoint_every: int = Field(50, ge=1, le=1_000_000)
