"""CLIP tokenizers with vocabularies of their own: of a few known words, or for any text."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from vouch.models.captions import Vocabulary, caption

MAX_TOKENS = 64
CLIP_TOKENS = 77
"""Tokens of a prompt in every Stable Diffusion."""
START, END = "<|startoftext|>", "<|endoftext|>"


def train_tokenizer(vocabulary: Vocabulary, max_tokens: int = MAX_TOKENS) -> CLIPTokenizer:
    """Byte-pair merges learned from every phrase of the vocabulary, so that each of its words is one token.

    Other words still tokenise, letter by letter, into tokens that were never trained; the service refuses them. The
    same vocabulary gives the same numbers in every process, for a resumed run and every worker to read the same words.
    """
    phrases = [caption(label) for label in vocabulary.labels]
    phrases += [
        caption("", {name: value}) for name, values in vocabulary.attributes.items() for value in values
    ]
    letters = sorted({*"abcdefghijklmnopqrstuvwxyz0123456789-,", *"".join(phrases)} - {" "})
    return _trained(phrases, letters, pre_tokenizers.Whitespace(), 8000, 1, max_tokens)


def train_open_tokenizer(
    sentences: Iterable[str], size: int = 2048, max_tokens: int = CLIP_TOKENS
) -> CLIPTokenizer:
    """Byte-pair merges learned from sentences, over the alphabet of bytes, as CLIP's own: any text becomes tokens that
    spell it, and what is frequent in the sentences becomes one. size: of the vocabulary, 512 of them bytes."""
    words = sorted(sentence.lower() for sentence in sentences)
    bytes_ = pre_tokenizers.ByteLevel.alphabet()
    return _trained(
        words, sorted(bytes_), CLIPTokenizer().backend_tokenizer.pre_tokenizer, size, 2, max_tokens
    )


def _trained(
    sentences: Iterable[str], letters: list[str], splits: Any, size: int, least: int, max_tokens: int
) -> CLIPTokenizer:
    """Merges of what occurs `least` times, over `letters`, within what `splits` (a pre-tokenizer) keeps together."""
    trained = Tokenizer(models.BPE(unk_token=END, end_of_word_suffix="</w>", continuing_subword_prefix=""))
    trained.pre_tokenizer = splits
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        # The trainer numbers the last letters of words as it meets them, in an order that differs from call to call,
        # and merges of equal count go by these numbers: so they are given.
        special_tokens=[START, END, *(f"{letter}</w>" for letter in letters)],
        end_of_word_suffix="</w>",
        min_frequency=least,
        initial_alphabet=letters,
        show_progress=False,
    )
    trained.train_from_iterator(sentences, trainer)
    model = json.loads(trained.to_str())["model"]
    merges = [tuple(pair) for pair in model["merges"]]
    return CLIPTokenizer(vocab=model["vocab"], merges=merges, model_max_length=max_tokens)
