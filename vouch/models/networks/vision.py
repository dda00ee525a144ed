"""A vision model of `transformers` (DINOv2, RAD-DINO, ViT, ConvNeXt …) as the eye of a reward model."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from vouch.errors import InvalidInput
from vouch.models.networks.backbone import fit_size

PREPROCESSOR = "preprocessor_config.json"
Pool = Literal["pooler", "first", "mean"]


@dataclass(frozen=True)
class Looks:
    """How the model wants its images, and where its features are.

    `size` in pixels square; `mean` and `std` of the channels of images in [0, 1]; `pool` takes the model's own pooled
    output, the first token, or the mean over the places.
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pool: Pool

    @classmethod
    def of(cls, config: dict[str, Any]) -> Looks:
        return cls(config["size"], tuple(config["mean"]), tuple(config["std"]), config["pool"])


class VisionBackbone(nn.Module):
    """Images [N, 3, H, W] in [-1, 1] to features [N, `width`], resized and normalised as the model was taught."""

    def __init__(self, model: nn.Module, looks: Looks) -> None:
        super().__init__()
        self.model, self.looks = model, looks
        self.register_buffer("mean", torch.tensor(looks.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(looks.std).view(1, -1, 1, 1), persistent=False)
        with torch.no_grad():
            self.width = self(torch.zeros(1, 3, looks.size, looks.size)).shape[1]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        images = fit_size(images, self.looks.size)
        output = self.model(pixel_values=((images + 1) / 2 - self.mean) / self.std)
        return _pooled(output, self.looks.pool)

    def save(self, folder: Path) -> None:
        """Weights as safetensors and the model's own configuration: a folder that `transformers` reads."""
        self.model.save_pretrained(str(folder))

    @classmethod
    def load(cls, folder: Path, looks: Looks) -> VisionBackbone:
        """What `save` wrote."""
        return cls(_open(folder)[0], looks)

    @classmethod
    def open(cls, folder: Path) -> VisionBackbone:
        """A model folder from elsewhere. Nothing is fetched, unpickled or run that is not in `transformers`.

        Raises:
            InvalidInput: no folder, no model of images in it, weights that are not safetensors or not complete.
        """
        check_folder(folder)
        model, missing = _open(folder)
        if getattr(model, "main_input_name", "") != "pixel_values":
            raise InvalidInput(
                f"{folder} holds a {type(model).__name__}, which does not look at images alone: name a vision model, "
                "such as DINOv2.",
                "BAD_BACKBONE",
            )
        own = any(name.startswith("pooler") for name in missing)
        if rest := [name for name in missing if not name.startswith(("pooler", "embeddings.mask_token"))]:
            raise InvalidInput(
                f"{folder} lacks weights, {rest[0]} for one: copy the model whole.", "BAD_BACKBONE"
            )
        return cls(model, _looks(folder, model, pooler=not own))


def check_folder(folder: Path) -> None:
    """What can be said of a backbone before it is loaded. Raises InvalidInput."""
    if not folder.is_dir():
        raise InvalidInput(
            f"There is no folder {folder}: the backbone is the path of a vision model that was downloaded, with "
            "config.json and model.safetensors. Nothing is fetched.",
            "BAD_BACKBONE",
        )
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise InvalidInput(
            f"{folder} is not the folder of a transformers model: it needs config.json and weights as safetensors.",
            "BAD_BACKBONE",
        )


def looks_as_json(looks: Looks) -> dict[str, Any]:
    """For ``reward.json``."""
    return asdict(looks)


def _open(folder: Path) -> tuple[Any, list[str]]:
    """The model in single precision, and the weights that its folder lacks."""
    from transformers import AutoModel

    try:
        model, info = AutoModel.from_pretrained(
            str(folder),
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            dtype=torch.float32,
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise InvalidInput(
            f"transformers cannot open {folder}: {str(error).strip().splitlines()[0]}", "BAD_BACKBONE"
        ) from error
    return model.eval(), sorted(info["missing_keys"])


def _looks(folder: Path, model: Any, *, pooler: bool) -> Looks:
    """From the model's preprocessor, where there is one; else ImageNet's mean and deviation."""
    path = folder / PREPROCESSOR
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    size = config.get("crop_size" if config.get("do_center_crop") else "size") or getattr(
        model.config, "image_size", None
    )
    mean, std = (
        config.get("image_mean") or (0.485, 0.456, 0.406),
        config.get("image_std") or (0.229, 0.224, 0.225),
    )
    return Looks(_pixels(size), tuple(mean), tuple(std), _place(model, _pixels(size), pooler))


def _pixels(size: Any) -> int:
    """One number from what preprocessors write: 224, {"height": 224, …}, {"shortest_edge": 224}, [224, 224]."""
    if isinstance(size, dict):
        size = size.get("height") or size.get("shortest_edge")
    if isinstance(size, (list, tuple)):
        size = size[0]
    return int(size or 224)


@torch.no_grad()
def _place(model: Any, size: int, pooler: bool) -> Pool:
    output = model(pixel_values=torch.zeros(1, 3, size, size))
    if pooler and getattr(output, "pooler_output", None) is not None:
        return "pooler"
    return "first" if output.last_hidden_state.ndim == 3 else "mean"


def _pooled(output: Any, pool: Pool) -> torch.Tensor:
    if pool == "pooler":
        return output.pooler_output.flatten(1)
    if pool == "first":
        return output.last_hidden_state[:, 0]
    return output.last_hidden_state.mean((2, 3))
