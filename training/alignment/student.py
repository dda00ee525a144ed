"""The generator in training: a LoRA upon a frozen base, the parent that it must not run away from, and the reward."""

from __future__ import annotations

import copy
import functools
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from transformers.utils import SAFE_WEIGHTS_NAME

from training.alignment.encoder import Encoder
from training.alignment.pass_counter import PassCounter
from training.loop.device_placement import place_on_device
from training.objectives import denoising
from vouch.errors import InvalidInput
from vouch.models.captions import FILE_NAME as VOCABULARY_FILE
from vouch.models.defaults import DEFAULTS_FILE, load_defaults
from vouch.models.loading import load_pipeline
from vouch.models.networks.backbone import to_input
from vouch.models.networks.reward import RewardEnsemble
from vouch.models.pipelines import GUIDE_FOLDER, LORA_FILE, load_guide
from vouch.models.sampling import UnsupportedScheduler, sampler_of, trajectory

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
TEXT_TARGETS = ["q_proj", "k_proj", "v_proj", "out_proj"]


@dataclass(frozen=True)
class Noised:
    """Clean latents [N, C, h, w] on the way to noise: x_t, timesteps [N], what the network should say of them, and
    their prompts [N, L, D] as the student encodes them and as its parent does."""

    x: torch.Tensor
    timesteps: torch.Tensor
    wanted: torch.Tensor
    embedded: torch.Tensor
    embedded_by_parent: torch.Tensor


