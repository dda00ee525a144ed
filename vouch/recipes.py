"""What a training run can be asked for: every setting by name, with its limits. Checked before a run is queued."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vouch.errors import InvalidInput
from vouch.records import RaterKind


class Asked(BaseModel):
    """The settings that name things outside the run's folder: versions, whose ratings."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kinds: tuple[RaterKind, ...] = Field(("human",), description="whose ratings: human, simulated")
    domain: str | None = Field(None, description="criteria whose ratings are used; default: those in use")
    parent: str = Field("", description="version to go on from; default: what serves")
    generator: str = Field("", description="another word for parent in an alignment")
    reward: str = Field("", description="reward version that an alignment follows; default: what serves")
    name: str | None = Field(
        None, pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$", description="name of the new version"
    )


class Recipe(BaseModel):
    """The settings of a loop that its caller may choose."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(0, description="seed")
    threads: int = Field(2, ge=1, description="threads of a worker")
    symmetric: bool = Field(
        True, description="flips and turns; False where left and right mean something, as in a chest X-ray"
    )


class Pretraining(Recipe):
    """A miniature Stable Diffusion from labelled images. Sizes are for 64-pixel cells; every one is a setting."""

    data: Path = Field(description="labelled images: Parquet, tar or folder; the training split only")
    size: int | None = Field(None, ge=16, le=1024, description="resize to so many pixels square")

    vae_steps: int = Field(1500, ge=1, description="autoencoder steps")
    vae_batch: int = Field(32, ge=1)
    vae_crop: int = Field(32, ge=8)
    vae_lr: float = Field(1e-3, gt=0)
    vae_channels: tuple[int, ...] = (32, 64, 96)
    latent_channels: int = Field(4, ge=1)
    views: int = Field(2, ge=1, description="turned copies of each image, encoded once and kept as latents")

    steps: int = Field(2600, ge=1, description="U-Net steps")
    minutes: float | None = Field(
        None,
        gt=0,
        description="time budget of the U-Net phase over all attempts; the learning rate cools down within it",
    )
    batch: int = Field(64, ge=1, description="images a step")
    lr: float = Field(8e-4, gt=0, description="learning rate")
    warmup: int = Field(100, ge=0)
    cooldown: float = Field(0.3, ge=0, le=1, description="last share of the run, in which lr falls to zero")
    ema: float = Field(0.999, ge=0, lt=1)
    drop_caption: float = Field(
        0.1, ge=0, le=1, description="how often the caption is left out (Ho & Salimans 2022)"
    )
    snr_gamma: float = Field(5.0, gt=0)
    channels: tuple[int, ...] = (64, 96, 128)
    text_width: int = Field(64, ge=8)
    text_layers: int = Field(2, ge=1)
    default_steps: int = Field(20, ge=1, description="denoising steps of a request that names none")
    default_guidance: float = Field(2.0, ge=0, description="guidance of a request that names none")
    checkpoint_every: int = Field(200, ge=1)
    grid_every: int = Field(600, ge=1)


class RewardTraining(Recipe):
    """A reward ensemble from ratings and labelled real images."""

    data: Path | None = Field(None, description="labelled real images for the pseudo-labels; optional")
    half: Literal["teach", "all"] = "all"
    criteria: tuple[str, ...] = ()
    members: int = Field(3, ge=1, description="networks of the ensemble")
    backbone: Path | None = Field(
        None,
        description="folder of a transformers vision model (DINOv2, RAD-DINO, …) in place of small networks of its own",
    )
    fine_tune: bool = Field(False, description="let the backbone learn too")
    views: int = Field(4, ge=1, description="augmented copies of an image that a frozen backbone sees")
    size: int | None = Field(
        None, ge=16, description="resize to so many pixels square; default: 64, a backbone's own size"
    )
    widths: tuple[int, ...] = (24, 48, 96, 128)
    steps: int = Field(200, ge=1, description="steps")
    batch: int = Field(64, ge=4, description="images a step")
    lr: float = Field(
        2e-3, gt=0, description="learning rate of heads; what was learned before goes on at a tenth"
    )
    weight_decay: float = Field(0.05, ge=0)
    real_share: float = Field(
        0.4, ge=0, le=1, description="share of a batch that is real or swapped when there are ratings too"
    )
    recognise: float = Field(
        1.0, ge=0, description="weight of naming the class and attributes of real images"
    )
    held_out: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="share of the rated images that no member learns from; half fits the temperature, half measures",
    )
    checkpoint_every: int = Field(50, ge=1)


DEFAULT_METHOD: Final = "draft"
"""What `benchmarks.alignment` says: all but two points of the gain of `reward_gradient`, and variety rises, where
that one's falls."""
OWN_DEFAULTS: Mapping[str, Mapping[str, int]] = {
    "draft": {"sample_steps": 6, "gradient_steps": 2, "batch": 12},
}
"""Of methods that are best with other settings than the rest."""


