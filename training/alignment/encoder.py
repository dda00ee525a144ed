"""Prompts as the U-Net reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from vouch.models.embeddings import spelled_out


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
        """int64 [N, L]. A word of several vectors is as many tokens."""
        tokens: torch.Tensor = self._tokenizer(
            spelled_out(prompts, self._tokenizer),
            padding="max_length",
            max_length=self._tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        return tokens

    def encode(self, tokens: torch.Tensor) -> torch.Tensor:
        masked = getattr(self.network.config, "use_attention_mask", False)
        options = {"attention_mask": tokens.ne(self._tokenizer.pad_token_id)} if masked else {}
        encoded: torch.Tensor = self.network(tokens, **options)[0]
        return encoded

    @torch.no_grad()
    def _remembered(self, prompts: Sequence[str]) -> torch.Tensor:
        for prompt in set(prompts) - set(self._known):
            self._known[prompt] = self.encode(self.tokens([prompt]))[0]
        return torch.stack([self._known[prompt] for prompt in prompts])
