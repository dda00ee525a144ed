"""The generator in training: a LoRA upon a frozen base, the parent that it must not run away from, and the reward."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from training.objectives import denoising
from training.passes import Passes
from vouch.errors import InvalidInput
from vouch.networks.backbone import to_input
from vouch.networks.reward import RewardEnsemble
from vouch.pipelines import LORA_FILE, load_pipeline

ADAPTER = "vouch"
TARGETS = [
    "to_q",
    "to_k",
    "to_v",
    "to_out.0",
    "proj_in",
    "proj_out",
    "ff.net.0.proj",
    "ff.net.2",
    "conv1",
    "conv2",
]


@dataclass(frozen=True)
class Noised:
    """Clean latents [N, C, h, w] on the way to noise: x_t, timesteps [N], what the network should say of them, and
    their encoded prompts [N, L, D]."""

    x: torch.Tensor
    timesteps: torch.Tensor
    wanted: torch.Tensor
    embedded: torch.Tensor


class Student:
    """What is trained, and what it is measured with. `parent` None: the LoRA begins upon the base itself.

    Of an ensemble of three or more, the last member teaches nothing: it is the validation reward.

    Raises:
        InvalidInput: a base whose prediction is not understood.
    """

    def __init__(self, base: Path, parent: Path | None, reward: Path, rank: int) -> None:
        self.pipe = load_pipeline(base)
        self.prediction: str = self.pipe.scheduler.config.prediction_type
        if self.prediction not in ("epsilon", "v_prediction", "sample"):
            raise InvalidInput(f"Alignment knows epsilon, v and sample prediction, not {self.prediction!r}.")
        for part in (self.pipe.vae, self.pipe.text_encoder, self.pipe.unet):
            part.requires_grad_(False)
        self.unet = self.pipe.unet
        if parent is not None:
            self.pipe.load_lora_weights(str(parent), weight_name=LORA_FILE, adapter_name=ADAPTER)
        self.parent = copy.deepcopy(self.unet).eval()
        if parent is None:
            lora = LoraConfig(r=rank, lora_alpha=rank, target_modules=TARGETS, init_lora_weights="gaussian")
            self.unet.add_adapter(lora, adapter_name=ADAPTER)
        self.trained = [p for n, p in self.unet.named_parameters() if "lora_" in n]
        for p in self.trained:
            p.requires_grad_(True)
        self.passes = Passes(self.unet, self.parent)
        self.reward = RewardEnsemble.load(reward)
        self._teachers = slice(None, -1) if len(self.reward.members) > 2 else slice(None)
        self.alphas: torch.Tensor = self.pipe.scheduler.alphas_cumprod
        self._embedded: dict[str, torch.Tensor] = {}

    # ---- what is said of noised latents

    def noise(self, clean: torch.Tensor, random: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Timesteps [N] and standard normal noise for clean latents."""
        timesteps = torch.randint(0, len(self.alphas), (len(clean),), generator=random)
        return timesteps, torch.randn(clean.shape, generator=random)

    def noised(
        self, clean: torch.Tensor, prompts: Sequence[str], timesteps: torch.Tensor, noise: torch.Tensor
    ) -> Noised:
        x = self.pipe.scheduler.add_noise(clean, noise, timesteps)
        wanted = denoising.target(self.prediction, clean, noise, self.alphas, timesteps)
        return Noised(x, timesteps, wanted, self.embed(prompts))

    def says(self, noised: Noised) -> torch.Tensor:
        """[N, C, h, w], with gradients."""
        said: torch.Tensor = self.unet(noised.x, noised.timesteps, noised.embedded).sample
        return said

    @torch.no_grad()
    def parent_says(self, noised: Noised) -> torch.Tensor:
        said: torch.Tensor = self.parent(noised.x, noised.timesteps, noised.embedded).sample
        return said

    def denoising_error(
        self, clean: torch.Tensor, prompts: Sequence[str], random: torch.Generator
    ) -> torch.Tensor:
        """Of clean latents noised at random, [N]."""
        noised = self.noised(clean, prompts, *self.noise(clean, random))
        return denoising.per_sample_error(self.says(noised), noised.wanted)

    def errors(self, noised: Noised) -> tuple[torch.Tensor, torch.Tensor]:
        """Denoising errors of student and parent, [N] each."""
        return (
            denoising.per_sample_error(self.says(noised), noised.wanted),
            denoising.per_sample_error(self.parent_says(noised), noised.wanted),
        )

    def clean(self, output: torch.Tensor, x: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """The clean latents that an output stands for."""
        return denoising.predicted_clean(self.prediction, output, x, self.alphas, timesteps)

    # ---- prompts, latents, images

    @torch.no_grad()
    def embed(self, prompts: Sequence[str]) -> torch.Tensor:
        """[N, tokens, width]; the text encoder is frozen, so each prompt is encoded once."""
        for prompt in set(prompts) - set(self._embedded):
            tokens = self.pipe.tokenizer(
                prompt,
                padding="max_length",
                max_length=self.pipe.tokenizer.model_max_length,
                truncation=True,
                return_tensors="pt",
            )
            self._embedded[prompt] = self.pipe.text_encoder(tokens.input_ids)[0][0]
        return torch.stack([self._embedded[prompt] for prompt in prompts])

    @torch.no_grad()
    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 [N, 3, H, W] to scaled latents."""
        size = self.unet.config.sample_size * self.pipe.vae_scale_factor
        parts = [
            self.pipe.vae.encode(to_input(images[i : i + 32], size)).latent_dist.mode()
            for i in range(0, len(images), 32)
        ]
        return torch.cat(parts) * self.pipe.vae.config.scaling_factor

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Scaled latents to images in [-1, 1]; differentiable."""
        images: torch.Tensor = self.pipe.vae.decode(latents / self.pipe.vae.config.scaling_factor).sample
        return images

    def verdicts(self, images: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
        """What each member that teaches says of images [N, 3, H, W] in [-1, 1]: logits [K, N]; differentiable."""
        return self.reward.logits(images, self.reward.encode(prompts))[self._teachers, :, 0]

    @torch.no_grad()
    def examined(self, images: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
        """The validation reward of images in [-1, 1], [N] in [0, 1]: of the member that nothing is trained against."""
        return self.reward.logits(images, self.reward.encode(prompts))[-1, :, 0].sigmoid()

    def save(self, out: Path) -> None:
        """Writes the LoRA in diffusers' own layout."""
        out.mkdir(parents=True, exist_ok=True)
        layers = {k: v.half() for k, v in get_peft_model_state_dict(self.unet, adapter_name=ADAPTER).items()}
        type(self.pipe).save_lora_weights(str(out), unet_lora_layers=layers, weight_name=LORA_FILE)