class Alignment(Recipe):
    """A LoRA of the generator that draws what the reward model finds plausible."""

    method: Literal["reward_gradient", "reward_weighted", "kto", "dpo", "nft", "draft", "ddpo", "real"] = (
        Field(
            DEFAULT_METHOD,
            description="draft (the default), reward_gradient, reward_weighted, kto, dpo, nft, ddpo or real",
        )
    )
    data: Path | None = Field(
        None, description="labelled real images: the anchor of reward_weighted, all that real learns from"
    )
    half: Literal["teach", "all"] = "all"
    rank: int = Field(16, ge=1, description="rank of the LoRA")
    text_encoder: bool = Field(False, description="adapt the text encoder too, not the U-Net alone")
    steps: int = Field(100, ge=1, description="steps")
    minutes: float | None = Field(None, gt=0, description="time budget over all attempts")
    batch: int = Field(24, ge=1, description="images a step; of draft 12")
    lr: float = Field(4e-4, ge=0, description="learning rate")
    anchor: float = Field(5.0, ge=0, description="weight of the squared distance to the parent's output")
    caution: float = Field(
        1.0, ge=0, description="standard deviations of the ensemble that are taken off its mean"
    )
    doubt: float = Field(
        0.5, ge=0, description="how much dearer one logit of the ensemble's disagreement makes the anchor"
    )
    diversity: float = Field(1.0, ge=0, description="price of drawing less variety than the parent does")
    watch_every: int = Field(
        25,
        ge=0,
        description="steps between looks at the validation reward; 0: none, and the last weights are kept",
    )
    watched: int = Field(40, ge=2, description="images that are drawn for a look")
    patience: int = Field(4, ge=1, description="looks without a better one after which it stops")
    drift: float = Field(
        1.0,
        gt=0,
        description="standard deviations that brightness, contrast or colour may move from the parent's",
    )
    variety: float = Field(
        0.7, ge=0, le=1, description="share of the parent's variety within a class that has to be left"
    )
    beta: float = Field(0.3, ge=0, description="weight of real images in reward weighting (paper 1)")
    earliest: int = Field(700, ge=0, description="noisiest timestep at which the reward's gradient is taken")
    latest: int = Field(50, ge=0, description="cleanest timestep at which the reward's gradient is taken")
    gradient_steps: int = Field(
        1,
        ge=1,
        description="denoising steps that the gradient passes; 1 jumps to the predicted clean image; of draft 2",
    )
    sample_steps: int = Field(
        10, ge=2, description="denoising steps of an image that draft and ddpo draw; of draft 6"
    )
    guidance: float = Field(
        1.0, ge=1, description="guidance with which draft draws, and what is watched is drawn; 1: none"
    )
    views: int = Field(
        0, ge=0, description="of draft: noised copies of each image that it draws (DRaFT-LV); 0: none"
    )
    divergence: float = Field(2000.0, gt=0, description="of kto and dpo: how dear it is to leave the parent")
    strength: float = Field(0.5, gt=0, description="of nft: how little it leaves the parent")
    groups: int = Field(4, ge=1, description="of ddpo: different prompts in a batch")
    stride: int = Field(100, ge=1, description="timesteps that one of several gradient steps covers")
    checkpoint_every: int = Field(20, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _with_the_methods_own_defaults(cls, told: Any) -> Any:
        # As text: what is no name at all is left to the check of the field, which says so.
        return {**OWN_DEFAULTS.get(str(told.get("method", DEFAULT_METHOD)), {}), **told}


class ConceptLearning(Recipe):
    """A sub-type of one of the generator's classes, from experts' sub-labels (arXiv 2306.12438, algorithm 4)."""

    concept: str = Field(min_length=1, description="the new word, such as 'band neutrophil'")
    kind_of: str = Field(min_length=1, description="the class that it is a sub-type of, such as 'neutrophil'")
    data: Path | None = Field(
        None, description="labelled real images: of the class, to learn from, and of the others, to keep them"
    )
    column: str | None = Field(None, description="column of data with the sub-labels; else they are ratings")
    value: str | None = Field(None, description="what the column says of the new concept")
    others: tuple[str, ...] = Field(
        (), description="what it says of images that are not; default: anything else but the value"
    )
    most: int | None = Field(
        None, ge=1, description="learn from so many of the sub-labels at the most, drawn at random"
    )
    least: int = Field(10, ge=2, description="sub-labels of yes, and of no, below which nothing is learned")
    sure: float = Field(
        0.9, gt=0.5, lt=1, description="how sure the head must be of an image that has no sub-label"
    )
    sharpness: float = Field(
        1.5, gt=0, description="how far it goes from the class to the concept; 1: as far as the images"
    )
    cleanest: int = Field(250, ge=0, lt=1000, description="cleanest timestep at which the concept is learned")
    rank: int = Field(16, ge=1, description="rank of the LoRA that is merged in the end")
    steps: int = Field(300, ge=1, description="steps")
    minutes: float | None = Field(
        None, gt=0, description="time budget of learning from images, over all attempts"
    )
    batch: int = Field(24, ge=2, description="images a step")
    lr: float = Field(1e-3, ge=0, description="learning rate of the U-Net")
    word_lr: float = Field(5e-3, ge=0, description="learning rate of the new word")
    prior_share: float = Field(
        0.2, ge=0, lt=1, description="share of a batch that keeps the other concepts as they were"
    )
    prior: float = Field(1.0, ge=0, description="weight of keeping the other concepts")
    practice_steps: int = Field(
        250,
        ge=0,
        description="steps of practice, in which it draws the concept and follows its tutors; 0: none",
    )
    practice_minutes: float | None = Field(None, gt=0, description="time budget of practice")
    practice_lr: float = Field(4e-4, ge=0, description="learning rate of practice")
    practice_anchor: float = Field(
        2.0, ge=0, description="weight of the distance to what it drew before practice"
    )
    practice_sample_steps: int = Field(8, ge=2, description="denoising steps of what is drawn in practice")
    practice_gradient_steps: int = Field(
        2, ge=1, description="of these, the last ones that the gradient passes"
    )
    practice_guidance: float | None = Field(
        None, ge=1, description="guidance of practice; default: that of a request that names none"
    )
    practice_drift: float = Field(
        3.0,
        gt=0,
        description="standard deviations that brightness, contrast or colour may move in practice",
    )
    tutor_steps: int = Field(
        300, ge=1, description="steps of each tutor, which tells the concept from its class"
    )
    emphasis: float = Field(
        2.0, gt=0, description="how much more it counts to be the concept than a plausible one of its class"
    )
    checkpoint_every: int = Field(20, ge=1)


RECIPES: dict[str, type[Recipe]] = {
    "pretrain": Pretraining,
    "reward": RewardTraining,
    "align": Alignment,
    "concept": ConceptLearning,
}


def parse(kind: str, settings: Mapping[str, Any]) -> tuple[Asked, Recipe]:
    """The settings of a run, checked.

    Raises InvalidInput, naming the kind (UNKNOWN_KIND) or the setting (BAD_SETTING) and what there is instead.
    """
    recipe = RECIPES.get(kind)
    if recipe is None:
        raise InvalidInput(
            f"There is no training of kind {kind!r}. Known kinds: {', '.join(RECIPES)}.", "UNKNOWN_KIND"
        )
    own = {name: value for name, value in settings.items() if name not in Asked.model_fields}
    unknown = sorted(set(own) - set(recipe.model_fields))
    if unknown:
        raise InvalidInput(f"There is no setting {', '.join(unknown)}. {_known(kind)}", "BAD_SETTING")
    try:
        return Asked.model_validate(settings), recipe.model_validate(own)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "config"
        raise InvalidInput(f"Setting {where}: {first['msg']}. {_known(kind)}", "BAD_SETTING") from error


def described(kind: str) -> dict[str, str]:
    """The settings that a person would choose, with what they mean."""
    fields = {**RECIPES[kind].model_fields, **(Asked.model_fields if kind != "pretrain" else {})}
    return {name: field.description for name, field in fields.items() if field.description}


def path_settings(kind: str) -> tuple[str, ...]:
    """The settings that name files of the machine that trains."""
    fields = RECIPES[kind].model_fields.items()
    return tuple(name for name, field in fields if field.annotation in (Path, Path | None))


def _known(kind: str) -> str:
    return f"Settings of {kind}: {', '.join(sorted({*RECIPES[kind].model_fields, *Asked.model_fields}))}."
