"""Settings of a reward training."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from vouch.recipes.base import Recipe, Sizes, Words


class RewardTraining(Recipe):
    """A reward ensemble from ratings and labelled real images."""

    data: Path | None = Field(None, description="labelled real images for pseudo-labels; optional")
    split: Literal["teach", "all"] = Field(
        "all",
        description="part of data to train on; teach: the half that the judge has not seen",
    )
    criteria: Words = Field(
        (), description="ids of the criteria to predict; default: those of the parent, or else of the ratings"
    )
    members: int = Field(3, ge=1, le=64, description="networks in the ensemble")
    backbone: Path | None = Field(
        None,
        description="folder of a transformers vision model (DINOv2, RAD-DINO, …); default: small "
        "convolutional networks",
    )
    fine_tune: bool = Field(False, description="train the backbone too")
    views: int = Field(4, ge=1, le=256, description="augmented copies of an image for a frozen backbone")
    size: int | None = Field(
        None,
        ge=16,
        le=1024,
        description="resize images to this many pixels a side; default: 64, or the backbone's size",
    )
    widths: Sizes = Field((24, 48, 96, 128), description="channels of the stages of a small network")
    steps: int = Field(200, ge=1, le=10_000_000, description="optimizer steps")
    batch: int = Field(64, ge=4, le=4096, description="images per optimizer step")
    lr: float = Field(
        2e-3,
        gt=0,
        le=10,
        description="learning rate of the heads; a pre-trained backbone trains at 0.1 times lr",
    )
    weight_decay: float = Field(0.05, ge=0, le=1e6, description="decoupled weight decay (AdamW)")
    real_share: float = Field(
        0.4,
        ge=0,
        le=1,
        description="fraction of a batch with pseudo-labels (real images or swapped labels), if there are ratings too",
    )
    recognise: float = Field(
        1.0,
        ge=0,
        le=1e6,
        description="weight of the classification loss on class and attributes of real images",
    )
    held_out: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="fraction of the rated images to hold out while fewer than 20 rated images were sampled uniformly, "
        "which are always held out. The held-out images only calibrate and evaluate",
    )
    checkpoint_every: int = Field(50, ge=1, le=1_000_000, description="optimizer steps between checkpoints")
