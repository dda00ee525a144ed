"""A generator version as something that draws: any diffusers Stable Diffusion folder, with or without a LoRA."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vouch.captions import Vocabulary
from vouch.errors import Cancelled, InvalidInput
from vouch.sampling import Trajectory, UnsupportedScheduler, trajectory

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
        self.sampler: str = type(pipe.scheduler).__name__.removesuffix("Scheduler")
        self.whole_because = _why_whole(pipe)
        """Why images can only be drawn whole, by diffusers' own loop; "" when they go step by step."""
        # Caches of plain functions: one of a method would hold the generator in a circle, and a version that has been
        # swapped out must go at once.
        self._encode = functools.lru_cache(maxsize=PROMPTS_KEPT)(functools.partial(_encoded, pipe))
        self._trajectory = functools.lru_cache(maxsize=64)(functools.partial(trajectory, pipe.scheduler))

    # ---- step by step

    @property
    def stepwise(self) -> bool:
        """Whether `trajectory`, `encode`, `predict` and `decode` draw what the pipeline draws."""
        return not self.whole_because

    def trajectory(self, steps: int) -> Trajectory:
        """The coefficients of every step. Raises InvalidInput for more steps than the model was trained with."""
        return self._trajectory(steps)

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
        said: torch.Tensor = self.pipe.unet(x, timesteps, prompts, return_dict=False)[0]
        return said

    @torch.inference_mode()
    def decode(self, x: torch.Tensor) -> np.ndarray:
        """Pixels uint8 [N, H, W, 3] of clean latents."""
        vae = self.pipe.vae
        pixels = vae.decode(x / vae.config.scaling_factor, return_dict=False)[0]
        return _uint8((pixels / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).float().numpy())

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


def _uint8(pixels: np.ndarray) -> np.ndarray:
    return (pixels * 255).round().astype(np.uint8)


@torch.inference_mode()
def _encoded(pipe: Any, prompt: str) -> torch.Tensor:
    encoded: torch.Tensor = pipe.encode_prompt(prompt, "cpu", 1, False)[0]
    return encoded


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


def load_generator(folder: Path, parent_folder: Path | None = None) -> Generator:
    """Loads a diffusers folder, or a LoRA `folder` upon its parent's diffusers folder.

    Raises:
        InvalidInput: neither; says what was looked for.
    """
    base = Path(parent_folder or folder)
    if not (base / "model_index.json").is_file():
        raise InvalidInput(
            f"{base.name} is not a diffusers model: it holds no model_index.json.", "NOT_A_GENERATOR"
        )
    pipe = load_pipeline(base)
    if (Path(folder) / LORA_FILE).is_file():
        pipe.load_lora_weights(str(folder), weight_name=LORA_FILE)
        pipe.fuse_lora()
        pipe.unload_lora_weights()
    steps, guidance = _defaults(base)
    return Generator(pipe, Vocabulary.load(base), steps, guidance)


def load_pipeline(folder: Path) -> Any:
    """The diffusers pipeline in `folder`, in single precision, channels last, from safetensors and nothing else."""
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import logging

    logging.disable_progress_bar()
    pipe = StableDiffusionPipeline.from_pretrained(
        str(folder), torch_dtype=torch.float32, local_files_only=True, use_safetensors=True
    )
    pipe.set_progress_bar_config(disable=True)
    pipe.unet.to(memory_format=torch.channels_last)
    pipe.vae.to(memory_format=torch.channels_last)
    return pipe


def _defaults(folder: Path) -> tuple[int, float]:
    path = folder / DEFAULTS_FILE
    found = json.loads(path.read_text()) if path.is_file() else {}
    return int(found.get("steps", 30)), float(found.get("guidance", 7.5))
