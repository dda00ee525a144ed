"""A generator that is kept as what an adaptation changed of the foundation model: a LoRA, and its autoencoder where
that was tuned. The rest is the foundation model of the checkout."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from vouch.models.folders import INDEX
from vouch.models.pipelines import adapt, load_generator

FOUNDATION = Path(__file__).parent / "foundation"
BESIDE = ("vocabulary.json", "defaults.json")


def assembled(generator: Path, out: Path) -> Path:
    """The generator as a diffusers folder: `generator` itself if it is one, else `out`, which must not exist yet."""
    if (generator / INDEX).is_file():
        return generator
    shutil.copytree(FOUNDATION, out)
    if (generator / "vae").is_dir():
        shutil.copytree(generator / "vae", out / "vae", dirs_exist_ok=True)
    # diffusers warns of a LoRA that leaves the text encoder as it is
    logging.getLogger("diffusers.loaders.lora_base").setLevel(logging.ERROR)
    pipe = adapt(load_generator(out), generator).pipe
    pipe.save_pretrained(str(out), safe_serialization=True)
    for name in BESIDE:
        if (generator / name).is_file():
            shutil.copyfile(generator / name, out / name)
    return out
