"""A sub-type head: tells a concept from the rest of its class, learned from a few hundred sub-labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from vouch.networks.backbone import Backbone, to_input

FOLDS = 5
STRENGTH = 0.003
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


def best_head(
    seen: Mapping[str, np.ndarray], told: torch.Tensor, concept: np.ndarray, seed: int
) -> tuple[str, Head]:
    """The head upon the one of several networks' features [N, D] that tells held-out sub-labels apart best, with the
    network's name; `concept` is of the rows `told`."""
    heads = {name: learn_head(features[told], concept, seed) for name, features in seen.items()}
    return max(heads.items(), key=lambda named: named[1].auroc)


@torch.no_grad()
def features_of(
    networks: Sequence[Backbone], size: int, images: torch.Tensor, batch: int = 128
) -> np.ndarray:
    """What networks see in uint8 images [N, 3, H, W]: mean and deviation of every channel of every block, [N, D]. The
    blocks before the last know more of a sub-type than the last, which has learned to forget all but its own labels."""
    parts = [_seen(networks, to_input(images[i : i + batch], size)) for i in range(0, len(images), batch)]
    return torch.cat(parts).numpy()


def _seen(networks: Sequence[Backbone], inputs: torch.Tensor) -> torch.Tensor:
    found = []
    for network in networks:
        level = inputs
        for block in (network.stem, *network.blocks):
            level = block(level)
            found += [level.mean((2, 3)), level.flatten(2).std(2)]
    return torch.cat(found, 1)
