"""The autoencoder of a latent diffusion model: trained on random crops, then whitened, then used to encode a data set.

The checklist of an expert decides what it must keep: granules and chromatin are two or three pixels wide, and what the
autoencoder takes away no later training can bring back.
"""

from __future__ import annotations

from diffusers import AutoencoderKL

from training.loop.session import TrainingSession
from training.loop.training_loop import TrainingLoop
from training.pretraining.autoencoder_trainer import AutoencoderTrainer
from training.pretraining.captioned import Captioned
from training.pretraining.config import PretrainConfig
from training.pretraining.whitening import whiten


def fit_vae(
    config: PretrainConfig, examples: Captioned, session: TrainingSession
) -> tuple[AutoencoderKL, dict[str, float]]:
    """Trains the autoencoder, resuming from the session's folder; returns it with averaged, whitened weights."""
    trainer = AutoencoderTrainer(config, examples, session)
    result = TrainingLoop(
        trainer, session, "autoencoder", session.folder / "vae", config.vae_steps, config.vae_minutes,
        config.checkpoint_every, metrics_prefix="vae_",
    ).run()  # fmt: skip
    trainer.ema.swap()
    vae = trainer.vae.eval().requires_grad_(False)
    whiten(vae, examples)
    return vae, {
        "vae_steps": result.steps,
        "vae_seconds": result.seconds,
        "vae_train_error_255": result.metrics["error_255"],
    }
