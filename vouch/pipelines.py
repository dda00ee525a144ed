"""A generator version as something that draws: any diffusers Stable Diffusion folder, with or without a LoRA."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vouch.captions import Vocabulary
from vouch.errors import Cancelled, InvalidInput

LORA_FILE = "pytorch_lora_weights.safetensors"
DEFAULTS_FILE = "defaults.json"
OnStep = Callable[[int, int], bool]


class Generator:
    """One loaded pipeline. Not thread-safe: one call at a time."""

    def __init__(self, pipe: Any, vocabulary: Vocabulary | None, steps: int, guidance: float) -> None:
        self.pipe, self.vocabulary = pipe, vocabulary
        self.default_steps, self.default_guidance = steps, guidance
        self.height = self.width = pipe.unet.config.sample_size * pipe.vae_scale_factor
        self.sampler: str = type(pipe.scheduler).__name__.removesuffix("Scheduler")

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
        return (result.images * 255).round().astype(np.uint8)


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
