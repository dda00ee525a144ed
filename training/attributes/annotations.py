"""The annotations of a labelled image set as class indices."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from training.data.examples import Examples
from vouch.models.captions import Vocabulary
from vouch.models.networks.attributes import Recognition

NOT_ANNOTATED = -100
"""The class index that cross-entropy skips: an attribute that nobody annotated."""


class Annotations:
    """The annotations of a data set as class indices."""

    def __init__(self, examples: Examples, vocabulary: Vocabulary) -> None:
        self.labels = torch.tensor([vocabulary.labels.index(label) for label in examples.labels])
        self.attributes = {
            name: torch.tensor(
                [values.index(row[name]) if name in row else NOT_ANNOTATED for row in examples.attributes]
            )
            for name, values in vocabulary.attributes.items()
        }

    def loss(self, recognition: Recognition, rows: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of the label plus the mean over the attributes that were annotated."""
        total = F.cross_entropy(recognition.labels, self.labels[rows], label_smoothing=0.02)
        parts = []
        for name, logits in recognition.attributes.items():
            wanted = self.attributes[name][rows]
            if (wanted != NOT_ANNOTATED).any():
                parts.append(F.cross_entropy(logits, wanted, ignore_index=NOT_ANNOTATED))
        return total + torch.stack(parts).mean() if parts else total

    def accuracy(self, recognition: Recognition) -> dict[str, float]:
        """Share of right answers over all images, for the label and for each attribute."""
        shares = {"label": float((recognition.labels.argmax(1) == self.labels).float().mean())}
        for name, logits in recognition.attributes.items():
            known = self.attributes[name] != NOT_ANNOTATED
            if known.any():
                shares[name] = float((logits.argmax(1)[known] == self.attributes[name][known]).float().mean())
        return shares
