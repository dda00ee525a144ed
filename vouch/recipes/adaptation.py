"""Settings of adapting a foundation model to captioned images of another domain."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from pydantic import Field, model_validator

from vouch.recipes.base import Group, Recipe, Word, Words
from vouch.recipes.effects import refuse_idle

AdaptationRecipe = Literal["unet", "unet-text", "vae", "text-inversion", "text-projection"]
ADAPTATION_RECIPES: tuple[str, ...] = get_args(AdaptationRecipe)


class PriorSettings(Group):
    """Prior preservation: keeps what the base model knows during training."""

    weight: float = Field(
        default=0.0, ge=0, le=1e6, description="weight of the prior-preservation loss; 0: none"
    )
    kind: Literal["noise-free", "drawn"] = Field(
        default="noise-free",
        description="loss on images that the base generates. drawn: the denoising loss (DreamBooth, 2208.12242); "
        "noise-free: distance to the base's prediction, the mean of the denoising target",
    )
    images: int = Field(
        default=200,
        ge=2,
        le=100_000,
        description="images that the base generates before training, with its default sampling settings",
    )
    prompts: Words = Field(
        default=(),
        description="prompts of these images; default: the labels in the base's vocabulary",
    )
    share: float = Field(default=0.25, gt=0, lt=1, description="prior images per training image")


class InversionSettings(Group):
    """Textual inversion: new words (recipe text-inversion)."""

    words: Words = Field(
        default=(),
        description="new words: WORD=PHRASE replaces PHRASE in captions, WORD alone is put before every caption; "
        "default: <adapted>, or token",
    )
    vectors: int = Field(default=4, ge=1, le=32, description="embedding vectors of each word")
    begins_as: Word = Field(
        default="",
        description="words whose embeddings initialize each new word; default: its phrase, or 'image'",
    )
    keep_norm: bool = Field(default=True, description="keep the initial norm of every vector")

    def pairs(self, token: str) -> tuple[tuple[str, str], ...]:
        """Each word with the phrase that it takes the place of, "" without. token: the word where none is named."""
        named = [word.partition("=") for word in self.words or (token or "<adapted>",)]
        return tuple((word.strip(), phrase.strip()) for word, _, phrase in named)


class ProjectionSettings(Group):
    """Another text encoder, with a trained projection (recipe text-projection)."""

    hidden: int = Field(
        default=0,
        ge=0,
        le=65_536,
        description="width of the projection's hidden layer; 0: a linear projection, which plain diffusers loads",
    )
    tune_encoder: bool = Field(default=False, description="train the encoder too, at text_lr")
    tokens: int = Field(default=77, ge=4, le=512, description="maximum number of tokens of a prompt")


class VaeSettings(Group):
    """The autoencoder learns to reconstruct the images (recipe vae)."""

    part: Literal["decoder", "all"] = Field(
        default="decoder",
        description="trained part; all changes the latents, so adapt the U-Net afterwards",
    )
    crop: int = Field(default=64, ge=8, le=1024, description="side of a training crop, pixels")
    frequency: float = Field(
        default=0.5, ge=0, le=1e6, description="weight of the focal frequency loss (2012.12821)"
    )
    kl: float = Field(
        default=1e-6,
        ge=0,
        le=1e6,
        description="weight of the KL divergence per latent value, with part all",
    )


class Adaptation(Recipe):
    """A Stable Diffusion model from captioned images of another domain, part by part (arXiv 2210.04133)."""

    symmetric: bool = Field(
        False,
        description="teach all eight orientations; only for images without an upright, such as cells",
    )
    data: Path = Field(
        description="captioned images: a folder (metadata.csv or .jsonl, class folders, DICOM), WebDataset or Parquet"
    )
    base: Path | None = Field(
        None, description="diffusers folder of the foundation model; default: the version named by parent"
    )
    recipe: AdaptationRecipe = Field(
        "unet",
        description="trained parts and method; with minutes and without recipe and rank, validation chooses",
    )
    fit: Literal["crop", "pad", "squash"] = Field(
        "crop",
        description="how images become square: center crop, black padding, or stretching (squash)",
    )
    window: str = Field(
        "",
        max_length=100,
        description="LOW:HIGH, values shown as black and as white, of DICOM files and greys of more than 8 bits; "
        "default: each DICOM file's first window, the whole range of others",
    )
    accept: Words = Field((), description="codes of data-check errors to downgrade to warnings")
    keep_vae: bool = Field(
        False, description="train even if the autoencoder fails the reconstruction check on these images"
    )
    features: Path | None = Field(
        None,
        description="folder of an attribute network, such as a judge's, for the features of the reconstruction "
        "check; default: the shipped one, trained on blood cells",
    )

    encoder: Path | None = Field(None, description="text-projection: folder of a transformers text encoder")
    embeddings: Path | None = Field(
        None,
        description="text-inversion: embedding file that initializes the first word; lr 0 keeps it unchanged",
    )
    inversion: InversionSettings = InversionSettings()
    projection: ProjectionSettings = ProjectionSettings()
    rank: int = Field(
        16,
        ge=0,
        le=1024,
        description="rank of the LoRA of unet and unet-text; 0: train all weights of the part",
    )
    lr: float | None = Field(
        None,
        ge=0,
        le=10,
        description="learning rate; default: 3e-4 for a LoRA or the autoencoder, 5e-5 for all weights, "
        "5e-3 for new words, 1e-3 for a projection",
    )
    text_lr: float | None = Field(
        None, ge=0, le=10, description="learning rate of the text encoder; default: 0.1 times lr"
    )
    weight_decay: float = Field(1e-2, ge=0, le=10, description="decoupled weight decay (AdamW)")
    steps: int = Field(1000, ge=1, le=10_000_000, description="optimizer steps")
    minutes: float | None = Field(
        None, gt=0, le=525_600, description="time budget over all attempts, minutes"
    )
    batch: int = Field(16, ge=1, le=4096, description="images per optimizer step")
    accumulate: int = Field(
        1,
        ge=1,
        le=4096,
        description="micro-batches per batch, computed one after another; more save memory",
    )
    checkpointing: bool = Field(
        False,
        description="gradient checkpointing: recompute activations in the backward pass; saves memory, takes time",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="number format of matrix products; auto: bfloat16 if the processor computes it faster",
    )
    memory_gb: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="memory for training in addition to the model, GB; default: the free memory",
    )
    warmup: int = Field(20, ge=0, le=10_000_000, description="warm-up steps of the learning rate")
    cooldown: float = Field(
        0.3, ge=0, le=1, description="last fraction of the run, in which the learning rate falls to zero"
    )
    ema: float = Field(
        0.99,
        ge=0,
        lt=1,
        description="decay of the exponential moving average of the weights, which is kept; 0: the last weights",
    )
    min_snr: float = Field(
        5.0,
        ge=0,
        le=1e6,
        description="gamma of the min-SNR loss weights (2303.09556); 0: no weights",
    )
    drop_caption: float = Field(
        0.1, ge=0, le=1, description="probability of dropping the caption, for classifier-free guidance"
    )
    dropout: float = Field(
        0.0, ge=0, lt=1, description="dropout rate in the U-Net's residual blocks during training"
    )
    token: Word = Field(
        "", description="rare word put before every caption, so that prompts without it change little"
    )
    prior: PriorSettings = PriorSettings()
    vae: VaeSettings = VaeSettings()

    cache_latents: bool = Field(
        True,
        description="encode each image once, as the mean and deviation of its latents, not at every step",
    )
    crops: int = Field(
        1,
        ge=1,
        le=64,
        description="crops of each image, each at least 85 % of its sides; the first is the whole image",
    )
    validate_every: int = Field(50, ge=1, le=1_000_000, description="optimizer steps between validations")
    validated: int = Field(256, ge=1, le=1_000_000, description="images per validation")
    patience: int = Field(
        8, ge=1, le=10_000, description="validations without improvement after which training stops"
    )
    copy_guard: bool = Field(
        True,
        description="search sample sheets for copies of training images; if found, return to the last sheet without",
    )
    sheet_every: int = Field(
        250, ge=1, le=1_000_000, description="optimizer steps between sheets of generated images"
    )
    checkpoint_every: int = Field(100, ge=1, le=1_000_000, description="optimizer steps between checkpoints")

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
