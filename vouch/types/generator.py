"""Description of a generator."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PromptAttribute:
    """An attribute that a prompt may state, and its values."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class GeneratorDescription:
    """Vocabulary, defaults and limits of one version. With an open vocabulary any prompt is accepted. The
    gateway fills in the limits of the contract."""

    generator_version: str  # digest
    generator_name: str
    width: int  # pixels
    height: int  # pixels
    sampler: str
    default_steps: int
    default_guidance: float
    open_vocabulary: bool = True
    labels: tuple[str, ...] = ()
    attributes: tuple[PromptAttribute, ...] = ()
    example_prompts: tuple[str, ...] = ()
    max_images_per_call: int = 0
    max_images_per_stream: int = 0
    max_steps: int = 0
    max_guidance: float = 0.0
    fallback_reason: str = ""  # why the diffusers pipeline generates its images
    kernel: str = ""  # how its U-Net is computed, and why
    samplers: tuple[str, ...] = ()
    default_guidance_method: str = "cfg"
    default_guidance_start: float = 0.0
    default_guidance_stop: float = 1.0
    default_adapter_start: float = 0.0
    guidance_methods: tuple[str, ...] = ("cfg",)
