"""A new word in a tokenizer and its text encoder: one token with a row of its own; nothing else changes."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import AddedToken
from torch import nn


class NewWord:
    """A word whose embedding is learned (textual inversion: Gal et al. 2022, arXiv 2208.01618), beginning as the word
    that it is a kind of. Every prompt without it encodes as before, to the last bit.

    `text` may be several words, such as "band neutrophil": together they become one token.
    """

    def __init__(self, tokenizer: Any, text_encoder: Any, text: str, like: str) -> None:
        known = tokenizer(like, add_special_tokens=False).input_ids
        tokenizer.add_tokens([AddedToken(text, single_word=True, normalized=True)])
        self.id: int = tokenizer.convert_tokens_to_ids(text)
        text_encoder.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        self._table = text_encoder.get_input_embeddings()
        self._table.weight.requires_grad_(False)
        self.row = nn.Parameter(self._table.weight[known].mean(0).clone())
        # A parameter of its own: to train the table would be to keep gradients and moments of every word.
        self._hook = self._table.register_forward_hook(self._put_in)

    def _put_in(
        self, table: nn.Module, inputs: tuple[torch.Tensor, ...], embedded: torch.Tensor
    ) -> torch.Tensor:
        return torch.where((inputs[0] == self.id)[..., None], self.row.to(embedded.device), embedded)

    def keep(self) -> None:
        """Writes what was learned into the table; nothing is learned afterwards."""
        self._hook.remove()
        with torch.no_grad():
            self._table.weight[self.id] = self.row