class Student:
    """What is trained, and what it is measured with. `parent` None: the LoRA begins upon the base itself.

    Of an ensemble of three or more, the last member teaches nothing: it is the validation reward. text_encoder: whether
    the LoRA is upon the text encoder as well. device: where the networks compute, "cpu" or "cuda"; all that goes
    in and comes out is on the CPU.

    Raises:
        InvalidInput: a base whose prediction is not understood.
    """

    def __init__(
        self,
        base: Path,
        parent: Path | None,
        reward: Path,
        rank: int,
        *,
        text_encoder: bool = False,
        device: str = "cpu",
    ) -> None:
        self._base, self._parent, self._device = base, parent, device
        self.pipe = load_pipeline(base)
        self.prediction: str = self.pipe.scheduler.config.prediction_type
        if self.prediction not in ("epsilon", "v_prediction", "sample"):
            raise InvalidInput(f"Alignment knows epsilon, v and sample prediction, not {self.prediction!r}.")
        self.unet = self.pipe.unet
        self.defaults = load_defaults(base) if parent is None else load_defaults(parent, load_defaults(base))
        if parent is not None:
            self.pipe.load_lora_weights(str(parent), weight_name=LORA_FILE, adapter_name=ADAPTER)
        for part in (self.pipe.vae, self.pipe.text_encoder, self.unet):
            part.requires_grad_(False)
        self._base_encoder = Encoder(self.pipe.tokenizer, self.pipe.text_encoder)
        self.parent = copy.deepcopy(self.unet).eval()
        self.encoder = self.parent_encoder = Encoder(self.pipe.tokenizer, self.pipe.text_encoder)
        self.trained = _adapted(self.unet, TARGETS, rank)
        if text_encoder:
            self.parent_encoder = Encoder(self.pipe.tokenizer, copy.deepcopy(self.pipe.text_encoder))
            self.trained += _adapted(self.pipe.text_encoder, TEXT_TARGETS, rank)
        self.passes = PassCounter(self.unet, self.parent)
        self.reward = RewardEnsemble.load(reward)
        vae, encoders = self.pipe.vae, (self.encoder, self.parent_encoder)
        place_on_device((self.unet, self.parent, *(one.network for one in encoders)), device)
        place_on_device(
            (vae.encoder, vae.decoder, vae.quant_conv, vae.post_quant_conv, *self.reward.parts()), device
        )
        self._teachers = slice(None, -1) if len(self.reward.members) > 2 else slice(None)
        self.alphas: torch.Tensor = self.pipe.scheduler.alphas_cumprod

    # ---- what serving draws with beside it

    @functools.cached_property
    def sampler(self) -> str:
        """The generator's own; DDIM for a scheduler that no table stands for."""
        try:
            trajectory(self.pipe.scheduler, 1)
        except UnsupportedScheduler:
            return "ddim"
        return sampler_of(self.pipe.scheduler)

    @contextmanager
    def as_base(self) -> Iterator[None]:
        """Within it, U-Net and text encoder compute as the base does, without any adapter."""
        networks = (self.unet, self.pipe.text_encoder)
        layers = [one for network in networks for one in network.modules() if isinstance(one, BaseTunerLayer)]
        learning = {weight: weight.requires_grad for layer in layers for weight in layer.parameters()}
        for layer in layers:
            layer.enable_adapters(False)
        try:
            yield
        finally:
            for layer in layers:
                layer.enable_adapters(True)
            for weight, learns in learning.items():
                weight.requires_grad_(learns)

    def embed_as_base(self, prompts: Sequence[str]) -> torch.Tensor:
        """[N, tokens, width], as the base's text encoder reads them."""
        with self.as_base():
            return self._base_encoder(prompts)

    @functools.cached_property
    def guide(self) -> tuple[Any, Encoder | None]:
        """The U-Net of autoguidance, and its text encoder where it has its own.

        Raises InvalidInput for a base that has no guide.
        """
        pipe = load_guide(self.pipe, self._base / GUIDE_FOLDER)
        if pipe is None:
            raise InvalidInput(f"{self._base.name} has no {GUIDE_FOLDER} folder: it cannot be autoguided.")
        pipe.unet.requires_grad_(False)
        place_on_device((pipe.unet,), self._device)
        own = pipe.text_encoder is not self.pipe.text_encoder
        return pipe.unet, Encoder(pipe.tokenizer, pipe.text_encoder) if own else None

    # ---- outputs for noised latents

    def noise(self, clean: torch.Tensor, random: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Timesteps [N] and standard normal noise for clean latents."""
        timesteps = torch.randint(0, len(self.alphas), (len(clean),), generator=random)
        return timesteps, torch.randn(clean.shape, generator=random)

    def noised(
        self, clean: torch.Tensor, prompts: Sequence[str], timesteps: torch.Tensor, noise: torch.Tensor
    ) -> Noised:
        x = self.pipe.scheduler.add_noise(clean, noise, timesteps)
        wanted = denoising.target(self.prediction, clean, noise, self.alphas, timesteps)
        return Noised(x, timesteps, wanted, self.embed(prompts), self.parent_encoder(prompts))

    def predict(self, noised: Noised) -> torch.Tensor:
        """[N, C, h, w], with gradients."""
        output: torch.Tensor = self.unet(noised.x, noised.timesteps, noised.embedded).sample
        return output

    @torch.no_grad()
    def predict_parent(self, noised: Noised) -> torch.Tensor:
        output: torch.Tensor = self.parent(noised.x, noised.timesteps, noised.embedded_by_parent).sample
        return output

    def denoising_error(
        self, clean: torch.Tensor, prompts: Sequence[str], random: torch.Generator
    ) -> torch.Tensor:
        """Of clean latents noised at random, [N]."""
        noised = self.noised(clean, prompts, *self.noise(clean, random))
        return denoising.per_sample_error(self.predict(noised), noised.wanted)

    def errors(self, noised: Noised) -> tuple[torch.Tensor, torch.Tensor]:
        """Denoising errors of student and parent, [N] each."""
        return (
            denoising.per_sample_error(self.predict(noised), noised.wanted),
            denoising.per_sample_error(self.predict_parent(noised), noised.wanted),
        )

    def clean(self, output: torch.Tensor, x: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """The clean latents that an output stands for."""
        return denoising.predicted_clean(self.prediction, output, x, self.alphas, timesteps)

    # ---- prompts, latents, images

    def embed(self, prompts: Sequence[str]) -> torch.Tensor:
        """[N, tokens, width]; with gradients where the text encoder learns."""
        return self.encoder(prompts)

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

    def teacher_logits(self, images: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
        """Differentiable logits [K, N] of plausible by each member that teaches, for images [N, 3, H, W] in [-1, 1]."""
        return self.reward.logits(images, self.reward.encode(prompts))[self._teachers, :, 0]

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """What the members that teach see in images [N, 3, H, W] in [-1, 1]: [N, D], of length 1; differentiable."""
        return self.reward.features(images)

    @contextmanager
    def with_weights(self, weights: Sequence[torch.Tensor]) -> Iterator[None]:
        """Within it the student is what it was with these weights. For what is asked without gradients."""
        now = [weight.data for weight in self.trained]
        for weight, other in zip(self.trained, weights, strict=True):
            weight.data = other
        try:
            yield
        finally:
            for weight, own in zip(self.trained, now, strict=True):
                weight.data = own

    @torch.no_grad()
    def validation_reward(self, images: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
        """The validation reward of images in [-1, 1], [N] in [0, 1]: of the member that nothing is trained against."""
        return self.reward.logits(images, self.reward.encode(prompts))[-1, :, 0].sigmoid()

    @torch.no_grad()
    def validation_features(self, images: torch.Tensor) -> torch.Tensor:
        """What the member that nothing is trained against sees in images [N, 3, H, W] in [-1, 1], before it knows the
        prompt: [N, F]; of a backbone that the members share its own features."""
        seen = self.reward.look(images)
        features: torch.Tensor = (
            seen if self.reward.backbone is not None else self.reward.members[-1].backbone(seen)
        )
        return features

    def save(self, out: Path) -> None:
        """Writes the LoRA in diffusers' own layout, with the words and defaults of the version that it trained on."""
        out.mkdir(parents=True, exist_ok=True)
        parts = {"unet": self.unet, "text_encoder": self.pipe.text_encoder}
        layers = {f"{name}_lora_layers": _layers(part) for name, part in parts.items() if _lora_of(part)}
        type(self.pipe).save_lora_weights(str(out), weight_name=LORA_FILE, **layers)
        for name in (DEFAULTS_FILE, VOCABULARY_FILE):
            if self._parent is not None and (self._parent / name).is_file():
                shutil.copyfile(self._parent / name, out / name)

    def merge(self, out: Path) -> None:
        """Writes the whole generator with the LoRA in its weights, as a diffusers folder, VAE and U-Net in half
        precision. It trains no more."""
        self.pipe.to("cpu")
        self.pipe.fuse_lora(adapter_names=[ADAPTER])
        self.pipe.unload_lora_weights()
        # The text encoder stays in single precision: transformers loads what is stored, diffusers float32.
        self.pipe.vae.to(torch.float16)
        self.pipe.unet.to(torch.float16)
        self.pipe.save_pretrained(str(out), safe_serialization=True)
        _write(self.pipe.text_encoder, out / "text_encoder")


def _write(text_encoder: Any, folder: Path) -> None:
    """Of several workers transformers lets the first alone write a model, and each needs its own."""
    path = folder / SAFE_WEIGHTS_NAME
    if not path.is_file():
        text_encoder.config.save_pretrained(folder)
        save_file({k: v.clone() for k, v in text_encoder.state_dict().items()}, path, {"format": "pt"})


def _lora_of(network: torch.nn.Module) -> list[torch.nn.Parameter]:
    return [parameter for name, parameter in network.named_parameters() if "lora_" in name]


def _layers(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.half() for k, v in get_peft_model_state_dict(network, adapter_name=ADAPTER).items()}


def _adapted(network: Any, targets: list[str], rank: int) -> list[torch.nn.Parameter]:
    """The LoRA that the network came with, or else a new one, to be trained."""
    if not _lora_of(network):
        lora = LoraConfig(r=rank, lora_alpha=rank, target_modules=targets, init_lora_weights="gaussian")
        network.add_adapter(lora, adapter_name=ADAPTER)
    weights = _lora_of(network)
    for parameter in weights:
        parameter.requires_grad_(True)
    return weights
