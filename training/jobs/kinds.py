"""Every training loop by the name of its kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from training.adaptation.config import AdaptConfig
from training.adaptation.fit import fit as adapt
from training.alignment.config import AlignConfig
from training.alignment.fit import fit as align
from training.attributes import fit as attributes
from training.concepts.fit import ConceptConfig
from training.concepts.fit import fit as teach_concept
from training.evaluation import run as evaluate
from training.pretraining.config import DecoderConfig, PretrainConfig
from training.pretraining.decoder import fit as sharpen
from training.pretraining.fit import fit as pretrain
from training.reward.config import RewardConfig
from training.reward.fit import fit as teach_reward

LOOPS: dict[str, tuple[type[BaseModel], Callable[..., dict[str, Any]]]] = {
    "pretrain": (PretrainConfig, pretrain),
    "attributes": (attributes.AttributesConfig, attributes.fit),
    "decoder": (DecoderConfig, sharpen),
    "reward": (RewardConfig, teach_reward),
    "align": (AlignConfig, align),
    "concept": (ConceptConfig, teach_concept),
    "adapt": (AdaptConfig, adapt),
    "evaluate": (evaluate.EvaluateConfig, evaluate.fit),
}
SHARED = ("pretrain", "reward", "align", "concept", "adapt")
"""Loops that several workers can share; of the others rank zero alone does the work."""
