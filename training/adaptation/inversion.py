"""Textual inversion: new words are learned, and everything else stays (Gal et al. 2022, arXiv 2208.01618)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from training.adaptation.config import AdaptConfig
from training.adaptation.foundation import Foundation
from training.adaptation.tuning import Tuning, write_defaults
from training.adaptation.unet import save_whole
from vouch.errors import InvalidInput
from vouch.models.embeddings import LearnedWord, add_words, read_word, write_words

INVERSION_LR = 5e-3


class WordVectors:
    """The vectors of new words while they are learned; the other rows of the table stay as they are.

    keep_norm: every vector keeps the length that it began with, and its direction alone is learned: a longer one drowns
    the rest of the prompt.
    """

    def __init__(self, pipe: Any, words: Sequence[LearnedWord], keep_norm: bool) -> None:
        self.words = tuple(words)
        ids = add_words(pipe, words)
        pipe.text_encoder.requires_grad_(False)  # a larger table begins with learning
        self._table = pipe.text_encoder.get_input_embeddings()
        device = self._table.weight.device
        self._ids = torch.tensor(ids, device=device)
        begin = torch.cat([word.vectors for word in words]).to(device)
        self.rows = nn.Parameter(begin.clone())
        self._norms = begin.norm(dim=1, keepdim=True) if keep_norm else None
        # A parameter of its own: to train the table would be to keep gradients and moments of every word.
        self._hook = self._table.register_forward_hook(self._put_in)

    @property
    def vectors(self) -> torch.Tensor:
        """[all vectors, D], with gradients."""
        if self._norms is None:
            return self.rows
        return self.rows * (self._norms / self.rows.norm(dim=1, keepdim=True))

    def learned(self) -> list[LearnedWord]:
        """The words as they are now."""
        parts = self.vectors.detach().cpu().split([len(word.vectors) for word in self.words])
        return [LearnedWord(word.text, part) for word, part in zip(self.words, parts, strict=True)]

    @torch.no_grad()
    def keep(self) -> None:
        """Writes what was learned into the table; nothing is learned afterwards."""
        self._hook.remove()
        self._table.weight[self._ids] = self.vectors.to(self._table.weight)

    def _put_in(
        self, table: nn.Module, inputs: tuple[torch.Tensor, ...], embedded: torch.Tensor
    ) -> torch.Tensor:
        at = inputs[0][..., None] == self._ids
        new = (at.to(self.rows) @ self.vectors).to(embedded)
        return torch.where(at.any(-1, keepdim=True), new, embedded)


class InversionTuning(Tuning):
    """The recipe `text-inversion`."""

    def __init__(self, base: Foundation, config: AdaptConfig) -> None:
        super().__init__(base, config)
        pairs = config.inversion.pairs(config.token)
        self._alone = tuple(word for word, phrase in pairs if not phrase)
        self._word_of = {phrase.lower(): word for word, phrase in pairs if phrase}
        longest_first = sorted(self._word_of, key=len, reverse=True)
        self._phrases = re.compile(rf"\b({'|'.join(map(re.escape, longest_first))})\b", re.IGNORECASE)
        words = [self._first(word, phrase) for word, phrase in pairs]
        if config.embeddings is not None:
            words[0] = read_word(config.embeddings, pairs[0][0] if config.inversion.words else "")
            self._renamed(pairs[0], words[0].text)
        self.vectors = WordVectors(base.pipe, words, config.inversion.keep_norm)
        lr = INVERSION_LR if config.lr is None else config.lr
        decay = (
            {"weight_decay": 0.0} if config.inversion.keep_norm else {}
        )  # a length that is kept cannot decay
        self.groups = [{"params": [self.vectors.rows], "lr": lr, **decay}]

    def worded(self, caption: str) -> str:
        """With the new words in the place of their phrases; those of no phrase stand before it."""
        said = (
            self._phrases.sub(lambda found: self._word_of[found[0].lower()], caption)
            if self._word_of
            else caption
        )
        return " ".join([*self._alone, said]) if caption else caption

    def check_captions(self, captions: Iterable[str]) -> None:
        """Every word has to take the place of a phrase somewhere, or it would stay as it began."""
        if not self._word_of:
            return
        met = {found[0].lower() for caption in captions for found in self._phrases.finditer(caption)}
        for phrase, word in self._word_of.items():
            if phrase not in met:
                raise InvalidInput(
                    f"No training caption holds the phrase {phrase!r}, so the word {word} would not be learned. Name a "
                    "phrase of the captions in inversion.words, or the word alone to stand before every caption.",
                    "NO_PHRASE",
                )

    def embed(self, captions: Sequence[str]) -> torch.Tensor:
        return self.base.encode(list(captions))

    @contextmanager
    def as_base(self) -> Iterator[None]:
        """A prompt without a new word reads as ever."""
        yield

    def save(self, out: Path) -> None:
        """A whole diffusers folder that knows the words, with their files beside it. A folder of the words alone could
        not be learned upon later."""
        out.mkdir(parents=True, exist_ok=True)
        words = self.vectors.learned()
        self.vectors.keep()
        save_whole(self.base.pipe, out)
        write_words(words, out)
        write_defaults(self.base.defaults, out)

    def _first(self, word: str, phrase: str) -> LearnedWord:
        """The word as it begins: each vector as a token of `begins_as`, else of the phrase that it takes the place of,
        in turn."""
        pipe, settings = self.base.pipe, self.config.inversion
        like = settings.begins_as or phrase or "image"
        known = pipe.tokenizer(like, add_special_tokens=False).input_ids
        table = pipe.text_encoder.get_input_embeddings().weight.detach().float().cpu()
        return LearnedWord(word, torch.stack([table[known[n % len(known)]] for n in range(settings.vectors)]))

    def _renamed(self, pair: tuple[str, str], text: str) -> None:
        """A word that a file names takes the place of the one that the settings did not name."""
        self._alone = tuple(text if word == pair[0] else word for word in self._alone)
        self._word_of = {key: text if word == pair[0] else word for key, word in self._word_of.items()}
