"""The foundation model: a Stable Diffusion pipeline that learns, as training calls its parts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from training.adaptation.embeddings import EmbeddingCache
from training.data.augmentation import to_unit
from training.pretraining.precision import Precision, autocast
from vouch.errors import InvalidInput
from vouch.models.captions import Vocabulary
from vouch.models.defaults import Defaults
from vouch.models.pipelines import Generator, load_generator

PREDICTIONS = ("epsilon", "v_prediction", "sample")
ENCODED_AT_ONCE = 2**17
"""Pixels; more would take more memory than the training itself."""


class Foundation:
    """Parts, noise schedule and latents of any Stable Diffusion folder (1.x or 2.x, any text encoder).

    Everything computes on `device`; random numbers are drawn on the CPU, so that a GPU sees the same ones.

    Raises:
        InvalidInput: a folder that cannot be drawn with, or whose prediction is not understood.
    """

    def __init__(
        self, folder: Path, parent: Path | None = None, device: str = "cpu", precision: Precision = "float32"
    ) -> None:
        self.folder, self.device, self.precision = folder, device, precision
        self.generator: Generator = load_generator(parent or folder, folder, device)
        self.pipe: Any = self.generator.pipe
        self.prediction: str = self.pipe.scheduler.config.prediction_type
        if self.prediction not in PREDICTIONS:
            raise InvalidInput(
                f"{folder} predicts {self.prediction!r}; adapting knows {', '.join(PREDICTIONS)}."
            )
        for part in (self.pipe.unet, self.pipe.vae, self.pipe.text_encoder):
            part.requires_grad_(False)
        self.alphas: torch.Tensor = self.pipe.scheduler.alphas_cumprod.float().cpu()
        self._embeddings = EmbeddingCache(self.encode)

    @property
    def size(self) -> int:
        """Pixels a side."""
        return int(self.generator.width)

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The words that it learned, where it says so."""
        return self.generator.vocabulary

    @property
    def defaults(self) -> Defaults:
        """What it draws with when a request says nothing."""
        own = self.generator
        return Defaults(own.default_steps, own.default_guidance, own.default_options)

    def autocast(self) -> torch.autocast:
        """Mixed precision as the settings say."""
        return autocast(self.precision, self.device)

    @property
    def is_half(self) -> bool:
        """Whether matrix products run in bfloat16."""
        with self.autocast():
            return bool(torch.is_autocast_enabled(self.device))

    # ---- latents

    @torch.no_grad()
    def posterior(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and deviation [N, C, h, w] of the unscaled latents of uint8 images [N, 3, S, S]; float32, on the CPU."""
        means, deviations = [], []
        for batch in images.split(max(1, ENCODED_AT_ONCE // images.shape[-1] ** 2)):
            found = self.pipe.vae.encode(to_unit(batch).to(self.device)).latent_dist
            means.append(found.mean.float().cpu())
            deviations.append(found.std.float().cpu())
        return torch.cat(means), torch.cat(deviations)

    def scaled(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents of the autoencoder as the U-Net knows them."""
        config = self.pipe.vae.config
        return (latents - (config.get("shift_factor") or 0.0)) * config.scaling_factor

    def vae_digest(self) -> str:
        """SHA-256 of the autoencoder's weights."""
        hashed = hashlib.sha256()
        for name, tensor in sorted(self.pipe.vae.state_dict().items()):
            hashed.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
        return hashed.hexdigest()

    # ---- words

    def embed(self, captions: Sequence[str]) -> torch.Tensor:
        """[N, L, D], as the pipeline reads prompts; with gradients where the text encoder learns, else remembered."""
        if any(weight.requires_grad for weight in self.pipe.text_encoder.parameters()):
            return self.encode(list(captions))
        return self._embeddings.embed(captions).to(self.device)

    def encode(self, captions: list[str]) -> torch.Tensor:
        """[N, L, D] by the pipeline's own code: attention masks and tokens of many vectors are its concern."""
        encoded: torch.Tensor = self.pipe.encode_prompt(captions, self.device, 1, False)[0]
        return encoded
