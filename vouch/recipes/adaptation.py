"""The settings of adapting a foundation model to captioned images of another domain."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from pydantic import Field, model_validator

from vouch.recipes.base import Group, Recipe, Word, Words
from vouch.recipes.effects import refuse_idle

AdaptationRecipe = Literal["unet", "unet-text", "vae", "text-inversion", "text-projection"]
ADAPTATION_RECIPES: tuple[str, ...] = get_args(AdaptationRecipe)


class PriorSettings(Group):
    """What the base knew is kept while it learns (prior preservation)."""

    weight: float = Field(
        default=0.0, ge=0, le=1e6, description="weight of what the base knew; 0: nothing is kept"
    )
    kind: Literal["noise-free", "drawn"] = Field(
        default="noise-free",
        description="drawn: denoise images that the base drew (DreamBooth, 2208.12242); noise-free: say of them what "
        "the base says, the mean of that target",
    )
    images: int = Field(
        default=200,
        ge=2,
        le=100_000,
        description="images that the base draws, as it is served, before it learns",
    )
    prompts: Words = Field(
        default=(),
        description="what they are drawn of; default: the labels that the base lists as its vocabulary",
    )
    share: float = Field(default=0.25, gt=0, lt=1, description="of these, per image that is learned from")


class InversionSettings(Group):
    """New words (recipe text-inversion)."""

    words: Words = Field(
        default=(),
        description="new words, each WORD=PHRASE with the phrase of captions that it takes the place of, or WORD alone "
        "to stand before every caption; default: <adapted>, or token",
    )
    vectors: int = Field(default=4, ge=1, le=32, description="vectors of each word")
    begins_as: Word = Field(
        default="", description="words whose vectors each begins as; default: its phrase, or 'image'"
    )
    keep_norm: bool = Field(default=True, description="every vector keeps the length that it began with")

    def pairs(self, token: str) -> tuple[tuple[str, str], ...]:
        """Each word with the phrase that it takes the place of, "" without. token: the word where none is named."""
        named = [word.partition("=") for word in self.words or (token or "<adapted>",)]
        return tuple((word.strip(), phrase.strip()) for word, _, phrase in named)


class ProjectionSettings(Group):
    """Another text encoder's words (recipe text-projection)."""

    hidden: int = Field(
        default=0,
        ge=0,
        le=65_536,
        description="width of the projection's hidden layer; 0: it is linear, and the result loads in plain diffusers",
    )
    tune_encoder: bool = Field(default=False, description="let the encoder learn too, at text_lr")
    tokens: int = Field(default=77, ge=4, le=512, description="tokens of a prompt that are read")


class VaeSettings(Group):
    """The recipe vae: the autoencoder learns to restore the images."""

    part: Literal["decoder", "all"] = Field(
        default="decoder",
        description="what learns; after all, the U-Net has to be adapted to the new latents",
    )
    crop: int = Field(default=64, ge=8, le=1024, description="side of a crop, pixels")
    frequency: float = Field(
        default=0.5, ge=0, le=1e6, description="weight of the focal frequency loss (2012.12821)"
    )
    kl: float = Field(
        default=1e-6,
        ge=0,
        le=1e6,
        description="weight of the KL divergence per latent value, where all of it learns",
    )


