"""Pre-training: a miniature Stable Diffusion from a labelled image set.

Two phases, each checkpointed: the autoencoder on random crops, then text encoder and U-Net together on its latents.
The result is a plain diffusers folder, with ``vocabulary.json`` beside it.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL
from transformers import CLIPTokenizer

from training.data.examples import load_examples
from training.loop.session import TrainingSession
from training.pretraining.autoencoder import fit_vae
from training.pretraining.captioned import Captioned
from training.pretraining.config import PretrainConfig
from training.pretraining.denoiser import fit_denoiser
from training.pretraining.latents import encode_views
from training.pretraining.networks import Networks
from training.pretraining.whitening import whiten
from vouch.models.captions import Vocabulary


def fit(config: PretrainConfig, session: TrainingSession) -> dict[str, Any]:
    """Runs both phases, resuming from the session's folder, and writes `config.out`.

    Returns the figures that the model card quotes.
    """
    examples = load_examples(config.data, config.size, config.domain)
    held_out = config.held_out
    unseen = load_examples(held_out, config.size, config.domain) if held_out is not None else None
    return fit_images(config, examples, unseen, examples.vocabulary, session)


def fit_images(
    config: PretrainConfig,
    images: Captioned,
    unseen: Captioned | None,
    words: Vocabulary | CLIPTokenizer,
    session: TrainingSession,
) -> dict[str, Any]:
    """As `fit`, of images in memory.

    Args:
        unseen: choose the average's length and the step that is kept.
        words: the vocabulary that prompts have to stay in, or a tokenizer for any prompt.
    """
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    vae, vae_figures = _autoencoder(config, images, session)
    latents = encode_views(config, vae, images, session)
    networks = Networks(config, words, vae, latents.shape[-1], session.device)
    held_out = None
    if unseen is not None:
        once = config.model_copy(update={"views": 1})
        held_out = (unseen, encode_views(once, vae, unseen, session, "held-out-latents"))
    figures = fit_denoiser(config, networks, (images, latents), held_out, session)
    if not session.group.is_rank_zero:
        return {}
    networks.save(config)
    figures = {**vae_figures, **figures, "images": len(images)}
    session.note("figures.json", figures)
    return figures


def _autoencoder(
    config: PretrainConfig, examples: Captioned, session: TrainingSession
) -> tuple[AutoencoderKL, dict[str, float]]:
    """A trained one that is given, or one that is trained here; whitened on `examples` either way."""
    if config.vae is None:
        return fit_vae(config, examples, session)
    vae = AutoencoderKL.from_pretrained(str(config.vae), torch_dtype=torch.float32, use_safetensors=True)
    vae = vae.eval().requires_grad_(False).to(session.device, memory_format=torch.channels_last)
    whiten(vae, examples)
    return vae, {}
