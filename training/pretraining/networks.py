"""The parts of a miniature Stable Diffusion while they are trained."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from training.pretraining.config import PretrainConfig
from training.pretraining.tokens import train_tokenizer
from training.pretraining.widening import widen
from vouch.errors import InvalidInput
from vouch.models.captions import Vocabulary
from vouch.models.defaults import Defaults
from vouch.types.guidance import GuidanceOptions

CAPTIONS = 2**16
"""Of so many the tokens are kept, for the same captions come again."""


class Networks:
    """Autoencoder, tokenizer, text encoder, U-Net and noise schedule of one generator."""

    def __init__(
        self,
        config: PretrainConfig,
        words: Vocabulary | CLIPTokenizer,
        vae: AutoencoderKL,
        latent_size: int,
        device: str,
    ) -> None:
        """words: the vocabulary, in which every prompt has to stay; or a tokenizer, and any prompt is taken."""
        self.vae, self.device = vae, device
        self.vocabulary = words if isinstance(words, Vocabulary) else None
        self.tokenizer: CLIPTokenizer = train_tokenizer(words) if isinstance(words, Vocabulary) else words
        self.text_encoder = build_text_encoder(config, self.tokenizer).to(device)
        self.unet = build_unet(config, vae.config.latent_channels, latent_size).to(
            device, memory_format=torch.channels_last
        )
        self.scheduler = build_scheduler()
        self._tokens = functools.lru_cache(CAPTIONS)(self._tokenize)
        if config.unet is not None:
            self.load(config.unet)

    def load(self, folder: Path) -> None:
        """Takes the weights of the U-Net and the text encoder of a diffusers folder, whose latents may be narrower.

        Raises:
            InvalidInput: they are of another architecture, or of other words.
        """
        unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet", torch_dtype=torch.float32)
        text_encoder = CLIPTextModel.from_pretrained(
            folder, subfolder="text_encoder", torch_dtype=torch.float32
        )
        try:
            widen(self.unet, unet.state_dict())
            self.text_encoder.load_state_dict(text_encoder.state_dict())
        except (InvalidInput, RuntimeError) as error:
            raise InvalidInput(
                f"{folder} has a U-Net or a text encoder of another size than these settings ask for: give the "
                "settings that it was trained with (channels, text_width, text_layers) and images with the same "
                f"labels. {str(error).splitlines()[-1].strip()}"
            ) from None

    @property
    def trained(self) -> list[nn.Module]:
        return [self.unet, self.text_encoder]

    def embed(self, captions: list[str]) -> torch.Tensor:
        """Captions as the U-Net reads them: [N, tokens, width]."""
        tokens = torch.stack([self._tokens(caption) for caption in captions])
        return self.text_encoder(tokens.to(self.device, non_blocking=True))[0]

    def _tokenize(self, caption: str) -> torch.Tensor:
        tokens = self.tokenizer(
            caption,
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        return tokens.input_ids[0]

    def pipeline(self) -> StableDiffusionPipeline:
        """The same parts as diffusers knows them."""
        pipe = StableDiffusionPipeline(
            vae=self.vae,
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            unet=self.unet,
            scheduler=self.scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipe.set_progress_bar_config(disable=True)
        return pipe

    @torch.no_grad()
    def save_guide(self, weights: Sequence[torch.Tensor], folder: Path) -> None:
        """Writes other weights of `trained`, in the order of their parameters, as the weaker version that autoguidance
        leads away from."""
        copies = [copy.deepcopy(module) for module in self.trained]
        parameters = [parameter for module in copies for parameter in module.parameters()]
        for parameter, weight in zip(parameters, weights, strict=True):
            parameter.copy_(weight)
        unet, text_encoder = copies
        unet.to("cpu", torch.float16).save_pretrained(folder, safe_serialization=True)
        text_encoder.cpu().save_pretrained(folder / "text_encoder", safe_serialization=True)

    def save(self, config: PretrainConfig) -> None:
        """Writes the diffusers folder, VAE and U-Net in half precision, with the vocabulary, if any, beside it.

        The text encoder stays in single precision: transformers would load it as stored where diffusers loads the
        others as float32, and a plain ``from_pretrained(folder)`` would then mix the two.
        """
        self.vae.to("cpu", torch.float16)
        self.unet.to("cpu", torch.float16)
        self.text_encoder.cpu()
        self.pipeline().save_pretrained(config.out, safe_serialization=True)
        if self.vocabulary is not None:
            self.vocabulary.save(config.out)
        Defaults(
            config.default_steps, config.default_guidance, GuidanceOptions(stop=config.default_stop)
        ).save(config.out)


def build_scheduler() -> DDIMScheduler:
    """Cosine betas rescaled to zero terminal SNR (Lin et al. 2023, arXiv 2305.08891): sampling starts from the pure
    noise that training has seen, so backgrounds keep their true brightness."""
    return DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
    )


def build_text_encoder(config: PretrainConfig, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A CLIP text encoder with random weights, trained with the U-Net."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.text_width,
            intermediate_size=4 * config.text_width,
            num_hidden_layers=config.text_layers,
            num_attention_heads=max(1, config.text_width // 16),
            max_position_embeddings=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_unet(config: PretrainConfig, latent_channels: int, latent_size: int) -> UNet2DConditionModel:
    """Attention below the first level only: at full size it costs most and says least about a single cell."""
    levels = len(config.channels)
    return UNet2DConditionModel(
        sample_size=latent_size,
        in_channels=latent_channels,
        out_channels=latent_channels,
        block_out_channels=config.channels,
        layers_per_block=1,
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * (levels - 1),
        up_block_types=("CrossAttnUpBlock2D",) * (levels - 1) + ("UpBlock2D",),
        cross_attention_dim=config.text_width,
        attention_head_dim=tuple(max(1, c // 32) for c in config.channels),  # diffusers reads it as heads
        norm_num_groups=16,
        dropout=config.dropout,
    )


GROUPS = 8
"""Groups of a group norm."""


def build_vae(config: PretrainConfig, size: int) -> AutoencoderKL:
    """An `AutoencoderKL` that reduces each side by 2^(levels-1); without attention, so that it works at any size.

    Raises:
        InvalidInput: `config.vae_start` is of another architecture.
    """
    levels = len(config.vae_channels)
    vae = AutoencoderKL(
        sample_size=size,
        latent_channels=config.latent_channels,
        block_out_channels=config.vae_channels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=1,
        norm_num_groups=GROUPS,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )
    if config.vae_start is not None:
        start = AutoencoderKL.from_pretrained(
            str(config.vae_start), torch_dtype=torch.float32, use_safetensors=True
        )
        widen(vae, start.state_dict())
    return vae
