"""What a model folder holds, read from its file names and JSON alone: no torch, no weights.

A folder that vouch cannot serve is refused here with the part that is wrong and the remedy, before anything starts.
The layout is the one of diffusers' `save_pretrained`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from vouch.errors import InvalidInput

INDEX = "model_index.json"
REWARD = "reward.json"
LORA_FILES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors", "adapter_config.json")
PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
CONFIGS = {
    "unet": "config.json",
    "vae": "config.json",
    "text_encoder": "config.json",
    "scheduler": "scheduler_config.json",
}
WEIGHTS = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
}
DRAWABLE = ("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline", "LatentConsistencyModelPipeline")
"""Pipeline classes whose parts are those of Stable Diffusion 1 and 2."""
WANTED = (
    "name a Stable Diffusion 1 or 2 folder (StableDiffusionPipeline), the only kind that vouch draws with"
)


def check_generator_folder(folder: Path) -> None:
    """Raises InvalidInput for a folder that is no Stable Diffusion 1 or 2 model, naming the part and the remedy."""
    index = _index(folder)
    _check_class(folder, index)
    for part in PARTS:
        _check_part(folder, index, part)
    _check_unet(folder)
    _check_tokenizer(folder)
    variants_of(folder)


def check_base_folder(folder: Path) -> Path:
    """The absolute path of a foundation model. Nothing is ever downloaded.

    Raises:
        InvalidInput: no such folder, or none that can be drawn with; says what to do.
    """
    path = folder.expanduser().resolve()
    if not path.exists():
        raise InvalidInput(
            f"There is no folder {folder}, and vouch downloads no model: fetch it where there is a network "
            f"(hf download {folder} --local-dir FOLDER), and name that folder.",
            "NO_BASE",
        )
    check_generator_folder(path)
    return path


def check_reward_folder(folder: Path) -> None:
    """Raises InvalidInput for a folder that is no reward model of vouch."""
    if (folder / INDEX).is_file():
        raise _refusal(folder, f"holds {INDEX}: it is a generator", "name it with --generator")
    if not (folder / REWARD).is_file():
        raise _refusal(
            folder,
            f"holds no {REWARD}: it is not the folder of a reward model",
            "name a folder that `vouch train reward` has made",
        )
    _json(folder, REWARD)


def variants_of(folder: Path) -> dict[str, str | None]:
    """The variant of weights that each part is loaded from: plain ones where there are any, else such as "fp16".

    Raises InvalidInput where a part has no safetensors weights, or lacks a shard.
    """
    return {part: variant_of(folder, part, part) for part in WEIGHTS}


def variant_of(folder: Path, place: str, part: str) -> str | None:
    """The variant of a `part`'s weights that lie in `folder`/`place`. Raises as `variants_of`."""
    return _preferred(_variants(folder, place, WEIGHTS[part]))


def _preferred(variants: set[str | None]) -> str | None:
    return None if None in variants else min(str(variant) for variant in variants)


# ---- the parts


def _index(folder: Path) -> dict[str, Any]:
    if folder.is_file():
        raise InvalidInput(
            f"{folder} is a single file. vouch loads diffusers folders: convert it with "
            "StableDiffusionPipeline.from_single_file(FILE).save_pretrained(FOLDER) and name that folder.",
            "NOT_A_GENERATOR",
        )
    if (folder / INDEX).is_file():
        return _json(folder, INDEX)
    if (folder / REWARD).is_file():
        raise _refusal(folder, f"holds {REWARD}: it is a reward model", "name it with --reward")
    if any((folder / name).is_file() for name in LORA_FILES):
        raise _refusal(
            folder,
            f"holds a LoRA alone and no {INDEX}",
            "name the whole diffusers folder, with the LoRA fused into it: pipe.load_lora_weights(LORA); "
            "pipe.fuse_lora(); pipe.unload_lora_weights(); pipe.save_pretrained(FOLDER)",
        )
    if any(folder.glob("*.safetensors")) or any(folder.glob("*.ckpt")):
        raise _refusal(
            folder,
            f"holds a checkpoint in a single file and no {INDEX}",
            "convert it with StableDiffusionPipeline.from_single_file(FILE).save_pretrained(FOLDER)",
        )
    inner = next((path.parent for path in sorted(folder.glob(f"*/{INDEX}"))), None)
    raise _refusal(
        folder,
        f"holds no {INDEX}: it is not the folder of a diffusers model",
        f"name {inner}, which is one" if inner else "name a folder that save_pretrained has made",
    )


def _check_class(folder: Path, index: dict[str, Any]) -> None:
    name = index.get("_class_name")
    if not isinstance(name, str):
        raise _refusal(
            folder, f"names no pipeline class of diffusers in {INDEX} (_class_name is {name!r:.80})", WANTED
        )
    if name not in DRAWABLE:
        kind = next((word for mark, word in _KINDS.items() if mark in name), "another kind of model")
        raise _refusal(folder, f"is {kind} ({name})", WANTED)


