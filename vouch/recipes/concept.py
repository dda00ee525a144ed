"""Settings of learning a concept."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from vouch.recipes.base import Recipe, Words


class ConceptLearning(Recipe):
    """A sub-type of one of the generator's classes, from experts' sub-labels (arXiv 2306.12438, algorithm 4)."""

    concept: str = Field(
        min_length=1, description="name of the concept and word of prompts, such as 'band neutrophil'"
    )
    kind_of: str = Field(
        min_length=1, description="class that the concept is a sub-type of, such as 'neutrophil'"
    )
    data: Path | None = Field(
        None,
        description="labelled real images: those of the class train the concept, the others preserve the other classes",
    )
    column: str | None = Field(
        None, description="column of data with the sub-labels; default: sub-labels are taken from ratings"
    )
    value: str | None = Field(None, description="value of the column that marks the concept")
    others: Words = Field(
        (), description="values of the column that mark other sub-types; default: every other value"
    )
    most: int | None = Field(
        None,
        ge=1,
        le=10_000_000,
        description="maximum number of sub-labels, sampled at random; default: all",
    )
    least: int = Field(
        10,
        ge=2,
        le=10_000_000,
        description="minimum number of positive and of negative sub-labels; fewer are refused",
    )
    sure: float = Field(
        0.9,
        gt=0.5,
        lt=1,
        description="probability above which the head pseudo-labels an image without a sub-label",
    )
    sharpness: float = Field(
        1.5,
        gt=0,
        le=1e6,
        description="extrapolation from the class towards the concept; 1: none",
    )
    cleanest: int = Field(
        250, ge=0, lt=1000, description="lowest (cleanest) timestep at which the concept is trained, 0 to 999"
    )
    rank: int = Field(16, ge=1, le=1024, description="rank of the LoRA, which is merged at the end")
    steps: int = Field(300, ge=1, le=10_000_000, description="optimizer steps of training on images")
    minutes: float | None = Field(
        None, gt=0, le=525_600, description="time budget of training on images over all attempts, minutes"
    )
    batch: int = Field(24, ge=2, le=4096, description="images per optimizer step")
    lr: float = Field(1e-3, ge=0, le=10, description="learning rate of the U-Net")
    word_lr: float = Field(5e-3, ge=0, le=10, description="learning rate of the new word's embedding")
    prior_share: float = Field(
        0.2, ge=0, lt=1, description="fraction of a batch for prior preservation of the other concepts"
    )
    prior: float = Field(1.0, ge=0, le=1e6, description="weight of the prior-preservation loss")
    practice_steps: int = Field(
        250,
        ge=0,
        le=10_000_000,
        description="optimizer steps of reward fine-tuning (DRaFT) with classifier ensembles as the reward; 0: none",
    )
    practice_minutes: float | None = Field(
        None, gt=0, le=525_600, description="time budget of reward fine-tuning, minutes"
    )
    practice_lr: float = Field(4e-4, ge=0, le=10, description="learning rate of reward fine-tuning")
    practice_anchor: float = Field(
        2.0, ge=0, le=1e6, description="weight of the distance to the output before reward fine-tuning"
    )
    practice_sample_steps: int = Field(
        8, ge=2, le=200, description="denoising steps of images in reward fine-tuning"
    )
    practice_gradient_steps: int = Field(
        2, ge=1, le=200, description="number of last denoising steps that the gradient passes through"
    )
    practice_guidance: float | None = Field(
        None,
        ge=1,
        le=30,
        description="guidance scale of reward fine-tuning; default: the generator's default",
    )
    practice_drift: float = Field(
        3.0,
        gt=0,
        le=1e6,
        description="maximum drift of brightness, contrast or colour in reward fine-tuning, in standard deviations",
    )
    tutor_steps: int = Field(
        300,
        ge=1,
        le=10_000_000,
        description="optimizer steps of each classifier of the concept against its class",
    )
    emphasis: float = Field(
        2.0,
        gt=0,
        le=1e6,
        description="exponent of the concept's probability in the reward σ(plausible)·σ(concept)^emphasis",
    )
    checkpoint_every: int = Field(20, ge=1, le=1_000_000, description="optimizer steps between checkpoints")
