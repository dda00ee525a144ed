"""A CLIP tokenizer with its own small vocabulary."""

from __future__ import annotations

import json

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from vouch.models.captions import Vocabulary, caption

MAX_TOKENS = 64
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
    trained = Tokenizer(models.BPE(unk_token=END, end_of_word_suffix="</w>", continuing_subword_prefix=""))
    trained.pre_tokenizer = pre_tokenizers.Whitespace()
    letters = sorted({*"abcdefghijklmnopqrstuvwxyz0123456789-,", *"".join(phrases)} - {" "})
    trainer = trainers.BpeTrainer(
        vocab_size=8000,
        # The trainer numbers the last letters of words as it meets them, in an order that differs from call to call,
        # and merges of equal count go by these numbers: so they are given.
        special_tokens=[START, END, *(f"{letter}</w>" for letter in letters)],
        end_of_word_suffix="</w>",
        min_frequency=1,
        initial_alphabet=letters,
        show_progress=False,
    )
    trained.train_from_iterator(phrases, trainer)
    model = json.loads(trained.to_str())["model"]
    merges = [tuple(pair) for pair in model["merges"]]
    return CLIPTokenizer(vocab=model["vocab"], merges=merges, model_max_length=max_tokens)
