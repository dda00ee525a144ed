"""The generator: any Stable Diffusion folder of diffusers, with or without a LoRA."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vouch.errors import Cancelled, InvalidInput
from vouch.models.captions import Vocabulary
from vouch.models.defaults import Defaults, load_defaults
from vouch.models.folders import check_generator_folder
from vouch.models.kernels import Eager, Network
from vouch.models.loading import load_guide_parts, load_pipeline
from vouch.models.predictions import guided_steps, take_step
from vouch.models.sampling import (
    Rows,
    Trajectory,
    UnsupportedScheduler,
    check_eta,
    sampler_of,
    trajectory,
    with_sampler,
)
from vouch.types.guidance import METHODS, PLAIN, GuidanceOptions
from vouch.types.samplers import SAMPLERS

LORA_FILE = "pytorch_lora_weights.safetensors"
GUIDE_FOLDER = "guide"
"""A weaker U-Net for autoguidance, as diffusers saves one; in its own `text_encoder`, where there is one, the text
encoder that it was trained with."""
PROMPTS_KEPT = 256
OnStep = Callable[[int, int], bool]


class Generator:
    """One loaded pipeline. Not thread-safe: one call at a time."""

    def __init__(
        self,
        pipe: Any,
        vocabulary: Vocabulary | None,
        steps: int,
        guidance: float,
        options: GuidanceOptions = PLAIN,
    ) -> None:
        self.pipe, self.vocabulary = pipe, vocabulary
        self.default_steps, self.default_guidance = steps, guidance
        self.default_options = options
        self.height = self.width = pipe.unet.config.sample_size * pipe.vae_scale_factor
        self.sampler = sampler_of(pipe.scheduler)
        self.network: Network = Eager(pipe.unet)
        """Evaluates the U-Net; may be replaced between two steps."""
        self.kernel = "eager"
        """What `network` is and why; shown to users."""
        self.base: Generator | None = None
        """The generator that an adapter changes; both share all other weights."""
        self.guide: Generator | None = None
        """The weaker version of autoguidance: another U-Net, and optionally another text encoder."""
        self.fallback_reason = _fallback_reason(pipe)
        """Why diffusers' own pipeline draws the images; "" when the engine denoises them step by step."""
        # Caches of functions: a method's cache would form a reference cycle, and a version that is swapped out must
        # be freed at once.
        self._encode = functools.lru_cache(maxsize=PROMPTS_KEPT)(functools.partial(_encoded, pipe))
        self._trajectory = functools.lru_cache(maxsize=64)(functools.partial(_trajectory_of, pipe.scheduler))

    # ---- step by step

    @property
    def stepwise(self) -> bool:
        """Whether `trajectory`, `encode`, `predict` and `decode` draw the same images as the pipeline."""
        return not self.fallback_reason

    def trajectory(self, steps: int, sampler: str = "", eta: float = 0.0) -> Trajectory:
        """The coefficients of every step. Raises InvalidInput for more steps than the model was trained with."""
        return self._trajectory(steps, sampler, eta)

    @property
    def samplers(self) -> tuple[str, ...]:
        """What a request may choose among."""
        return () if self.fallback_reason else tuple(filter(self._supports, SAMPLERS))

    def _supports(self, sampler: str) -> bool:
        try:
            self.trajectory(1, sampler)
        except InvalidInput:
            return False
        return True

    def check_sampler(self, sampler: str, eta: float) -> None:
        """Raises InvalidInput, or UnsupportedScheduler, for a sampler that this generator lacks."""
        if self.fallback_reason and (eta or sampler not in ("", self.sampler)):
            raise InvalidInput(
                f"This generator draws with {self.sampler} and nothing else: {self.fallback_reason}. "
                "Leave sampler and eta out."
            )
        if not self.fallback_reason:
            self.trajectory(1, sampler, eta)

    @property
    def guidance_methods(self) -> tuple[str, ...]:
        """What a request may choose among."""
        if self.fallback_reason:
            return ("cfg",)
        return tuple(method for method in METHODS if method != "autoguidance" or self.guide)

    def check_guidance(self, scale: float, options: GuidanceOptions) -> None:
        """Raises InvalidInput for guidance that this generator lacks."""
        options.check_scale(scale)
        if self.fallback_reason and not options.plain:
            raise InvalidInput(
                f"This generator can only guide every step with cfg: {self.fallback_reason}. "
                "Leave guidance_method, guidance_start, guidance_stop and adapter_start out."
            )
        if options.negative_prompt and self.pipe.unet.config.time_cond_proj_dim is not None:
            raise InvalidInput(
                "This generator takes its guidance as an embedding, and none from words. Leave negative_prompt out."
            )
        if options.method not in self.guidance_methods:
            raise InvalidInput(
                f"This generator has no {GUIDE_FOLDER} folder to autoguide with; "
                f"set guidance_method to one of {', '.join(self.guidance_methods)}."
            )
        if options.adapter_start and self.base is None:
            raise InvalidInput(
                f"adapter_start is {options.adapter_start:g}, but this generator is no adapter upon another one. "
                "Leave adapter_start out, or name an aligned version."
            )

    def encode(self, prompt: str) -> torch.Tensor:
        """Prompt embeddings [1, L, D], cached by prompt."""
        return self._encode(prompt)

    def noise(self, generator: torch.Generator) -> torch.Tensor:
        """Standard normal latents float32 [1, C, h, w]."""
        config = self.pipe.unet.config
        return torch.randn(
            (1, config.in_channels, config.sample_size, config.sample_size), generator=generator
        )

    @torch.inference_mode()
    def predict(self, x: torch.Tensor, timesteps: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
        """The network's output [N, C, h, w] for latents [N, C, h, w], timesteps [N] and prompts [N, L, D]."""
        return self.network(x, timesteps, prompts)

    @torch.inference_mode()
    def decode(self, x: torch.Tensor) -> np.ndarray:
        """Pixels uint8 [N, H, W, 3] of clean latents."""
        vae = self.pipe.vae
        pixels = vae.decode(x.to(vae.device) / vae.config.scaling_factor, return_dict=False)[0]
        return _uint8((pixels / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).float().cpu().numpy())

    # ---- whole images

    @torch.inference_mode()
    def generate(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        steps: int,
        guidance: float,
        on_step: OnStep | None = None,
        options: GuidanceOptions | None = None,
    ) -> np.ndarray:
        """Draws one image for each prompt and seed: uint8 [N, H, W, 3].

        Each image depends only on its own prompt, seed, steps and guidance, not on its batch. diffusers' own pipeline
        draws whatever it can express.

        Args:
            on_step: called with (steps done, total steps) after each denoising step; returning False stops.
            options: guidance beyond the scale; None: `default_options`.

        Raises:
            Cancelled: `on_step` returned False.
            InvalidInput: options that this generator lacks.
        """
        options = self.default_options if options is None else options
        self.check_guidance(guidance, options)

        def go_on(step: int) -> None:
            if on_step is not None and not on_step(step, steps):
                raise Cancelled("The generation was cancelled.")

        draw = self._by_pipeline if options.plain else self._by_table
        return draw(prompts, seeds, steps, guidance, options, go_on)

    def _by_pipeline(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        steps: int,
        guidance: float,
        options: GuidanceOptions,
        go_on: Callable[[int], None],
    ) -> np.ndarray:
        def after_step(pipe: Any, index: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
            go_on(index + 1)
            return values

        result = self.pipe(
            list(prompts),
            num_inference_steps=steps,
            guidance_scale=guidance,
            **(
                {"negative_prompt": [options.negative_prompt] * len(prompts)}
                if options.negative_prompt
                else {}
            ),
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            callback_on_step_end=after_step,
            output_type="np",
        )
        return _uint8(result.images)

    def _by_table(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        steps: int,
        guidance: float,
        options: GuidanceOptions,
        go_on: Callable[[int], None],
    ) -> np.ndarray:
        return self.decode(self.latents(prompts, seeds, steps, guidance, options, go_on))

    @torch.inference_mode()
    def latents(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        steps: int,
        guidance: float,
        options: GuidanceOptions,
        go_on: Callable[[int], None] = lambda step: None,
    ) -> torch.Tensor:
        """What `decode` makes the images of `generate` from: float32 [N, C, h, w], on the CPU. go_on: called with the
        steps done after each."""
        path = self.trajectory(steps)
        guided = {prompt: guided_steps(self, prompt, len(path), guidance, options) for prompt in set(prompts)}
        x = torch.cat([self.noise(torch.Generator().manual_seed(seed)) for seed in seeds]) * path.start
        previous_x0 = no_noise = torch.zeros_like(x)  # without an eta no sampler adds any
        for step in range(len(path)):
            rows = Rows.of([(path, step)] * len(x))
            stepped = take_step([guided[prompt][step] for prompt in prompts], rows, x, previous_x0, no_noise)
            x, previous_x0 = stepped.x, stepped.previous_x0
            go_on(step + 1)
        return x


def _trajectory_of(scheduler: Any, steps: int, sampler: str, eta: float) -> Trajectory:
    check_eta(sampler or sampler_of(scheduler), eta)
    return trajectory(with_sampler(scheduler, sampler), steps, eta)


def _uint8(pixels: np.ndarray) -> np.ndarray:
    return (pixels * 255).round().astype(np.uint8)


@torch.inference_mode()
def _encoded(pipe: Any, prompt: str) -> torch.Tensor:
    encoded: torch.Tensor = pipe.encode_prompt(prompt, pipe.device, 1, False)[0]
    return encoded.cpu()


def _fallback_reason(pipe: Any) -> str:
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
        InvalidInput: a folder that cannot be drawn with, and names the part and the remedy; or its defaults are none
            that it can draw with.
    """
    base = Path(parent_folder or folder)
    check_generator_folder(base)
    pipe, defaults = load_pipeline(base).to(device), load_defaults(base)
    generator = Generator(pipe, Vocabulary.load(base), defaults.steps, defaults.guidance, defaults.options)
    if (guide := load_guide(pipe, base / GUIDE_FOLDER)) is not None:
        generator.guide = Generator(guide, generator.vocabulary, defaults.steps, defaults.guidance)
    generator.check_guidance(generator.default_guidance, generator.default_options)
    return adapt(generator, folder) if (Path(folder) / LORA_FILE).is_file() else generator


def load_guide(pipe: Any, folder: Path) -> Any:
    """`pipe` with the U-Net in `folder`, and with the text encoder there; None where there is no such folder.

    Raises:
        InvalidInput: a U-Net of other latents or prompts, or one that cannot be loaded or is not whole.
    """
    if not folder.is_dir():
        return None
    parts = {**pipe.components, **load_guide_parts(folder)}
    _check_guide(pipe.unet.config, parts["unet"].config)
    guide = type(pipe)(**parts, requires_safety_checker=False).to(pipe.device)
    guide.set_progress_bar_config(disable=True)
    guide.unet.to(memory_format=torch.channels_last)
    return guide


def _check_guide(ours: Any, theirs: Any) -> None:
    for name in ("in_channels", "out_channels", "sample_size", "cross_attention_dim"):
        if ours[name] != theirs[name]:
            raise InvalidInput(
                f"The U-Net in {GUIDE_FOLDER} has {name} {theirs[name]}, the generator's has {ours[name]}: "
                "it cannot guide this generator.",
                "NOT_A_GENERATOR",
            )


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
    if vocabulary is not None and not vocabulary.labels:  # adapted to free text
        vocabulary = None
    defaults = load_defaults(
        folder, Defaults(base.default_steps, base.default_guidance, base.default_options)
    )
    adapted = Generator(pipe, vocabulary, defaults.steps, defaults.guidance, defaults.options)
    adapted.base, adapted.guide = base, base.guide
    adapted.check_guidance(adapted.default_guidance, adapted.default_options)
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
