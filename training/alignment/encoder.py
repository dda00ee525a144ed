"""Prompts as the U-Net reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


class Encoder:
    """A text encoder with its tokenizer. While nothing of it is trained, each prompt is encoded once."""

    def __init__(self, tokenizer: Any, network: Any) -> None:
        self._tokenizer, self.network = tokenizer, network
        self._known: dict[str, torch.Tensor] = {}

    @property
    def learns(self) -> bool:
        return any(parameter.requires_grad for parameter in self.network.parameters())

    def __call__(self, prompts: Sequence[str]) -> torch.Tensor:
        """[N, L, D]; with gradients where the encoder learns."""
        return self.encode(self.tokens(prompts)) if self.learns else self._remembered(prompts)

    def tokens(self, prompts: Sequence[str]) -> torch.Tensor:
        """int64 [N, L]."""
        tokens: torch.Tensor = self._tokenizer(
            list(prompts),
            padding="max_length",
            max_length=self._tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        return tokens

    def encode(self, tokens: torch.Tensor) -> torch.Tensor:
        encoded: torch.Tensor = self.network(tokens)[0]
        return encoded

    @torch.no_grad()
    def _remembered(self, prompts: Sequence[str]) -> torch.Tensor:
        for prompt in set(prompts) - set(self._known):
            self._known[prompt] = self.encode(self.tokens([prompt]))[0]
        return torch.stack([self._known[prompt] for prompt in prompts])
