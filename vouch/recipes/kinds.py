"""The recipe of each kind of training."""

from __future__ import annotations

from collections.abc import Mapping

from vouch.recipes.adaptation import Adaptation
from vouch.recipes.alignment import Alignment
from vouch.recipes.base import Recipe
from vouch.recipes.concept import ConceptLearning
from vouch.recipes.evaluation import Evaluation
from vouch.recipes.pretraining import Pretraining
from vouch.recipes.reward import RewardTraining

RECIPES: Mapping[str, type[Recipe]] = {
    "pretrain": Pretraining,
    "reward": RewardTraining,
    "align": Alignment,
    "concept": ConceptLearning,
    "adapt": Adaptation,
    "evaluate": Evaluation,
}
