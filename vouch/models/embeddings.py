"""New words of a text encoder, in the files of textual inversion (Gal et al. 2022, arXiv 2208.01618).

A word may have several vectors: the pipeline then reads `<word>` as `<word> <word>_1 <word>_2`, as diffusers does.
Files are safetensors with one word each, as diffusers' `load_textual_inversion` reads them; those of the Automatic1111
web UI are read too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from vouch.errors import AlreadyExists, InvalidInput

EMBEDDINGS_FILE = "learned_embeds.safetensors"
_WEB_UI = "emb_params"
_WORD = re.compile(r"[^\sA-Z]{1,64}")


@dataclass(frozen=True, eq=False)
class LearnedWord:
    """A word and its vectors, float32 [n, D]. Example: ``LearnedWord("<chest-xray>", torch.zeros(4, 768))``."""

    text: str
    vectors: torch.Tensor

    def __post_init__(self) -> None:
        if not _WORD.fullmatch(self.text):
            raise InvalidInput(
                f"{self.text!r} cannot be a new word: write it without spaces and capitals, at most 64 characters, "
                "such as <chest-xray>. A text encoder reads capitals as small letters.",
                "BAD_WORD",
            )
        if self.vectors.ndim != 2 or not len(self.vectors):
            raise InvalidInput(
                f"{self.text} has an embedding of shape {tuple(self.vectors.shape)}; it should be vectors × width.",
                "BAD_WORD",
            )

    @property
    def tokens(self) -> tuple[str, ...]:
        """The tokens of its vectors, as diffusers names them."""
        return (self.text, *(f"{self.text}_{number}" for number in range(1, len(self.vectors))))


def read_word(path: Path, text: str = "") -> LearnedWord:
    """The word in a file. text: what it shall be called; default: as the file says, or is named.

    Raises:
        InvalidInput: no such file, pickled weights, or another kind of file.
    """
    if path.suffix != ".safetensors":
        raise InvalidInput(
            f"{path.name} is no safetensors file, and vouch never unpickles. Remedy: load it with torch elsewhere and "
            "save the one tensor with safetensors.torch.save_file({TOKEN: VECTORS}, FILE).",
            "NOT_AN_EMBEDDING",
        )
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InvalidInput(
            f"{path.name} cannot be read ({error}). Name a file such as {EMBEDDINGS_FILE}.",
            "NOT_AN_EMBEDDING",
        ) from error
    if len(tensors) != 1:
        raise InvalidInput(
            f"{path.name} holds {len(tensors)} tensors ({', '.join(sorted(tensors)[:3])}, …). A file of textual "
            "inversion for Stable Diffusion 1 and 2 holds one; two are for an SDXL model.",
            "NOT_AN_EMBEDDING",
        )
    ((key, vectors),) = tensors.items()
    own = path.stem.lower() if key == _WEB_UI else key
    return LearnedWord(text or own, vectors.float().reshape(-1, vectors.shape[-1]))


def write_word(word: LearnedWord, path: Path) -> None:
    """Writes it as diffusers' own script does: the vectors under the word's name."""
    save_file({word.text: word.vectors.detach().cpu().contiguous().clone()}, path, {"format": "pt"})


def write_words(words: Sequence[LearnedWord], folder: Path) -> None:
    """One word as ``learned_embeds.safetensors``; several as ``learned_embeds-<word>.safetensors`` each, because
    diffusers reads one word from a file."""
    stem, ending = EMBEDDINGS_FILE.split(".")
    for word in words:
        name = re.sub(r"[^a-z0-9]+", "-", word.text).strip("-")
        write_word(word, folder / (EMBEDDINGS_FILE if len(words) == 1 else f"{stem}-{name}.{ending}"))


def add_words(pipe: Any, words: Sequence[LearnedWord]) -> list[int]:
    """Teaches a pipeline new words; every prompt without them encodes as before. Returns the ids of their tokens, in
    the order of their vectors.

    Raises:
        AlreadyExists: the tokenizer knows the word.
        InvalidInput: vectors of another width than its text encoder's.
    """
    width = pipe.text_encoder.get_input_embeddings().weight.shape[1]
    for word in words:
        if known := sorted(set(word.tokens) & set(pipe.tokenizer.get_vocab())):
            raise AlreadyExists(
                f"The text encoder knows the word {known[0]} already: choose another one.", "KNOWN_WORD"
            )
        if word.vectors.shape[1] != width:
            raise InvalidInput(
                f"The vectors of {word.text} have {word.vectors.shape[1]} values, those of this text encoder {width}: "
                "it was learned for another model.",
                "BAD_WORD",
            )
        pipe.load_textual_inversion({word.text: word.vectors})
    return [pipe.tokenizer.convert_tokens_to_ids(token) for word in words for token in word.tokens]


def spelled_out(prompts: Sequence[str], tokenizer: Any) -> list[str]:
    """Prompts with the tokens of every vector in the place of a word that has several, as the pipeline reads them."""
    from diffusers.loaders import TextualInversionLoaderMixin

    converted: list[str] = TextualInversionLoaderMixin().maybe_convert_prompt(list(prompts), tokenizer)
    return converted
