"""Every training loop by the name of its kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from training import align, attributes, concept, decoder, evaluate, pretrain, reward

LOOPS: dict[str, tuple[type[BaseModel], Callable[..., dict[str, Any]]]] = {
    "pretrain": (pretrain.PretrainConfig, pretrain.fit),
    "attributes": (attributes.AttributesConfig, attributes.fit),
    "decoder": (decoder.DecoderConfig, decoder.fit),
    "reward": (reward.RewardConfig, reward.fit),
    "align": (align.AlignConfig, align.fit),
    "concept": (concept.ConceptConfig, concept.fit),
    "evaluate": (evaluate.EvaluateConfig, evaluate.fit),
}
SHARED = ("pretrain", "reward", "align", "concept")
"""Loops that several workers can share; of the others the leader alone does the work."""
