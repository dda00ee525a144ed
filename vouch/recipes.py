"""What a training run can be asked for: every setting by name, with its limits. Checked before a run is queued."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vouch.domains.criteria import Domain, load_domain
from vouch.errors import InvalidInput
from vouch.types.records import RaterKind

Sizes = Annotated[tuple[Annotated[int, Field(ge=1, le=4096)], ...], Field(min_length=1, max_length=16)]
"""Channels of the stages of a network."""
Decays = Annotated[tuple[Annotated[float, Field(ge=0, lt=1)], ...], Field(min_length=1, max_length=8)]
"""Decays of moving averages."""
Word = Annotated[str, Field(max_length=1000)]
Words = Annotated[tuple[Word, ...], Field(max_length=1000)]


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


def _shipped_domain() -> Domain:
    return load_domain()


class OfDomain(BaseModel):
    """Settings of a loop that depend on the kind of image."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    domain: Domain = Field(default_factory=_shipped_domain)
    """The kind of image. Whoever starts a run of a system gets the system's; callers cannot give one."""
    symmetric: bool = Field(
        default_factory=lambda told: told["domain"].symmetric,
        description="flips and turns; False where left and right mean something, as in a chest X-ray; default: what "
        "the domain says",
    )


class Recipe(OfDomain):
    """The settings of a loop that its caller may choose."""

    seed: int = Field(0, ge=0, le=2**63 - 1, description="seed")
    threads: int = Field(2, ge=1, le=1024, description="threads of a worker")


