"""Sharpening of a generator's decoder, its latents and everything else untouched.

An autoencoder trained on pixels alone blurs what is fine and random: chromatin, granules, the tint of a cytoplasm. So
the decoder is trained on with a perceptual term (Johnson et al. 2016, arXiv 1603.08155), and against discriminators of
pixels and of features (`discriminator.py`). The features are of EfficientNet-Lite1 with ImageNet weights, or of a
network of the teaching half; no judge has the weights of either. A U-Net that was trained on the latents goes on with
the sharper decoder as it is.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL

from training.data.examples import load_examples
from training.data.splits import split_of
from training.evaluation.codec import autoencoder_folder
from training.loop.session import TrainingSession
from training.loop.training_loop import TrainingLoop
from training.pretraining.config import DecoderConfig
from training.pretraining.decoder_trainer import DecoderTrainer
from training.pretraining.drawn_latents import drawn_latents


def fit(config: DecoderConfig, session: TrainingSession) -> dict[str, float]:
    """Trains the decoder, resuming from the session's folder, and saves the VAE in its place."""
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)  # of the discriminator's first weights
    examples = split_of(load_examples(config.data, config.size, config.domain), config.split)
    drawn = None
    if config.drawn:
        drawn = drawn_latents(config.generator, examples, config.drawn, config.seed, session)
    trainer = DecoderTrainer(config, examples, session, drawn)
    result = TrainingLoop(
        trainer, session, "decoder", session.folder, config.steps, config.minutes, config.checkpoint_every
    ).run()  # its last checkpoint comes before the decoder that training began with is replaced
    trainer.ema.swap()
    replace(trainer.vae.to(torch.float16), autoencoder_folder(config.generator))
    return {"steps": result.steps, "seconds": result.seconds, "train_error_255": result.metrics["error_255"]}


def replace(vae: AutoencoderKL, folder: Path) -> None:
    """Writes the weights of `vae` in the place of those in `folder`: a process that is killed on the way leaves no file
    in half. The configuration stays, for sharpening changes nothing of it."""
    written = folder / ".writing"  # of one name, so that the next attempt takes away what a killed one left
    vae.save_pretrained(written, safe_serialization=True)
    for file in written.iterdir():
        if file.name == "config.json":
            file.unlink()
        else:
            file.replace(folder / file.name)
    written.rmdir()
