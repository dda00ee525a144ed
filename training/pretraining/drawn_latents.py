"""Latents that a generator draws, so that its decoder is sharpened on what it will be served with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from training.loop.session import TrainingSession
from training.pretraining.captioned import Captioned
from training.randomness import numbers
from vouch.errors import InvalidInput
from vouch.models.pipelines import Generator, load_generator

FIRST_SEED = 5_000_000
DRAWN_AT_ONCE = 128


def drawn_latents(
    generator: Path, examples: Captioned, count: int, seed: int, session: TrainingSession
) -> torch.Tensor:
    """float32 [count, C, h, w] as the decoder takes them, by the captions of the examples and default serving; kept in
    the run's folder.

    Raises:
        InvalidInput: the folder holds an autoencoder alone.
    """
    path = session.folder / f"drawn-{count}.npy"  # another number is drawn anew
    if not session.group.broadcast_scalar(path.is_file()):
        if not (generator / "model_index.json").is_file():
            raise InvalidInput(
                f"{generator} holds no U-Net to draw with. Name the whole diffusers folder, or leave drawn out."
            )
        if session.group.is_rank_zero:
            found = _drawn(load_generator(generator, device=session.device), examples, count, seed, session)
            with path.with_suffix(".tmp").open("wb") as file:
                np.save(file, found.half().numpy())
            path.with_suffix(".tmp").replace(path)
        session.group.broadcast_scalar(True)
    return torch.from_numpy(np.load(path, allow_pickle=False)).float()


def _drawn(
    generator: Generator, examples: Captioned, count: int, seed: int, session: TrainingSession
) -> torch.Tensor:
    rng, parts = numbers(seed, "drawn"), []
    prompts = [examples.caption(rng.randrange(len(examples)), rng) for _ in range(count)]
    served = generator.default_steps, generator.default_guidance, generator.default_options
    for start in range(0, count, DRAWN_AT_ONCE):
        session.report(start, count, "drawing latents")
        some = prompts[start : start + DRAWN_AT_ONCE]
        seeds = [FIRST_SEED + start + row for row in range(len(some))]
        parts.append(generator.latents(some, seeds, *served))
    return torch.cat(parts) / generator.pipe.vae.config.scaling_factor
