"""Text encoders of other kinds than CLIP: any of transformers, from a local folder, never downloaded or unpickled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from vouch.errors import InvalidInput

UNUSED = "pooler"
"""Weights of this part may be missing: prompts are read token by token."""

VOCABULARIES = (
    "tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model",
)  # fmt: skip


def load_text_encoder(folder: Path, tokens: int = 77) -> tuple[Any, Any]:
    """Tokenizer and network of a text encoder of transformers (BERT, RoBERTa, MPNet, T5, CLIP, …), in single precision.

    tokens: of a prompt; fewer where the network takes fewer. Padding is masked as the network was trained with, which
    its configuration says to diffusers by `use_attention_mask`.

    Raises:
        InvalidInput: no such encoder, weights that are no safetensors or not whole, or no token to pad with.
    """
    from transformers import AutoConfig, AutoTokenizer

    options = {"local_files_only": True}
    try:
        config = AutoConfig.from_pretrained(str(folder), **options)
        tokenizer = AutoTokenizer.from_pretrained(str(folder), **options)
        network, info = _class_of(config).from_pretrained(
            str(folder), torch_dtype=torch.float32, use_safetensors=True, output_loading_info=True, **options
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _refusal(
            folder, f"is none that can be loaded ({' '.join(str(error).split())[:200]})"
        ) from error
    if missing := sorted(name for name in info["missing_keys"] if not name.startswith(UNUSED)):
        raise _refusal(folder, f"is not whole: it lacks {missing[0]} ({len(missing)} missing)")
    _check_tokenizer(folder, tokenizer, network)
    if tokenizer.pad_token is None:
        raise _refusal(folder, "has no token to pad prompts with")
    tokenizer.model_max_length = min(tokens, tokenizer.model_max_length, _longest(network.config))
    if not network.config.model_type.startswith("clip"):
        network.config.use_attention_mask = True
    return tokenizer, network.eval()


def width_of(network: Any) -> int:
    """Values of each token that it reads."""
    config = network.config
    return int(getattr(config, "hidden_size", None) or config.d_model)


def _check_tokenizer(folder: Path, tokenizer: Any, network: Any) -> None:
    """transformers makes an empty tokenizer where it finds no vocabulary."""
    if not any((folder / name).is_file() for name in VOCABULARIES):
        raise _refusal(folder, f"has no vocabulary ({', '.join(VOCABULARIES[:3])}, …)")
    rows = network.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise _refusal(folder, f"has a tokenizer of {len(tokenizer)} tokens, and vectors of {rows}")


def _class_of(config: Any) -> Any:
    """The class that reads text alone."""
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES

    if config.model_type.startswith("clip"):
        return transformers.CLIPTextModel
    named = MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES.get(config.model_type)
    return getattr(transformers, named) if named else transformers.AutoModel


def _longest(config: Any) -> int:
    """Tokens that its table of positions holds, without those that RoBERTa skips; any number where it has none."""
    positions = getattr(config, "max_position_embeddings", None) or 1 << 20
    return int(positions) - (
        2 if config.model_type in ("roberta", "xlm-roberta", "camembert", "mpnet") else 0
    )


def _refusal(folder: Path, what: str) -> InvalidInput:
    return InvalidInput(
        f"The text encoder in {folder} {what}. Remedy: name a folder of transformers with config.json, "
        "model.safetensors and its tokenizer's files, such as a copy of a sentence encoder.",
        "NOT_AN_ENCODER",
    )
