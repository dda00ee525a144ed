"""The settings of learning a concept."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from vouch.recipes.base import Recipe, Words


class ConceptLearning(Recipe):
    """A sub-type of one of the generator's classes, from experts' sub-labels (arXiv 2306.12438, algorithm 4)."""

    concept: str = Field(min_length=1, description="the new word, such as 'band neutrophil'")
    kind_of: str = Field(min_length=1, description="the class that it is a sub-type of, such as 'neutrophil'")
    data: Path | None = Field(
        None, description="labelled real images: of the class, to learn from, and of the others, to keep them"
    )
    column: str | None = Field(None, description="column of data with the sub-labels; else they are ratings")
    value: str | None = Field(None, description="what the column says of the new concept")
    others: Words = Field(
        (), description="what it says of images that are not; default: anything else but the value"
    )
    most: int | None = Field(
        None,
        ge=1,
        le=10_000_000,
        description="learn from so many of the sub-labels at the most, drawn at random",
    )
    least: int = Field(
        10, ge=2, le=10_000_000, description="sub-labels of yes, and of no, below which nothing is learned"
    )
    sure: float = Field(
        0.9, gt=0.5, lt=1, description="how sure the head must be of an image that has no sub-label"
    )
    sharpness: float = Field(
        1.5,
        gt=0,
        le=1e6,
        description="how far it goes from the class to the concept; 1: as far as the images",
    )
    cleanest: int = Field(250, ge=0, lt=1000, description="cleanest timestep at which the concept is learned")
    rank: int = Field(16, ge=1, le=1024, description="rank of the LoRA that is merged in the end")
    steps: int = Field(300, ge=1, le=10_000_000, description="steps")
    minutes: float | None = Field(
        None, gt=0, le=525_600, description="time budget of learning from images, over all attempts"
    )
    batch: int = Field(24, ge=2, le=4096, description="images a step")
    lr: float = Field(1e-3, ge=0, le=10, description="learning rate of the U-Net")
    word_lr: float = Field(5e-3, ge=0, le=10, description="learning rate of the new word")
    prior_share: float = Field(
        0.2, ge=0, lt=1, description="share of a batch that keeps the other concepts as they were"
    )
    prior: float = Field(1.0, ge=0, le=1e6, description="weight of keeping the other concepts")
    practice_steps: int = Field(
        250,
        ge=0,
        le=10_000_000,
        description="steps of practice, in which it draws the concept and follows its tutors; 0: none",
    )
    practice_minutes: float | None = Field(None, gt=0, le=525_600, description="time budget of practice")
    practice_lr: float = Field(4e-4, ge=0, le=10, description="learning rate of practice")
    practice_anchor: float = Field(
        2.0, ge=0, le=1e6, description="weight of the distance to what it drew before practice"
    )
    practice_sample_steps: int = Field(
        8, ge=2, le=200, description="denoising steps of what is drawn in practice"
    )
    practice_gradient_steps: int = Field(
        2, ge=1, le=200, description="of these, the last ones that the gradient passes"
    )
    practice_guidance: float | None = Field(
        None, ge=1, le=30, description="guidance of practice; default: that of a request that names none"
    )
    practice_drift: float = Field(
        3.0,
        gt=0,
        le=1e6,
        description="standard deviations that brightness, contrast or colour may move in practice",
    )
    tutor_steps: int = Field(
        300, ge=1, le=10_000_000, description="steps of each tutor, which tells the concept from its class"
    )
    emphasis: float = Field(
        2.0,
        gt=0,
        le=1e6,
        description="how much more it counts to be the concept than a plausible one of its class",
    )
    checkpoint_every: int = Field(20, ge=1, le=1_000_000)
