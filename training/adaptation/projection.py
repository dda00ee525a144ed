"""Textual projection: another text encoder reads the prompts, and a projection brings its tokens into the U-Net's
space (Chambon et al. 2022, arXiv 2210.04133)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from training.adaptation.config import AdaptConfig
from training.adaptation.embeddings import EmbeddingCache
from training.adaptation.foundation import Foundation
from training.adaptation.tuning import Tuning, write_defaults
from training.adaptation.unet import save_whole
from vouch.errors import InvalidInput
from vouch.models.projection import HiddenProjection, new_projection, put_in, saved_apart
from vouch.models.text_encoders import UNUSED, load_text_encoder, width_of

PROJECTION_LR = 1e-3
NEUTRAL = ("", "an image", "a photo of one thing")
"""Prompts whose tokens tell how large the numbers are that the U-Net is used to."""


class ProjectionTuning(Tuning):
    """The recipe `text-projection`. U-Net and autoencoder stay as they are; the encoder too, unless it is tuned."""

    def __init__(self, base: Foundation, config: AdaptConfig) -> None:
        super().__init__(base, config)
        if config.encoder is None:
            raise InvalidInput(
                "Name the folder of a text encoder of transformers: --encoder FOLDER (setting encoder).",
                "NO_ENCODER",
            )
        pipe, scale = base.pipe, float(base.embed(NEUTRAL).std())
        tokenizer, network = load_text_encoder(config.encoder, config.projection.tokens)
        network.requires_grad_(False).to(base.device)
        self._before = (pipe.tokenizer, pipe.text_encoder, pipe.unet.encoder_hid_proj)
        projection = new_projection(pipe.unet, width_of(network), config.projection.hidden).to(base.device)
        self._now = (tokenizer, network, projection)
        self._embeddings = EmbeddingCache(base.encode)
        self._put(self._now)
        _scaled(projection, self.embed(NEUTRAL), scale)
        self.groups = [{"params": list(projection.parameters()), "lr": _rate(config.lr, PROJECTION_LR)}]
        if config.projection.tune_encoder:
            weights = [weight for name, weight in network.named_parameters() if not name.startswith(UNUSED)]
            for weight in weights:
                weight.requires_grad_(True)
            self.groups.append({"params": weights, "lr": _rate(config.text_lr, self.groups[0]["lr"] / 10)})

    def embed(self, captions: Sequence[str]) -> torch.Tensor:
        """[N, L, width of the encoder]: the U-Net itself projects them. Within `as_base`, what the base reads."""
        if self.base.pipe.text_encoder is self._before[1]:
            return self.base.embed(captions)
        if self.config.projection.tune_encoder:
            return self.base.encode(list(captions))
        return self._embeddings.embed(captions).to(self.base.device)

    @contextmanager
    def as_base(self) -> Iterator[None]:
        self._put(self._before)
        try:
            yield
        finally:
            self._put(self._now)

    def save(self, out: Path) -> None:
        """A whole diffusers folder; with a hidden layer its projection lies beside the parts that diffusers knows."""
        out.mkdir(parents=True, exist_ok=True)
        with saved_apart(self.base.pipe.unet, out):
            save_whole(self.base.pipe, out)
        write_defaults(self.base.defaults, out)

    def _put(self, parts: tuple[Any, Any, nn.Module | None]) -> None:
        """Makes the pipeline read prompts with these tokenizer, network and projection."""
        tokenizer, network, projection = parts
        self.base.pipe.register_modules(tokenizer=tokenizer, text_encoder=network)
        put_in(self.base.pipe.unet, projection)


@torch.no_grad()
def _scaled(projection: nn.Module, tokens: torch.Tensor, wanted: float) -> None:
    """Makes the projected tokens [N, L, width] as large as what the U-Net is used to read."""
    last = projection.second if isinstance(projection, HiddenProjection) else projection
    factor = wanted / max(float(projection(tokens).std()), 1e-6)
    last.weight *= factor
    last.bias *= factor


def _rate(given: float | None, otherwise: float) -> float:
    return otherwise if given is None else given
