"""A sub-type head: tells a concept from the rest of its class, learned from a few hundred sub-labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from vouch.networks.backbone import to_input
from vouch.networks.reward import RewardEnsemble

FOLDS = 5
STRENGTH = 0.01
"""Of the regularisation, as scikit-learn's C: there are more features than sub-labels."""


@dataclass(frozen=True)
class Head:
    """`accuracy` (mean of both sides) and `auroc` are of sub-labels that were held out in turn: for each fifth of them,
    of a head that learned from the others."""

    classifier: Any
    accuracy: float
    auroc: float

    def probability(self, features: np.ndarray) -> np.ndarray:
        """Of being the concept, [N]; features [N, D]."""
        return np.asarray(self.classifier.predict_proba(features)[:, 1])


def learn_head(features: np.ndarray, concept: np.ndarray, seed: int) -> Head:
    """A logistic regression on features [N, D] with bool [N]; at least two of each side."""
    folds = StratifiedKFold(min(FOLDS, *np.bincount(concept, minlength=2)), shuffle=True, random_state=seed)
    held_out = cross_val_predict(_classifier(), features, concept, cv=folds, method="predict_proba")[:, 1]
    return Head(
        _classifier().fit(features, concept),
        float(balanced_accuracy_score(concept, held_out > 0.5)),
        float(roc_auc_score(concept, held_out)),
    )


def _classifier() -> Any:
    return make_pipeline(
        StandardScaler(), LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=2000)
    )


@torch.no_grad()
def features_of(
    reward: RewardEnsemble, images: torch.Tensor, symmetric: bool, batch: int = 128
) -> np.ndarray:
    """What the backbones of the reward's members see in uint8 images [N, 3, H, W]: [N, D]. Of symmetric images the mean
    over flips and turns, which no expert would tell apart."""
    parts = [_seen(reward, images[i : i + batch], symmetric) for i in range(0, len(images), batch)]
    return torch.cat(parts).numpy()


def _seen(reward: RewardEnsemble, images: torch.Tensor, symmetric: bool) -> torch.Tensor:
    turned = [torch.rot90(images, turn, (2, 3)) for turn in range(4)] if symmetric else [images]
    views = [*turned, *(view.flip(3) for view in turned)] if symmetric else turned
    inputs = [to_input(view, reward.size) for view in views]
    return torch.stack([torch.cat([m.backbone(x) for m in reward.members], 1) for x in inputs]).mean(0)
