"""Settings of an alignment: common ones, and one group for each method.

Symbols are those of the papers. r: logit of plausible, of the reward model's members k; θ: the LoRA; v: the denoiser's
output; L: the denoising error; x₀, x̂₀: a sampled and a predicted clean image.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, model_validator

from vouch.recipes.base import Group, Recipe

DEFAULT_METHOD: Final = "draft"
"""By `benchmarks.alignment` its gain is two points below that of `reward_gradient`, but variety rises; with
`reward_gradient` it falls."""
OWN_DEFAULTS: Mapping[str, Mapping[str, Any]] = {"draft": {"batch": 12}}
"""Defaults of common settings that differ for one method."""


class ValidationSettings(Group):
    """Validation during training: images from fixed noise, scored by the ensemble member held out of training."""

    every: int = Field(
        default=25,
        ge=0,
        le=1_000_000,
        description="optimizer steps between validations; 0: no validation, the last weights are kept",
    )
    images: int = Field(default=40, ge=2, le=4096, description="images per validation")
    patience: int = Field(
        default=4,
        ge=1,
        le=10_000,
        description="validations without improvement after which training stops",
    )
    max_drift: float = Field(
        default=1.0,
        gt=0,
        le=1e6,
        description="maximum drift of brightness, contrast or colour, in standard deviations",
    )
    min_variety: float = Field(
        default=0.7,
        ge=0,
        le=1,
        description="minimum variety within a class, as a fraction of the parent's",
    )


class Sampled(Group):
    """Settings of a method that samples its training images."""

    sample_steps: int | None = Field(
        default=None,
        ge=2,
        le=200,
        description="denoising steps of a training image; default: the generator's default",
    )


class RoundSettings(Sampled):
    """Settings of a method that samples images in rounds."""

    groups: int = Field(default=8, ge=1, le=4096, description="distinct prompts per round")
    round_steps: int = Field(default=8, ge=1, le=1_000_000, description="optimizer steps per round")
    round_images: int = Field(default=48, ge=2, le=4096, description="images per round")
    novelty: float = Field(
        default=0.0,
        ge=0,
        le=1e6,
        description="weight in the reward of an image's distance to the others of its prompt (DRIFT, 2601.12401)",
    )


class DraftSettings(Sampled):
    """DRaFT-K and DRaFT-LV (2309.17400): -∇θ log σ(r(x₀)) through the last K sampling steps."""

    gradient_steps: int = Field(
        default=2,
        ge=1,
        le=200,
        description="K, number of last denoising steps that the gradient passes through",
    )
    views: int = Field(
        default=0,
        ge=0,
        le=256,
        description="n of DRaFT-LV, noised copies of each image, with K = 1; 0: DRaFT-K",
    )
    diversity: float = Field(
        default=1.0,
        ge=0,
        le=1e6,
        description="weight of the diversity loss, on less variety in a batch than the parent's",
    )
    novelty: float = Field(
        default=0.0,
        ge=0,
        le=1e6,
        description="weight of the loss on less variety among images of one prompt than before training",
    )
    groups: int = Field(default=4, ge=1, le=4096, description="distinct prompts per batch, with novelty > 0")


class RewardGradientSettings(Group):
    """-∇θ log σ(r(x̂₀)) of rated images, noised to timestep t; without sampling."""

    max_timestep: int = Field(default=700, ge=0, le=1000, description="highest (noisiest) t, 0 to 1000")
    min_timestep: int = Field(default=50, ge=0, le=1000, description="lowest (cleanest) t, 0 to 1000")
    gradient_steps: int = Field(
        default=1,
        ge=1,
        le=200,
        description="denoising steps that the gradient passes through; 1 predicts x̂₀ directly",
    )
    stride: int = Field(
        default=100, ge=1, le=1000, description="timesteps per denoising step, with gradient_steps > 1"
    )
    diversity: float = Field(
        default=1.0,
        ge=0,
        le=1e6,
        description="weight of the diversity loss, on less variety in a batch than the parent's",
    )

    @model_validator(mode="after")
    def _in_order(self) -> RewardGradientSettings:
        if self.min_timestep >= self.max_timestep:
            raise ValueError("min_timestep must be below max_timestep")
        return self


class RewardWeightedSettings(Group):
    """Reward-weighted likelihood (paper 1, 2306.12438): E[r·L(x_rated)] + β·E[L(x_real)]."""

    beta: float = Field(default=0.3, ge=0, le=1e6, description="β, weight of the loss on real images")


class KtoSettings(Group):
    """Diffusion-KTO (2404.04465): E[1 - σ(±(β·(L_parent - L_θ) - z₀))], plus for plausible images."""

    beta: float = Field(
        default=2000.0, gt=0, le=1e6, description="β, weight of the divergence from the parent"
    )


class DpoSettings(Group):
    """Diffusion-DPO (2311.12908): E[-log σ(-β·((L_θ - L_parent)(better) - (L_θ - L_parent)(worse)))]."""

    beta: float = Field(
        default=2000.0, gt=0, le=1e6, description="β, weight of the divergence from the parent"
    )


class NftSettings(RoundSettings):
    """DiffusionNFT (2509.16117): E[r·‖v⁺ - v‖² + (1-r)·‖v⁻ - v‖²], v^± = (1∓β)·v_old ± β·v_θ."""

    beta: float = Field(
        default=0.5,
        gt=0,
        le=1e6,
        description="β, mixes v_θ into v_old; smaller values move further from the parent",
    )
    round_steps: int = Field(
        default=8, ge=0, le=1_000_000, description="optimizer steps per round; 0: train on the rated images"
    )


class AwmSettings(RoundSettings):
    """AWM (2509.25050): -E[min(ρ·A, clip(ρ, 1 ± ε)·A)] with ρ = exp(L_old - L_θ)."""

    clip: float = Field(
        default=0.2, gt=0, le=1e6, description="ε, clip range of an image's likelihood ratio within a round"
    )


class DdpoSettings(Sampled):
    """DDPO (2305.13301): -E[A·log p_θ(x_{t-1} | x_t)]."""

    groups: int = Field(
        default=4,
        ge=1,
        le=4096,
        description="distinct prompts per batch; advantages A are computed within each",
    )
    gradient_steps: int = Field(
        default=1, ge=1, le=200, description="number of randomly chosen denoising steps with a gradient"
    )


class Alignment(Recipe):
    """A LoRA of the generator, trained to increase the reward."""

    method: Literal[
        "reward_gradient", "reward_weighted", "kto", "dpo", "nft", "awm", "draft", "ddpo", "real"
    ] = Field(
        DEFAULT_METHOD,
        description="draft, reward_gradient, reward_weighted, kto, dpo, nft, awm, ddpo, or real (no feedback)",
    )
    data: Path | None = Field(
        None, description="labelled real images: the real term of reward_weighted, the training set of real"
    )
    split: Literal["teach", "all"] = Field(
        "all",
        description="part of data to train on; teach: the half that the judge has not seen",
    )
    rank: int = Field(16, ge=1, le=1024, description="rank of the LoRA")
    text_encoder: bool = Field(False, description="train a LoRA of the text encoder too")
    steps: int = Field(100, ge=1, le=10_000_000, description="optimizer steps")
    minutes: float | None = Field(
        None, gt=0, le=525_600, description="time budget over all attempts, minutes"
    )
    batch: int = Field(24, ge=1, le=4096, description="images per optimizer step; default for draft: 12")
    lr: float = Field(4e-4, ge=0, le=10, description="learning rate of AdamW")
    anchor: float = Field(
        5.0, ge=0, le=1e6, description="weight of ‖v_θ - v_parent‖², the distance to the parent's output"
    )
    std_penalty: float = Field(
        1.0, ge=0, le=1e6, description="λ of the reward mean_k(r) - λ·std_k(r) over the ensemble's members"
    )
    anchor_uncertainty_scale: float = Field(
        0.5, ge=0, le=1e6, description="s, the anchor's weight is multiplied by 1 + s·std_k(r)"
    )
    guidance: float | None = Field(
        None,
        ge=0,
        le=30,
        description="guidance scale of sampling and training; default: the generator's default",
    )
    checkpoint_every: int = Field(20, ge=1, le=1_000_000, description="optimizer steps between checkpoints")
    validation: ValidationSettings = ValidationSettings()
    draft: DraftSettings = DraftSettings()
    reward_gradient: RewardGradientSettings = RewardGradientSettings()
    reward_weighted: RewardWeightedSettings = RewardWeightedSettings()
    kto: KtoSettings = KtoSettings()
    dpo: DpoSettings = DpoSettings()
    nft: NftSettings = NftSettings()
    awm: AwmSettings = AwmSettings()
    ddpo: DdpoSettings = DdpoSettings()

    @model_validator(mode="before")
    @classmethod
    def _with_the_methods_own_defaults(cls, given: Any) -> Any:
        # As text: what is no name at all is left to the check of the field, which says so.
        return {**OWN_DEFAULTS.get(str(given.get("method", DEFAULT_METHOD)), {}), **given}

    def of_method(self) -> Group | None:
        """The settings of the chosen method alone; None for one without any."""
        return getattr(self, self.method, None)