class Adaptation(Recipe):
    """A Stable Diffusion model from captioned images of another domain, part by part (arXiv 2210.04133)."""

    data: Path = Field(
        description="captioned images: a folder (metadata.csv or .jsonl, class folders, DICOM), WebDataset or Parquet"
    )
    base: Path | None = Field(
        None, description="diffusers folder of the foundation model; default: the version that parent names"
    )
    recipe: AdaptationRecipe = Field(
        "unet",
        description="which parts are trained, and how; with minutes and without recipe and rank, what validates best",
    )
    fit: Literal["crop", "pad", "squash"] = Field(
        "crop",
        description="how an image that is no square becomes one: its middle, black beside it, or distorted",
    )
    window: str = Field(
        "",
        max_length=100,
        description="LOW:HIGH, values that are black and white in DICOM files; default: each file's",
    )
    accept: Words = Field((), description="codes of errors of the data check that are only warned of")
    keep_vae: bool = Field(
        False, description="go on although the autoencoder fails the reconstruction check on these images"
    )
    features: Path | None = Field(
        None,
        description="folder of an attribute network, such as a judge's, whose features compare images before and after "
        "the autoencoder; default: the one that ships, which learned cells",
    )

    encoder: Path | None = Field(
        None, description="text-projection: folder of a text encoder of transformers"
    )
    embeddings: Path | None = Field(
        None,
        description="text-inversion: a file of textual inversion that the first word begins as; at lr 0 it is kept",
    )
    inversion: InversionSettings = InversionSettings()
    projection: ProjectionSettings = ProjectionSettings()
    rank: int = Field(
        16,
        ge=0,
        le=1024,
        description="rank of the LoRA of unet and unet-text; 0: all weights of the part are trained",
    )
    lr: float | None = Field(
        None,
        ge=0,
        le=10,
        description="learning rate; default: 3e-4 of a LoRA or the autoencoder, 5e-5 of all weights, "
        "5e-3 of new words, 1e-3 of a projection",
    )
    text_lr: float | None = Field(
        None, ge=0, le=10, description="learning rate of the text encoder; default: a tenth of lr"
    )
    weight_decay: float = Field(1e-2, ge=0, le=10, description="decoupled weight decay (AdamW)")
    steps: int = Field(1000, ge=1, le=10_000_000, description="steps")
    minutes: float | None = Field(None, gt=0, le=525_600, description="time budget over all attempts")
    batch: int = Field(16, ge=1, le=4096, description="images a step")
    accumulate: int = Field(
        1,
        ge=1,
        le=4096,
        description="parts of a batch that are computed one after the other, which saves memory",
    )
    checkpointing: bool = Field(
        False, description="compute activations again in the backward pass, which saves memory and takes time"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="number format of matrix products; auto: bfloat16 where the processor multiplies it faster",
    )
    memory_gb: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="gigabytes that training may take beside the model; default: what is free",
    )
    warmup: int = Field(20, ge=0, le=10_000_000, description="steps over which the rate rises")
    cooldown: float = Field(
        0.3, ge=0, le=1, description="last share of the run, in which the rate falls to zero"
    )
    ema: float = Field(
        0.99, ge=0, lt=1, description="decay of the averaged weights, which are kept; 0: the last ones"
    )
    min_snr: float = Field(
        5.0,
        ge=0,
        le=1e6,
        description="largest signal-to-noise ratio that weighs in full (2303.09556); 0: no weights",
    )
    drop_caption: float = Field(0.1, ge=0, le=1, description="how often a caption is left out, for guidance")
    dropout: float = Field(
        0.0, ge=0, lt=1, description="dropout in the U-Net's residual blocks while it learns"
    )
    token: Word = Field(
        "", description="rare word before every caption, so that other prompts stay as they were"
    )
    prior: PriorSettings = PriorSettings()
    vae: VaeSettings = VaeSettings()

    cache_latents: bool = Field(
        True, description="encode each image once, as mean and deviation, and not anew at every step"
    )
    crops: int = Field(
        1,
        ge=1,
        le=64,
        description="crops of each image, of 85 % of its sides or more; the first is all of it",
    )
    validate_every: int = Field(50, ge=1, le=1_000_000, description="steps between validation losses")
    validated: int = Field(256, ge=1, le=1_000_000, description="images of a validation loss")
    patience: int = Field(
        8, ge=1, le=10_000, description="validation losses without a better one after which training stops"
    )
    copy_guard: bool = Field(
        True,
        description="look for copies of training images on every sheet, and go back to the last sheet without",
    )
    sheet_every: int = Field(250, ge=1, le=1_000_000, description="steps between sheets of drawn images")
    checkpoint_every: int = Field(100, ge=1, le=1_000_000)

    @model_validator(mode="after")
    def _every_given_setting_has_an_effect(self) -> Adaptation:
        refuse_idle(self)
        return self

    @property
    def is_open(self) -> bool:
        """Whether recipe and rank are chosen by validation: time is given, and neither of them."""
        return self.minutes is not None and not {"recipe", "rank"} & self.model_fields_set

    @property
    def publishes(self) -> Literal["lora", "diffusers"]:
        """What a version of it is, upon a base that is no LoRA itself."""
        return "lora" if self.rank and self.recipe in ("unet", "unet-text") else "diffusers"
