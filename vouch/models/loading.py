"""A diffusers folder into memory, part by part, so that a part that is damaged or not whole is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from vouch.errors import InvalidInput
from vouch.models.folders import INDEX, WEIGHTS, variant_of, variants_of
from vouch.models.projection import PROJECTION_FOLDER, load_projection

if TYPE_CHECKING:
    from vouch.models.pipelines import Generator

UNUSED = ("safety_checker", "feature_extractor", "image_encoder")
"""Optional parts of a pipeline that vouch never calls. They are not loaded, whatever their classes are."""


def load_pipeline(folder: Path) -> Any:
    """The diffusers pipeline in `folder`, in single precision, channels last, from safetensors and nothing else.

    Raises:
        InvalidInput: a part cannot be loaded, or has weights that are missing; says which.
    """
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import logging

    logging.disable_progress_bar()
    folder = Path(folder)
    index = json.loads((folder / INDEX).read_text("utf-8"))
    variants = variants_of(folder)
    parts = {part: _load_weights(folder, part, index[part], variants[part]) for part in WEIGHTS}
    parts["scheduler"] = _load_scheduler(folder, index["scheduler"])
    parts |= {name: None for name in UNUSED if name in index}
    try:
        pipe = StableDiffusionPipeline.from_pretrained(str(folder), local_files_only=True, **parts)
    except Exception as error:  # diffusers and transformers raise two dozen kinds
        raise _refusal(folder, "tokenizer", error) from error
    pipe.set_progress_bar_config(disable=True)
    _load_projection(pipe.unet, folder)
    pipe.unet.to(memory_format=torch.channels_last)
    pipe.vae.to(memory_format=torch.channels_last)
    return pipe


def load_guide_parts(folder: Path) -> dict[str, Any]:
    """The U-Net of a generator's guide in `folder`, and the text encoder where it has its own. Raises as
    `load_pipeline`."""
    base, place, own = folder.parent, folder.name, "text_encoder"
    parts = {
        "unet": _load_weights(
            base, place, ["diffusers", "UNet2DConditionModel"], variant_of(base, place, "unet")
        )
    }
    if (folder / own).is_dir():
        parts[own] = _load_weights(
            folder, own, ["transformers", "CLIPTextModel"], variant_of(folder, own, own)
        )
    return parts


def _load_weights(folder: Path, part: str, named: list[str], variant: str | None) -> Any:
    import transformers

    transformers.utils.logging.disable_progress_bar()
    kind = _class(folder, part, named)
    try:
        model, info = kind.from_pretrained(
            str(folder),
            subfolder=part,
            torch_dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
            variant=variant,
            output_loading_info=True,
        )
    except MemoryError:
        raise
    except Exception as error:  # diffusers, transformers and safetensors raise two dozen kinds
        raise _refusal(folder, part, error) from error
    missing = sorted(info["missing_keys"])
    if missing:  # the libraries would draw them at random
        raise InvalidInput(
            f"{folder} is not whole: the weights of its {part} lack {missing[0]} ({len(missing)} missing). "
            "Remedy: copy the folder once more from where the model came from.",
            "NOT_A_GENERATOR",
        )
    return model.eval()


def _load_projection(unet: Any, folder: Path) -> None:
    try:
        load_projection(unet, folder)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise _refusal(folder, PROJECTION_FOLDER, error) from error


def _load_scheduler(folder: Path, named: list[str]) -> Any:
    kind = _class(folder, "scheduler", named)
    try:
        return kind.from_pretrained(str(folder / "scheduler"), local_files_only=True)
    except Exception as error:  # a scheduler's constructor raises what it likes
        raise _refusal(folder, "scheduler", error) from error


def _class(folder: Path, part: str, named: list[str]) -> Any:
    """The class of a part, from diffusers or transformers alone: custom code is never run."""
    import diffusers
    import transformers

    library, name = named
    home = {"diffusers": diffusers, "transformers": transformers}.get(library)
    kind = getattr(home, str(name), None)
    if kind is None or not hasattr(kind, "from_pretrained"):
        raise InvalidInput(
            f"{folder} has a {part} of a class that is not known here ({library}.{name}). Remedy: name a class of "
            f"the installed diffusers or transformers in {INDEX}.",
            "NOT_A_GENERATOR",
        )
    return kind


def _refusal(folder: Path, part: str, error: BaseException) -> InvalidInput:
    words = " ".join(str(error).split())[:300]
    return InvalidInput(
        f"{folder} has a {part} that cannot be loaded ({type(error).__name__}: {words}). Remedy: copy the folder "
        f"{part} once more from where the model came from.",
        "NOT_A_GENERATOR",
    )


def check_finite(generator: Generator, prompt: str) -> None:
    """Look at every weight, those of the guide too, then draw one image of `prompt` in one step.

    Raises:
        InvalidInput: a weight or a pixel is not finite; names the part and the tensor.
    """
    pipe = generator.pipe
    for part in WEIGHTS:
        _check_weights(part, getattr(pipe, part))
    if generator.guide is not None:
        _check_weights("guide's unet", generator.guide.pipe.unet)
        _check_weights("guide's text_encoder", generator.guide.pipe.text_encoder)
    with torch.inference_mode():
        pixels = pipe(
            [prompt],
            num_inference_steps=1,
            guidance_scale=generator.default_guidance,
            generator=[torch.Generator().manual_seed(0)],
            output_type="pt",
        ).images
    if not bool(torch.isfinite(pixels).all()):
        raise InvalidInput(
            "The generator draws values that are not finite (NaN or infinity), though its weights are finite. "
            "Remedy: use the model as it was before its training diverged.",
            "NOT_FINITE",
        )


def _check_weights(part: str, module: torch.nn.Module) -> None:
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise InvalidInput(
                f"The {part} has weights that are not finite (NaN or infinity), {name} first. Remedy: use the "
                "model as it was before its training diverged.",
                "NOT_FINITE",
            )
