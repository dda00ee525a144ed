"""LoRA files as others write and read them: diffusers' own, kohya's, and PEFT's.

Inside vouch a LoRA is diffusers' file, with its strength in the weights: what a file says in `alpha`, or a
configuration in `lora_alpha`, is multiplied into them when it is read.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from vouch.errors import InvalidInput
from vouch.models.folders import check_generator_folder
from vouch.models.loading import load_pipeline
from vouch.models.pipelines import LORA_FILE

LoraForm = Literal["diffusers", "kohya", "peft"]
FORMS: tuple[str, ...] = get_args(LoraForm)
ADAPTER = "imported"
PARTS = ("unet", "text_encoder")
PEFT_PREFIX = "base_model.model."
PEFT_WEIGHTS, PEFT_CONFIG = "adapter_model.safetensors", "adapter_config.json"


def export_lora(folder: Path, out: Path, form: LoraForm) -> Path:
    """Writes the LoRA in `folder` (as vouch keeps it) in another form; where it lies now.

    kohya: one file, as its scripts, A1111 and ComfyUI read. peft: a folder for each part, as `PeftModel` loads.

    Raises:
        InvalidInput: the folder holds no LoRA.
    """
    path = folder / LORA_FILE
    if not path.is_file():
        raise InvalidInput(f"{folder.name} is no LoRA: it has no {LORA_FILE}.", "NO_LORA")
    weights = load_file(path)
    if form == "peft":
        return _write_peft(weights, out)
    out = out if out.suffix == ".safetensors" else out / LORA_FILE
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file(_kohya(weights) if form == "kohya" else weights, out, {"format": "pt"})
    return out


def import_lora(source: Path, base: Path, out: Path) -> None:
    """Writes a LoRA of any of the three forms, upon the diffusers folder `base`, as vouch keeps it.

    source: a file, or a folder that PEFT or diffusers wrote.

    Raises:
        InvalidInput: it cannot be read, or was not trained upon such a base.
    """
    check_generator_folder(base)
    weights, pipe = _read(source), load_pipeline(base)
    for part in PARTS:
        getattr(pipe, part).requires_grad_(False)
    try:
        pipe.load_lora_weights(dict(weights), adapter_name=ADAPTER)
    except Exception as error:  # diffusers and peft raise a dozen kinds
        words = " ".join(str(error).split())[:300]
        raise InvalidInput(
            f"{source.name} does not fit {base.name} ({type(error).__name__}: {words}). Name the base that it was "
            "trained upon.",
            "OTHER_BASE",
        ) from error
    layers = {part: _layers(getattr(pipe, part)) for part in PARTS}
    if not any(layers.values()):
        raise InvalidInput(
            f"{source.name} changes nothing of {base.name}: it is of another kind of model.", "OTHER_BASE"
        )
    out.mkdir(parents=True, exist_ok=True)
    named = {f"{part}_lora_layers": layer_weights for part, layer_weights in layers.items() if layer_weights}
    type(pipe).save_lora_weights(str(out), weight_name=LORA_FILE, **named)


def _layers(network: Any) -> dict[str, torch.Tensor]:
    """The LoRA of a network with its strength in the weights, in half precision."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import get_peft_model_state_dict

    if not getattr(network, "peft_config", None):
        return {}
    strengths = {
        name: module.scaling[ADAPTER]
        for name, module in network.named_modules()
        if isinstance(module, BaseTunerLayer) and ADAPTER in getattr(module, "scaling", {})
    }
    weights = get_peft_model_state_dict(network, adapter_name=ADAPTER)
    return {
        key: (weight * strengths[key.partition(".lora_")[0]] if ".lora_B." in key else weight)
        .half()
        .contiguous()
        for key, weight in weights.items()
    }


# ---- reading