_KINDS = {
    "XL": "an SDXL model",
    "Inpaint": "an inpainting model",
    "Diffusion3": "a Stable Diffusion 3 model",
    "Flux": "a Flux model",
    "ControlNet": "a ControlNet model",
}


def _check_part(folder: Path, index: dict[str, Any], part: str) -> None:
    named = index.get(part)
    if not isinstance(named, list) or len(named) != 2 or not all(named):
        raise _refusal(
            folder, f"has no {part}: {INDEX} names none", "save the whole pipeline with save_pretrained"
        )
    if not (folder / part).is_dir():
        raise _refusal(
            folder, f"lacks the folder {part} that {INDEX} names", "copy it from where the model came from"
        )
    if part in CONFIGS:
        _json(folder, f"{part}/{CONFIGS[part]}")


def _check_unet(folder: Path) -> None:
    config = _json(folder, "unet/config.json")
    if config.get("addition_embed_type"):
        raise _refusal(folder, "has the unet of an SDXL model (addition_embed_type is set)", WANTED)
    latents = _json(folder, "vae/config.json").get("latent_channels", 4)
    channels = config.get("in_channels", 4)
    if channels != latents:
        kind = "an inpainting model's" if channels == 9 else "another kind of model's"
        raise _refusal(
            folder, f"has a unet that takes {channels} channels where {latents} are drawn: {kind}", WANTED
        )
    if not isinstance(config.get("sample_size"), int):
        raise _refusal(
            folder,
            f"does not say in unet/config.json how large it draws (sample_size is {config.get('sample_size')!r:.40})",
            "set sample_size to the latents' height, such as 64 for images of 512 pixels",
        )


def _check_tokenizer(folder: Path) -> None:
    names = {path.name for path in (folder / "tokenizer").iterdir()}
    if not names & {"tokenizer.json", "vocab.json", "spiece.model"}:
        raise _refusal(
            folder,
            "is not whole: its tokenizer has no vocabulary (vocab.json or tokenizer.json)",
            "copy the missing file from where the model came from",
        )


# ---- weights


def _variants(folder: Path, part: str, stem: str) -> set[str | None]:
    """Variants of which every file is there; None is the plain one."""
    names = {path.name for path in (folder / part).iterdir() if path.is_file()}
    whole = re.compile(rf"{stem}(?:\.([\w-]+))?\.safetensors")
    sharded = re.compile(rf"{stem}\.safetensors\.index(?:\.([\w-]+))?\.json")
    variants: set[str | None] = {
        match[1] for match in map(whole.fullmatch, names) if match and not _is_shard(match[1])
    }
    for match in filter(None, map(sharded.fullmatch, sorted(names))):
        _check_shards(folder, f"{part}/{match[0]}", names)
        variants.add(match[1])
    if variants:
        return variants
    pickles = sorted(name for name in names if name.endswith((".bin", ".ckpt", ".pt", ".msgpack", ".h5")))
    if pickles:
        raise _refusal(
            folder,
            f"has the weights of its {part} in {pickles[0]} alone, which vouch never loads",
            "convert them: from_pretrained(FOLDER).save_pretrained(NEW, safe_serialization=True)",
        )
    shards = sorted(name for name in names if name.endswith(".safetensors"))
    what = f"has {shards[0]} but no {stem}.safetensors.index.json" if shards else "has no weights"
    raise _refusal(
        folder, f"is not whole: its {part} {what}", "copy the missing file from where the model came from"
    )


def _is_shard(variant: str | None) -> bool:
    return variant is not None and bool(re.search(r"-\d{5}-of-\d{5}$", variant))


def _check_shards(folder: Path, index: str, names: set[str]) -> None:
    shards = _json(folder, index).get("weight_map", {})
    missing = sorted({str(name) for name in shards.values()} - names)
    if not shards or missing:
        raise _refusal(
            folder,
            f"is not whole: {index} names {missing[0] if missing else 'no file'}, which is not there",
            "copy the missing file from where the model came from",
        )


def _json(folder: Path, name: str) -> dict[str, Any]:
    try:
        value = json.loads((folder / name).read_text("utf-8"))
    except OSError as error:
        raise _refusal(
            folder, f"lacks {name} ({error.strerror})", "copy it from where the model came from"
        ) from error
    except ValueError as error:
        raise _refusal(
            folder, f"has a damaged {name}: it is not JSON", "copy it from where the model came from"
        ) from error
    if not isinstance(value, dict):
        raise _refusal(folder, f"has a damaged {name}: it holds no JSON object", "copy it once more")
    return value


def _refusal(folder: Path, what: str, remedy: str) -> InvalidInput:
    return InvalidInput(
        f"{folder} {what}. Remedy: {remedy}.",
        "NOT_A_REWARD_MODEL" if "--generator" in remedy else "NOT_A_GENERATOR",
    )