class Pretraining(Recipe):
    """A miniature Stable Diffusion from labelled images. Sizes are for 64-pixel cells; every one is a setting."""

    data: Path = Field(description="labelled images: Parquet, tar or folder; the training split only")
    size: int | None = Field(None, ge=16, le=1024, description="resize to so many pixels square")

    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="number format of matrix products; auto: bfloat16 where the processor multiplies it faster",
    )
    vae: Path | None = Field(
        None, description="folder of a trained AutoencoderKL to build upon; default: train one"
    )
    vae_steps: int = Field(9000, ge=1, le=10_000_000, description="autoencoder steps")
    vae_minutes: float | None = Field(
        None, gt=0, le=525_600, description="time budget of the autoencoder phase over all attempts, minutes"
    )
    vae_batch: int = Field(32, ge=1, le=4096, description="crops a step")
    vae_crop: int = Field(32, ge=8, le=1024, description="side of a crop, pixels")
    vae_lr: float = Field(
        2e-3, gt=0, le=10, description="peak learning rate of the autoencoder; it falls by half a cosine"
    )
    vae_warmup: int = Field(100, ge=0, le=10_000_000, description="steps over which that rate rises")
    vae_ema: float = Field(0.998, ge=0, lt=1, description="decay of the autoencoder's averaged weights")
    vae_channels: Sizes = (48, 96, 128)
    latent_channels: int = Field(
        8, ge=1, le=64, description="latent channels; 4 lose granules and chromatin at f = 4"
    )
    kl_weight: float = Field(1e-5, ge=0, le=1e6, description="weight of the KL divergence per latent value")
    latent_noise: float = Field(
        0.1,
        ge=0,
        le=10,
        description="most noise on latents before they are decoded, in their standard deviations",
    )
    equivariance: float = Field(
        0.2,
        ge=0,
        le=1,
        description="share of steps that decode latents at half the size (EQ-VAE, 2502.09509)",
    )
    vae_features: Path | None = Field(
        None, description="attribute network of the perceptual loss; never one that judges. Default: none"
    )
    perceptual_from: float = Field(
        0.4, ge=0, le=1, description="share of the phase after which perceptual and frequency losses join"
    )
    perceptual_weight: float = Field(0.3, ge=0, le=1e6, description="weight of the perceptual loss")
    frequency_weight: float = Field(
        0.5, ge=0, le=1e6, description="weight of the focal frequency loss (2012.12821)"
    )
    adversarial_from: float = Field(
        0.5, ge=0, le=1, description="share of the phase after which the discriminator joins"
    )
    adversarial_weight: float = Field(
        0.5,
        ge=0,
        le=1e6,
        description="weight of the adversarial loss, times the ratio of gradients at the last layer",
    )
    discriminator_lr: float = Field(1.6e-3, gt=0, le=10, description="learning rate of the discriminator")
    views: int = Field(
        8, ge=1, le=8, description="orientations of each image, encoded once and kept as latents"
    )

    held_out: Path | None = Field(
        None, description="labelled images that choose the average's length and the step that is kept"
    )
    steps: int = Field(12000, ge=1, le=10_000_000, description="U-Net steps")
    minutes: float | None = Field(
        None,
        gt=0,
        le=525_600,
        description="time budget of the U-Net phase over all attempts; the learning rate cools down within it",
    )
    batch: int = Field(64, ge=1, le=4096, description="images a step")
    lr: float = Field(6e-4, gt=0, le=10, description="learning rate")
    weight_decay: float = Field(1e-2, ge=0, le=10, description="decoupled weight decay (AdamW)")
    warmup: int = Field(200, ge=0, le=10_000_000, description="steps over which the rate rises")
    cooldown: float = Field(0.25, ge=0, le=1, description="last share of the run, in which lr falls to zero")
    ema: Decays = Field((0.9995, 0.998), description="decays of the averaged weights; held_out chooses one")
    drop_caption: float = Field(
        0.1, ge=0, le=1, description="how often the caption is left out (Ho & Salimans 2022)"
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout in the U-Net's residual blocks")
    timestep_shift: float = Field(
        0.0, ge=-100, le=100, description="mean of the logit-normal distribution of timesteps; > 0: noisier"
    )
    timestep_spread: float = Field(1.0, gt=0, le=100, description="its standard deviation")
    timestep_uniform: float = Field(
        0.2, ge=0, le=1, description="share of timesteps that are drawn uniformly"
    )
    channels: Sizes = (80, 128, 192)
    text_width: int = Field(64, ge=8, le=4096)
    text_layers: int = Field(2, ge=1, le=64)
    default_steps: int = Field(20, ge=1, le=200, description="denoising steps of a request that names none")
    default_guidance: float = Field(2.0, ge=0, le=30, description="guidance of a request that names none")
    default_stop: float = Field(
        1.0, gt=0, le=1, description="share of the steps after which such a request is drawn without guidance"
    )
    checkpoint_every: int = Field(200, ge=1, le=1_000_000)
    validate_every: int = Field(250, ge=1, le=1_000_000, description="U-Net steps between held-out losses")
    validated: int = Field(384, ge=1, le=1_000_000, description="held-out images of such a loss")
    grid_every: int = Field(500, ge=1, le=1_000_000)


class RewardTraining(Recipe):
    """A reward ensemble from ratings and labelled real images."""

    data: Path | None = Field(None, description="labelled real images for the pseudo-labels; optional")
    half: Literal["teach", "all"] = "all"
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
        2e-3, gt=0, le=10, description="learning rate of heads; what was learned before goes on at a tenth"
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


DEFAULT_METHOD: Final = "draft"
"""What `benchmarks.alignment` says: all but two points of the gain of `reward_gradient`, and variety rises, where
that one's falls."""
OWN_DEFAULTS: Mapping[str, Mapping[str, int]] = {
    "draft": {"gradient_steps": 2, "batch": 12},
    "nft": {"groups": 8},
    "awm": {"groups": 8},
}
"""Of methods that are best with other settings than the rest."""


class Alignment(Recipe):
    """A LoRA of the generator that draws what the reward model finds plausible."""

    method: Literal[
        "reward_gradient", "reward_weighted", "kto", "dpo", "nft", "awm", "draft", "ddpo", "real"
    ] = Field(
        DEFAULT_METHOD,
        description="draft (the default), reward_gradient, reward_weighted, kto, dpo, nft, awm, ddpo or real",
    )
    data: Path | None = Field(
        None, description="labelled real images: the anchor of reward_weighted, all that real learns from"
    )
    half: Literal["teach", "all"] = "all"
    rank: int = Field(16, ge=1, le=1024, description="rank of the LoRA")
    text_encoder: bool = Field(False, description="adapt the text encoder too, not the U-Net alone")
    steps: int = Field(100, ge=1, le=10_000_000, description="steps")
    minutes: float | None = Field(None, gt=0, le=525_600, description="time budget over all attempts")
    batch: int = Field(24, ge=1, le=4096, description="images a step; of draft 12")
    lr: float = Field(4e-4, ge=0, le=10, description="learning rate")
    anchor: float = Field(
        5.0, ge=0, le=1e6, description="weight of the squared distance to the parent's output"
    )
    caution: float = Field(
        1.0, ge=0, le=1e6, description="standard deviations of the ensemble that are taken off its mean"
    )
    doubt: float = Field(
        0.5,
        ge=0,
        le=1e6,
        description="how much dearer one logit of the ensemble's disagreement makes the anchor",
    )
    diversity: float = Field(
        1.0, ge=0, le=1e6, description="price of drawing less variety than the parent does"
    )
    watch_every: int = Field(
        25,
        ge=0,
        le=1_000_000,
        description="steps between looks at the validation reward; 0: none, and the last weights are kept",
    )
    watched: int = Field(40, ge=2, le=4096, description="images that are drawn for a look")
    patience: int = Field(4, ge=1, le=10_000, description="looks without a better one after which it stops")
    drift: float = Field(
        1.0,
        gt=0,
        le=1e6,
        description="standard deviations that brightness, contrast or colour may move from the parent's",
    )
    variety: float = Field(
        0.7,
        ge=0,
        le=1,
        description="share of the variety within a class (in the reward's features) to be left",
    )
    beta: float = Field(0.3, ge=0, le=1e6, description="weight of real images in reward weighting (paper 1)")
    earliest: int = Field(
        700, ge=0, le=1000, description="noisiest timestep at which the reward's gradient is taken"
    )
    latest: int = Field(
        50, ge=0, le=1000, description="cleanest timestep at which the reward's gradient is taken"
    )
    gradient_steps: int = Field(
        1,
        ge=1,
        le=200,
        description="denoising steps that the gradient passes; 1 jumps to the predicted clean image; of draft 2",
    )
    sample_steps: int | None = Field(
        None,
        ge=2,
        le=200,
        description="denoising steps of an image that draft, nft, awm and ddpo draw to learn from; default: those of a "
        "request that names none. What is watched is always drawn so",
    )
    guidance: float | None = Field(
        None,
        ge=0,
        le=30,
        description="guidance of what is drawn, watched and improved; default: that of a request that names none",
    )
    views: int = Field(
        0, ge=0, le=256, description="of draft: noised copies of each image that it draws (DRaFT-LV); 0: none"
    )
    divergence: float = Field(
        2000.0, gt=0, le=1e6, description="of kto and dpo: how dear it is to leave the parent"
    )
    strength: float = Field(0.5, gt=0, le=1e6, description="of nft: how little it leaves the parent")
    groups: int = Field(
        4,
        ge=1,
        le=4096,
        description="different prompts in a batch of ddpo, in a round of nft and awm; of these 8",
    )
    round_steps: int = Field(
        8,
        ge=0,
        le=1_000_000,
        description="of nft and awm: steps that learn from what was drawn before it is drawn anew; of nft, 0: learn "
        "from the rated images",
    )
    round_images: int = Field(
        48, ge=2, le=4096, description="of nft and awm: images that are drawn for a round"
    )
    clip: float = Field(
        0.2, gt=0, le=1e6, description="of awm: how far one round may move an image's likelihood"
    )
    novelty: float = Field(
        0.0,
        ge=0,
        le=1e6,
        description="of draft, nft and awm: weight of how different images of one prompt are in the reward's features",
    )
    stride: int = Field(100, ge=1, le=1000, description="timesteps that one of several gradient steps covers")
    checkpoint_every: int = Field(20, ge=1, le=1_000_000)

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


class Evaluation(Recipe):
    """What a generator version draws beside the one that serves, and whether it may take its place."""

    version: str = Field(min_length=1, max_length=128, description="generator version that is evaluated")
    against: str = Field("", max_length=128, description="version to compare with; default: what serves")
    first: str = Field(
        "",
        max_length=128,
        description="first champion, since which nothing may be lost; default: the root of against's lineage",
    )
    data: Path = Field(description="labelled real images that no model has seen")
    train: Path | None = Field(
        None, description="images that it learned from; without them nothing is said of copies"
    )
    judge: Path | None = Field(
        None, description="folder of the judge; default: the starter's, for blood cells"
    )
    per_class: int = Field(50, ge=2, le=10_000, description="images of each class")
    steps: int | None = Field(None, ge=1, le=200, description="denoising steps; default: the version's own")
    guidance: float | None = Field(None, ge=0, le=30, description="guidance; default: the version's own")
    downstream: bool = Field(False, description="also train classifiers on the images, which needs train")


RECIPES: dict[str, type[Recipe]] = {
    "pretrain": Pretraining,
    "reward": RewardTraining,
    "align": Alignment,
    "concept": ConceptLearning,
    "evaluate": Evaluation,
}


def parse(kind: str, settings: Mapping[str, Any], domain: Domain | None = None) -> tuple[Asked, Recipe]:
    """The settings of a run, checked. domain: the kind of image; default: the shipped one.

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
        given = {"domain": domain} if domain else {}
        return Asked.model_validate(settings), recipe.model_validate({**given, **own})
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