def _read(source: Path) -> dict[str, torch.Tensor]:
    """Weights as diffusers' loader takes them."""
    if source.is_file():
        return _load(source)
    if (source / LORA_FILE).is_file():
        return _load(source / LORA_FILE)
    parts = [(part, source / part) for part in PARTS if (source / part / PEFT_WEIGHTS).is_file()]
    if (source / PEFT_WEIGHTS).is_file():
        parts = [("unet", source)]
    if not parts:
        raise InvalidInput(
            f"{source} holds no LoRA: neither {LORA_FILE} nor {PEFT_WEIGHTS}, there or in unet/.", "NO_LORA"
        )
    return {key: weight for part, folder in parts for key, weight in _peft(part, folder).items()}


def _load(path: Path) -> dict[str, torch.Tensor]:
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise InvalidInput(f"{path.name} cannot be read as safetensors: {error}.", "NO_LORA") from error


def _peft(part: str, folder: Path) -> dict[str, torch.Tensor]:
    """Of one part, with the strength of its configuration in the weights."""
    try:
        config = json.loads((folder / PEFT_CONFIG).read_text("utf-8"))
        rslora = config.get("use_rslora")
        weights = {
            key.removeprefix(PEFT_PREFIX): weight for key, weight in _load(folder / PEFT_WEIGHTS).items()
        }
        strengths = {key: _strength(key, config) for key in weights if ".lora_B." in key}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError, re.error) as error:
        raise InvalidInput(f"{folder} has no {PEFT_CONFIG} that says r and lora_alpha.", "NO_LORA") from error
    if rslora:
        raise InvalidInput(f"{folder}: rank-stabilised LoRA is not read.", "NO_LORA")
    return {f"{part}.{key}": weight * strengths.get(key, 1.0) for key, weight in weights.items()}


def _strength(key: str, config: Mapping[str, Any]) -> float:
    """What a configuration of PEFT scales a layer's weights by: its alpha ÷ its rank, of a pattern or of all layers."""
    from peft.utils.other import get_pattern_key

    layer = key.partition(".lora_")[0]
    ranks, alphas = config.get("rank_pattern") or {}, config.get("alpha_pattern") or {}
    rank = ranks.get(get_pattern_key(ranks, layer), config["r"])
    return float(alphas.get(get_pattern_key(alphas, layer), config["lora_alpha"])) / float(rank)


# ---- writing


def _kohya(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    from diffusers.utils.state_dict_utils import convert_state_dict_to_kohya

    named = convert_state_dict_to_kohya({_with_text_model(key): weight for key, weight in weights.items()})
    return {key.replace("lora_te1_", "lora_te_"): weight.contiguous() for key, weight in named.items()}


def _with_text_model(key: str) -> str:
    """kohya names CLIP's layers below text_model, which newer transformers leave out."""
    part, dot, rest = key.partition(".")
    return (
        f"{part}{dot}text_model.{rest}"
        if part == "text_encoder" and not rest.startswith("text_model")
        else key
    )


def _write_peft(weights: Mapping[str, torch.Tensor], out: Path) -> Path:
    for part in PARTS:
        own = {key.partition(".")[2]: weight for key, weight in weights.items() if key.startswith(f"{part}.")}
        if not own:
            continue
        (out / part).mkdir(parents=True, exist_ok=True)
        named = {f"{PEFT_PREFIX}{key}": weight.contiguous() for key, weight in own.items()}
        save_file(named, out / part / PEFT_WEIGHTS, {"format": "pt"})
        ranks = {key.partition(".lora_")[0]: len(weight) for key, weight in own.items() if ".lora_A." in key}
        rank = Counter(ranks.values()).most_common(1)[0][0]
        others = {f"^{layer}": own_rank for layer, own_rank in sorted(ranks.items()) if own_rank != rank}
        config = {
            "peft_type": "LORA", "r": rank, "lora_alpha": rank, "rank_pattern": others, "alpha_pattern": others,
            "target_modules": sorted(ranks), "bias": "none", "lora_dropout": 0.0, "inference_mode": True,
            "base_model_name_or_path": None, "task_type": None,
        }  # fmt: skip
        (out / part / PEFT_CONFIG).write_text(json.dumps(config, indent=1) + "\n")
    return out
