"""A recogniser of cell types and their morphological attributes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from vouch.models.captions import Vocabulary
from vouch.models.networks.backbone import Backbone


@dataclass(frozen=True)
class Recognition:
    """What the network says of N images.

    `labels` are logits [N, L] in the order of the vocabulary; `attributes` hold logits [N, V] each; `features` [N, D].
    """

    labels: torch.Tensor
    attributes: Mapping[str, torch.Tensor]
    features: torch.Tensor


class AttributeNet(nn.Module):
    """One backbone, one head for the label and one for each attribute."""

    def __init__(
        self, vocabulary: Vocabulary, size: int, widths: tuple[int, ...] = (32, 64, 128, 192)
    ) -> None:
        super().__init__()
        self.vocabulary, self.size, self.widths = vocabulary, size, widths
        self.backbone = Backbone(widths)
        self.label_head = nn.Linear(widths[-1], len(vocabulary.labels))
        self.attribute_heads = nn.ModuleDict(
            {name: nn.Linear(widths[-1], len(values)) for name, values in vocabulary.attributes.items()}
        )

    def forward(self, images: torch.Tensor) -> Recognition:
        """Images [N, 3, size, size] in [-1, 1]."""
        features = self.backbone(images)
        attributes = {name: head(features) for name, head in self.attribute_heads.items()}
        return Recognition(self.label_head(features), attributes, features)

    def save(self, folder: Path) -> None:
        """Writes ``attributes.safetensors`` (half precision), ``attributes.json`` and the vocabulary."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {
            k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in self.state_dict().items()
        }
        save_file(weights, folder / "attributes.safetensors")
        (folder / "attributes.json").write_text(json.dumps({"size": self.size, "widths": self.widths}))
        self.vocabulary.save(folder)

    @classmethod
    def load(cls, folder: Path) -> AttributeNet:
        """The network in single precision, in evaluation mode."""
        config = json.loads((folder / "attributes.json").read_text())
        vocabulary = Vocabulary.load(folder)
        assert vocabulary is not None
        net = cls(vocabulary, config["size"], tuple(config["widths"]))
        net.load_state_dict(load_file(folder / "attributes.safetensors"))
        return net.eval().requires_grad_(False).to(memory_format=torch.channels_last)
