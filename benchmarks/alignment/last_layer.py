"""The last layer of the reward's heads, learned to the end: logistic regression that holds on to its parent.

A second learner for the benchmark of the queue. What it learns depends on the ratings alone, not on steps and batches,
and it takes a fiftieth of a second: so many repeats are possible that rng averages out.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch

from benchmarks.alignment.heads import HeadFeatures, Heads
from vouch.models.networks.reward import EnsembleScores

HOLD = 2.0
"""Weight of the squared distance to the parent, chosen for random choice on images of other seeds."""
ROUNDS = 6  # Newton's method needs no more


class LastLayer:
    """An ensemble whose verdict is the parent's logit plus a linear function of features, hidden layer and class.

    typical: images by which features are brought to one scale.
    """

    def __init__(self, heads: Heads, typical: HeadFeatures) -> None:
        self._heads = heads
        basis, _ = self._raw(typical)
        self._middle, self._width = basis.mean(1, keepdims=True), basis.std(1, keepdims=True) + 1e-4
        self._change: np.ndarray | None = None

    def fitted(self, seen: HeadFeatures, targets: torch.Tensor, *, steps: int, seed: int) -> LastLayer:
        """A new one that learned the verdicts targets[:, 0]; steps and seed mean nothing to it."""
        grown = copy.copy(self)
        basis, logits = self._basis(seen)
        wanted = targets[:, 0].numpy().astype(float)
        grown._change = np.stack(
            [_regress(b, o, wanted) for b, o in zip(basis, logits[:, :, 0], strict=True)]
        )
        return grown

    def score(self, seen: HeadFeatures) -> EnsembleScores:
        basis, logits = self._basis(seen)
        if self._change is not None:
            logits[:, :, 0] += np.einsum("knd,kd->kn", basis, self._change)
        found = _sigmoid(logits)
        mean = found.mean(0)
        criteria: Sequence[str] = self._heads.model.criteria
        named = {name: mean[:, 1 + number] for number, name in enumerate(criteria)}
        return EnsembleScores(mean[:, 0], found[:, :, 0].std(0), named)

    def _basis(self, seen: HeadFeatures) -> tuple[np.ndarray, np.ndarray]:
        """[K, N, B] and the parent's logits [K, N, 1 + criteria]."""
        raw, logits = self._raw(seen)
        scaled = 2 * (raw - self._middle) / self._width / np.sqrt(raw.shape[2])
        classes = np.broadcast_to(2 * seen.prompts.numpy(), (len(raw), *seen.prompts.shape))
        return np.concatenate([scaled, classes], axis=2), logits

    @torch.inference_mode()
    def _raw(self, seen: HeadFeatures) -> tuple[np.ndarray, np.ndarray]:
        hidden, logits = self._heads.hidden(seen)
        return torch.cat([seen.features, hidden], dim=2).double().numpy(), logits.double().numpy()


def _regress(basis: np.ndarray, offset: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The change of weights that is most likely by `wanted` [N] and a Gaussian prior about none (Newton's method)."""
    change = np.zeros(basis.shape[1])
    for _ in range(ROUNDS):
        said = _sigmoid(offset + basis @ change)
        slope = basis.T @ (said - wanted) + HOLD * change
        bend = (basis.T * (said * (1 - said))) @ basis + HOLD * np.eye(len(change))
        change -= np.linalg.solve(bend, slope)
    return change


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))
