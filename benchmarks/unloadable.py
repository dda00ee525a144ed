"""Model folders that cannot be served, each made from a starter model with one fault, and the part that is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from services.starter import STARTER

UNET = "unet/diffusion_pytorch_model.safetensors"


def _copy(folder: Path, kind: str = "generator") -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(STARTER / kind, folder)
    return folder


def _changed(name: str, **values: Any) -> Callable[[Path], Path]:
    """A copy of which one JSON file has other values."""

    def make(folder: Path) -> Path:
        path = _copy(folder) / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
        return folder

    return make


def _weights(
    name: str, change: Callable[[dict[str, Any]], Any], kind: str = "generator"
) -> Callable[[Path], Path]:
    """A copy of which one file of weights was changed."""

    def make(folder: Path) -> Path:
        from safetensors.torch import load_file, save_file

        path = _copy(folder, kind) / name
        weights = load_file(str(path))
        change(weights)
        save_file(weights, str(path), metadata={"format": "pt"})
        return folder

    return make


def _without(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = _copy(folder) / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        return folder

    return make


def _lora(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "pytorch_lora_weights.safetensors").write_bytes(b"\0" * 64)
    return folder


def _cut(folder: Path) -> Path:
    path = _copy(folder) / UNET
    path.write_bytes(path.read_bytes()[:4096])
    return folder


def _pickled(folder: Path) -> Path:
    path = _copy(folder) / UNET
    path.rename(path.with_name("diffusion_pytorch_model.bin"))
    return folder


def _spoil(weights: dict[str, Any]) -> None:
    next(one for one in weights.values() if one.is_floating_point()).fill_(float("nan"))


UNLOADABLE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "SDXL": (_changed("model_index.json", _class_name="StableDiffusionXLPipeline"), "SDXL"),
    "inpainting": (_changed("unet/config.json", in_channels=9), "inpainting"),
    "LoRA only": (_lora, "LoRA"),
    "pickled weights": (_pickled, "unet"),
    "missing part": (_without("vae"), "vae"),
    "missing scheduler file": (_without("scheduler/scheduler_config.json"), "scheduler"),
    "unbuildable scheduler": (_changed("scheduler/scheduler_config.json", beta_schedule="none"), "scheduler"),
    "unknown scheduler": (_changed("model_index.json", scheduler=["diffusers", "NoScheduler"]), "scheduler"),
    "missing tensor": (_weights(UNET, lambda weights: weights.popitem()), "unet"),
    "truncated weights": (_cut, "unet"),
    "weights that are not finite": (_weights(UNET, _spoil), "unet"),
    "reward weights that are not finite": (_weights("reward.safetensors", _spoil, "reward"), "reward"),
}
"""Name -> (makes the folder, the word that a refusal must contain)."""
