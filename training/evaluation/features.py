"""What a picture is to a network: the spaces that distances are measured in, computed once of real images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from training.data.digest import digest_of
from vouch.errors import InvalidInput

BATCH = 64


@dataclass(frozen=True)
class Extractor:
    """A network's features: uint8 images [N, H, W, 3] to float32 [N, D]. `digest` is that of its files."""

    name: str
    digest: str
    features: Callable[[np.ndarray], np.ndarray]


def local_model(folder: Path) -> Extractor:
    """Any vision model of transformers in a local folder, such as DINOv2: its pooled output, else the first token.

    Nothing is downloaded and nothing unpickled.

    Raises:
        InvalidInput: no such model, weights that are not safetensors, or no word on how images are prepared.
    """
    from transformers import AutoImageProcessor, AutoModel

    try:
        prepare = AutoImageProcessor.from_pretrained(str(folder), local_files_only=True)
        model = AutoModel.from_pretrained(str(folder), local_files_only=True, use_safetensors=True)
    except (OSError, ValueError, KeyError) as error:
        raise InvalidInput(
            f"{folder} is not a vision model of transformers. Give a folder with config.json, model.safetensors and "
            f"preprocessor_config.json, such as a copy of DINOv2 ({str(error).splitlines()[0]})",
            "NO_FEATURES",
        ) from error
    model = model.eval().requires_grad_(False)
    return Extractor(Path(folder).name, digest_of(folder), lambda images: _in_batches(model, prepare, images))


def remembered(extractor: Extractor, images: np.ndarray, digest: str, cache: Path) -> np.ndarray:
    """The features of a data set with this digest, computed once for each extractor and kept in `cache`."""
    key = f"{digest} {extractor.digest} {images.shape}"
    kept = cache / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npy"
    if kept.is_file():
        return np.asarray(np.load(kept, allow_pickle=False))
    features = extractor.features(images)
    cache.mkdir(parents=True, exist_ok=True)
    with kept.with_suffix(".tmp").open("wb") as file:
        np.save(file, features)
    kept.with_suffix(".tmp").replace(kept)
    return features


@torch.inference_mode()
def _in_batches(model: Any, prepare: Any, images: np.ndarray) -> np.ndarray:
    parts = []
    for start in range(0, len(images), BATCH):
        output = model(**prepare(images=list(images[start : start + BATCH]), return_tensors="pt"))
        pooled = getattr(output, "pooler_output", None)
        parts.append((output.last_hidden_state[:, 0] if pooled is None else pooled).flatten(1).float())
    return torch.cat(parts).numpy()
