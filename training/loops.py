"""Every training loop by the name of its kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from training import attributes, evaluate
from training.alignment.loop import AlignConfig
from training.alignment.loop import fit as align
from training.concepts.loop import ConceptConfig
from training.concepts.loop import fit as teach_concept
from training.pretraining.config import PretrainConfig
from training.pretraining.decoder import DecoderConfig
from training.pretraining.decoder import fit as sharpen
from training.pretraining.loop import fit as pretrain
from training.reward.loop import RewardConfig
from training.reward.loop import fit as teach_reward

LOOPS: dict[str, tuple[type[BaseModel], Callable[..., dict[str, Any]]]] = {
    "pretrain": (PretrainConfig, pretrain),
    "attributes": (attributes.AttributesConfig, attributes.fit),
    "decoder": (DecoderConfig, sharpen),
    "reward": (RewardConfig, teach_reward),
    "align": (AlignConfig, align),
    "concept": (ConceptConfig, teach_concept),
    "evaluate": (evaluate.EvaluateConfig, evaluate.fit),
}
SHARED = ("pretrain", "reward", "align", "concept")
"""Loops that several workers can share; of the others the leader alone does the work."""
