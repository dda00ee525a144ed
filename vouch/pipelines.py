"""A generator version as something that draws: any diffusers Stable Diffusion folder, with or without a LoRA."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vouch.captions import Vocabulary
from vouch.errors import Cancelled, InvalidInput
from vouch.kernels import Eager, Network
from vouch.loading import load_pipeline
from vouch.modelfolders import check_generator_folder
from vouch.samplers import SAMPLERS
from vouch.sampling import (
    Trajectory,
    UnsupportedScheduler,
    check_eta,
    sampler_of,
    trajectory,
    with_sampler,
)

LORA_FILE = "pytorch_lora_weights.safetensors"
DEFAULTS_FILE = "defaults.json"
PROMPTS_KEPT = 256
OnStep = Callable[[int, int], bool]


class Generator:
    """One loaded pipeline. Not thread-safe: one call at a time."""

    def __init__(self, pipe: Any, vocabulary: Vocabulary | None, steps: int, guidance: float) -> None:
        self.pipe, self.vocabulary = pipe, vocabulary
        self.default_steps, self.default_guidance = steps, guidance
        self.height = self.width = pipe.unet.config.sample_size * pipe.vae_scale_factor
        self.sampler = sampler_of(pipe.scheduler)
        self.network: Network = Eager(pipe.unet)
        """What computes a step; another may take its place between two steps."""
        self.kernel = "eager"
        """What `network` is and why, for people."""
        self.base: Generator | None = None
        """Whose weights an adapted generator shares, but for those that its adapter changes."""
        self.whole_because = _why_whole(pipe)
        """Why images can only be drawn whole, by diffusers' own loop; "" when they go step by step."""
        # Caches of plain functions: one of a method would hold the generator in a circle, and a version that has been
        # swapped out must go at once.
        self._encode = functools.lru_cache(maxsize=PROMPTS_KEPT)(functools.partial(_encoded, pipe))
        self._trajectory = functools.lru_cache(maxsize=64)(functools.partial(_walked, pipe.scheduler))

    # ---- step by step

    @property
    def stepwise(self) -> bool:
        """Whether `trajectory`, `encode`, `predict` and `decode` draw what the pipeline draws."""
        return not self.whole_because

    def trajectory(self, steps: int, sampler: str = "", eta: float = 0.0) -> Trajectory:
        """The coefficients of every step. Raises InvalidInput for more steps than the model was trained with."""
        return self._trajectory(steps, sampler, eta)

    @property
    def samplers(self) -> tuple[str, ...]:
        """What a request may choose."""
        return () if self.whole_because else tuple(filter(self._walks, SAMPLERS))

    def _walks(self, sampler: str) -> bool:
        try:
            self.trajectory(1, sampler)
        except InvalidInput:
            return False
        return True

    def check_sampler(self, sampler: str, eta: float) -> None:
        """Raises InvalidInput, or UnsupportedScheduler, for what this generator cannot walk."""
        if self.whole_because and (eta or sampler not in ("", self.sampler)):
            raise InvalidInput(
                f"This generator draws with {self.sampler} and nothing else: {self.whole_because}. "
                "Leave sampler and eta out."
            )
        if not self.whole_because:
            self.trajectory(1, sampler, eta)

    def encode(self, prompt: str) -> torch.Tensor:
        """The prompt as the network reads it, [1, L, D]; a repeated prompt is not computed again."""
        return self._encode(prompt)

    def noise(self, generator: torch.Generator) -> torch.Tensor:
        """Standard normal latents float32 [1, C, h, w]."""
        config = self.pipe.unet.config
        return torch.randn(
            (1, config.in_channels, config.sample_size, config.sample_size), generator=generator
        )

    @torch.inference_mode()
    def predict(self, x: torch.Tensor, timesteps: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
        """What the network says of latents [N, C, h, w] at timesteps [N] with prompts [N, L, D]: [N, C, h, w]."""
        return self.network(x, timesteps, prompts)

    @torch.inference_mode()
    def decode(self, x: torch.Tensor) -> np.ndarray:
        """Pixels uint8 [N, H, W, 3] of clean latents."""
        vae = self.pipe.vae
        pixels = vae.decode(x.to(vae.device) / vae.config.scaling_factor, return_dict=False)[0]
        return _uint8((pixels / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).float().cpu().numpy())

    # ---- whole

    @torch.inference_mode()
    def generate(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        steps: int,
        guidance: float,
        on_step: OnStep | None = None,
    ) -> np.ndarray:
        """Draws one image for each prompt and seed: uint8 [N, H, W, 3].

        Each image depends on its own prompt, seed, steps and guidance alone, whatever it is batched with.

        Args:
            on_step: told (steps done, steps in all) after each denoising step; returning False stops.

        Raises:
            Cancelled: `on_step` said so.
        """

        def after_step(pipe: Any, index: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
            if on_step is not None and not on_step(index + 1, steps):
                raise Cancelled("The generation was cancelled.")
            return values

        result = self.pipe(
            list(prompts),
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            callback_on_step_end=after_step,
            output_type="np",
        )
        return _uint8(result.images)


def _walked(scheduler: Any, steps: int, sampler: str, eta: float) -> Trajectory:
    check_eta(sampler or sampler_of(scheduler), eta)
    return trajectory(with_sampler(scheduler, sampler), steps, eta)


def _uint8(pixels: np.ndarray) -> np.ndarray:
    return (pixels * 255).round().astype(np.uint8)


@torch.inference_mode()
def _encoded(pipe: Any, prompt: str) -> torch.Tensor:
    encoded: torch.Tensor = pipe.encode_prompt(prompt, pipe.device, 1, False)[0]
    return encoded.cpu()


def _why_whole(pipe: Any) -> str:
    from diffusers import StableDiffusionPipeline

    if type(pipe) is not StableDiffusionPipeline:
        return f"{type(pipe).__name__} has a denoising loop of its own"
    if pipe.unet.config.time_cond_proj_dim is not None:
        return "the U-Net takes its guidance as an embedding"
    try:
        trajectory(pipe.scheduler, 1)
    except UnsupportedScheduler as error:
        return error.message
    return ""


def load_generator(folder: Path, parent_folder: Path | None = None, device: str = "cpu") -> Generator:
    """Loads a diffusers folder, or a LoRA `folder` upon its parent's diffusers folder, onto "cpu" or "cuda".

    Raises:
        InvalidInput: a folder that cannot be drawn with; names the part and the remedy.
    """
    base = Path(parent_folder or folder)
    check_generator_folder(base)
    generator = Generator(load_pipeline(base).to(device), Vocabulary.load(base), *defaults_of(base))
    return adapt(generator, folder) if (Path(folder) / LORA_FILE).is_file() else generator


def adapt(base: Generator, folder: Path) -> Generator:
    """`base` with the LoRA in `folder` fused in. Every weight that the adapter leaves alone stays the base's own, in
    the same memory; the base itself draws as before."""
    pipe = _sharing(base.pipe)
    pipe.load_lora_weights(str(folder), weight_name=LORA_FILE)
    for module in (*pipe.unet.modules(), *pipe.text_encoder.modules()):
        if hasattr(module, "base_layer") and hasattr(module, "lora_A"):
            changed = module.base_layer
            changed.weight = torch.nn.Parameter(changed.weight.detach().clone(), requires_grad=False)
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    vocabulary = Vocabulary.load(folder) or base.vocabulary
    adapted = Generator(pipe, vocabulary, base.default_steps, base.default_guidance)
    adapted.base = base
    return adapted


def _sharing(pipe: Any) -> Any:
    """A second pipeline with modules of its own around the same tensors."""
    parts = dict(pipe.components)
    for name in ("unet", "text_encoder"):
        tensors = {id(tensor): tensor for tensor in (*parts[name].parameters(), *parts[name].buffers())}
        parts[name] = copy.deepcopy(parts[name], tensors)
    parts["scheduler"] = copy.deepcopy(pipe.scheduler)  # drawing whole images moves its state
    shared = type(pipe)(**parts, requires_safety_checker=False)
    shared.set_progress_bar_config(disable=True)
    return shared


def defaults_of(folder: Path) -> tuple[int, float]:
    """Steps and guidance of a request that names none."""
    path = folder / DEFAULTS_FILE
    found = json.loads(path.read_text()) if path.is_file() else {}
    return int(found.get("steps", 30)), float(found.get("guidance", 7.5))
