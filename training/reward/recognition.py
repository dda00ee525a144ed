"""Recognition of classes and attributes of real images, beside the reward's own task: these annotations teach a
backbone more than a verdict of one bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from vouch.models.captions import Vocabulary

LABEL = "label"
UNKNOWN = -100
"""The index that cross-entropy skips."""

Facts = Mapping[str, str]
"""What is annotated of an image: its class as ``label``, its attributes by name; empty where nothing is."""


def indices(facts: Sequence[Facts], vocabulary: Vocabulary) -> dict[str, torch.Tensor]:
    """For each word list of the vocabulary, which of its words hold of the images: [N], `UNKNOWN` where none does."""
    return {
        name: torch.tensor([words.index(f[name]) if f.get(name) in words else UNKNOWN for f in facts])
        for name, words in _words(vocabulary).items()
    }


class Recognisers(nn.Module):
    """For each member, heads upon its features [N, width]. They are not kept with the reward."""

    def __init__(self, vocabulary: Vocabulary, width: int, members: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.ModuleDict({name: nn.Linear(width, len(words)) for name, words in _words(vocabulary).items()})
            for _ in range(members)
        )

    def parts(self) -> list[nn.Module]:
        """Every head, which is asked alone."""
        return [head for heads in self.heads for head in heads.values()]

    def loss(self, member: int, features: torch.Tensor, wanted: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Cross-entropy of the class plus its mean over the attributes that are annotated; 0 where nothing is."""
        heads = self.heads[member]
        losses = {
            name: F.cross_entropy(heads[name](features), rows, ignore_index=UNKNOWN)
            for name, rows in wanted.items()
            if (rows != UNKNOWN).any()
        }
        label = losses.pop(LABEL, features.new_zeros(()))
        return label + (torch.stack(list(losses.values())).mean() if losses else 0.0)


def _words(vocabulary: Vocabulary) -> dict[str, tuple[str, ...]]:
    return {LABEL: vocabulary.labels, **vocabulary.attributes}
