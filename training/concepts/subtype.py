"""A sub-type head: tells a concept from the rest of its class, learned from a few hundred sub-labels."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from training.loop.device_placement import device_of
from vouch.models.networks.backbone import Backbone, fit_size, to_input
from vouch.models.networks.reward import RewardEnsemble

FOLDS = 5
STRENGTH = 0.003
"""Of the regularisation, as scikit-learn's C: there are more features than sub-labels."""


Sight = Callable[[torch.Tensor], torch.Tensor]
"""What a network sees in images [N, 3, S, S] in [-1, 1]: [N, D]."""


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


def learn_head(
    features: np.ndarray, concept: np.ndarray, seed: int, groups: Sequence[Hashable] | None = None
) -> Head:
    """A logistic regression on features [N, D] with bool [N]; at least two of each side. groups: whose image each is;
    a patient's images are then held out together."""
    together = groups is not None and len(set(groups)) < len(groups)
    number = min(FOLDS, *np.bincount(concept, minlength=2))
    kind = StratifiedGroupKFold if together else StratifiedKFold
    held_out = cross_val_predict(
        _classifier(),
        features,
        concept,
        groups=[str(group) for group in groups or ()] if together else None,
        cv=kind(number, shuffle=True, random_state=seed),
        method="predict_proba",
    )[:, 1]
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
    seen: Mapping[str, np.ndarray],
    labelled: torch.Tensor,
    concept: np.ndarray,
    seed: int,
    groups: Sequence[Hashable] | None = None,
) -> tuple[str, Head]:
    """The head upon the one of several networks' features [N, D] that tells held-out sub-labels apart best, with the
    network's name; `concept` and `groups` are of the rows `labelled`."""
    heads = {name: learn_head(features[labelled], concept, seed, groups) for name, features in seen.items()}
    return max(heads.items(), key=lambda named: named[1].auroc)


def sight(networks: Sequence[Backbone], size: int) -> Sight:
    """Mean and deviation of every channel of every block. The blocks before the last know more of a sub-type than the
    last, which has learned to forget all but its own labels."""
    return lambda images: _seen(networks, fit_size(images.to(device_of(networks[0])), size)).cpu()


def sight_of_reward(reward: RewardEnsemble) -> Sight:
    """What a reward's members see; of a backbone that they share its own features."""
    if reward.backbone is None:
        return sight([member.backbone for member in reward.members], reward.size)
    return lambda images: reward.look(fit_size(images, reward.size))


@torch.no_grad()
def features_of(see: Sight, images: torch.Tensor, batch: int = 128) -> np.ndarray:
    """What is seen in uint8 images [N, 3, H, W]: [N, D]."""
    parts = [see(to_input(images[i : i + batch], images.shape[-1])) for i in range(0, len(images), batch)]
    return torch.cat(parts).numpy()


def _seen(networks: Sequence[Backbone], inputs: torch.Tensor) -> torch.Tensor:
    features = []
    for network in networks:
        level = inputs
        for block in (network.stem, *network.blocks):
            level = block(level)
            features += [level.mean((2, 3)), level.flatten(2).std(2)]
    return torch.cat(features, 1)
