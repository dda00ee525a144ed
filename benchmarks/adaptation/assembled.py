"""A generator that is kept as what an adaptation changed of the foundation model: a LoRA, and its autoencoder where
that was tuned. A twentieth of the whole is on disk; the rest is the foundation model of the checkout."""

from __future__ import annotations

import shutil
from pathlib import Path

from diffusers.utils import logging

from vouch.models.folders import INDEX
from vouch.models.loading import load_pipeline
from vouch.models.pipelines import LORA_FILE

FOUNDATION = Path(__file__).parent / "foundation"
BESIDE = ("vocabulary.json", "defaults.json")


def assembled(generator: Path, out: Path) -> Path:
    """The generator as a diffusers folder: `generator` itself if it is one, else `out`, which must not exist yet."""
    if (generator / INDEX).is_file():
        return generator
    shutil.copytree(FOUNDATION, out)
    if (generator / "vae").is_dir():
        shutil.copytree(generator / "vae", out / "vae", dirs_exist_ok=True)
    pipe = load_pipeline(out)
    logging.set_verbosity_error()  # diffusers warns of a LoRA that leaves the text encoder as it is
    pipe.load_lora_weights(str(generator), weight_name=LORA_FILE)
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    pipe.save_pretrained(str(out), safe_serialization=True)
    for name in BESIDE:
        if (generator / name).is_file():
            shutil.copyfile(generator / name, out / name)
    return out
